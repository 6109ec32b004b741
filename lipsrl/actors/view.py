"""What the policy receives of raw observations, and the raw observation that makes it receive something else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lipsrl._validation import lookup
from lipsrl.actors.frames import FrameStack, check_frames
from lipsrl.actors.normalization import ObservationChain

FloatArray = NDArray[np.floating[Any]]

#: in what the budget is counted: what the policy receives, or what the sensors give
UNITS = ("normalized", "raw")

#: One of those, or a unit for each sensor (its tolerance), raw.
Units: TypeAlias = str | ArrayLike


def check_units(units: Units) -> str | tuple[float, ...]:
    """``units`` as a name, or as numbers > 0.

    Raises:
        ValueError: an unknown name (the nearest is suggested), or something else.
    """
    if isinstance(units, str):
        return lookup("units", units, dict(zip(UNITS, UNITS, strict=True)))
    try:
        found = np.asarray(units, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.zeros(0)
    if found.ndim != 1 or not len(found) or not (np.isfinite(found) & (found > 0)).all():
        raise ValueError(
            f"units must be 'normalized', 'raw' or one finite number > 0 per sensor, received {units!r}."
        )
    return tuple(found.tolist())


@dataclass(frozen=True, eq=False)
class View:
    """The map ``o ↦ clip((o - mean)·gain, ±clip)`` of VecNormalize with displacements in the budget's unit.

    Everything is float64 and frozen. Without a VecNormalize the map is the identity and the units agree. Behind a
    frame stack it is the map of the newest frame, the only one that can still be displaced; :class:`Shown` keeps the
    others.

    Attributes:
        mean, gain: (dim,).
        clip: in normalised units; infinite if there is none.
        raw: displacements are of raw observations; otherwise of what the policy receives.
        unit: (dim,) raw displacement of each sensor that counts as 1; ones unless it was given.
        frames: observations in what the policy receives.
        one_by_one: frames are normalised before they are stacked; otherwise the stack is.
        older_mean, older_gain: ((frames - 1)·dim,) of the earlier frames.
    """

    mean: FloatArray
    gain: FloatArray
    clip: float
    raw: bool
    unit: FloatArray
    frames: int
    one_by_one: bool
    older_mean: FloatArray
    older_gain: FloatArray

    @classmethod
    def of(cls, chain: ObservationChain, size: int, units: Units) -> View:
        """Copy the statistics.

        Args:
            size: length of what the policy receives.
            units: of displacements, see :func:`check_units`.

        Raises:
            ValueError: the statistics or the units are of another length, or not finite; or ``size`` is no multiple of
                the frames.
        """
        units = check_units(units)
        frames = chain.frames
        check_frames(frames, size)
        mean, gain, clip = chain.gains(size)
        # copied: the statistics of a VecNormalize that trains on may change in place
        (older_mean, mean), (older_gain, gain) = (
            np.split(a.copy(), [size - size // frames]) for a in (mean, gain)
        )
        unit = np.ones_like(gain) if isinstance(units, str) else np.array(units)
        if unit.shape != gain.shape:
            raise ValueError(f"units must be {len(gain)} numbers, one per sensor, received {len(unit)}.")
        one_by_one = chain.one_by_one(mean.shape)
        return cls(
            mean,
            gain,
            float(clip[0]),
            units != "normalized",
            unit,
            frames,
            one_by_one,
            older_mean,
            older_gain,
        )

    @property
    def dim(self) -> int:
        """Length of an observation, one frame."""
        return len(self.mean)

    @property
    def slope(self) -> FloatArray:
        """(dim,) what the policy sees, before the clip, of a displacement by 1."""
        return self.gain * self.unit if self.raw else np.ones_like(self.gain)

    def received(self, observations: FloatArray) -> FloatArray:
        """(n, dim) raw → what the policy receives of them as its newest frame."""
        return np.clip((observations.astype(np.float64) - self.mean) * self.gain, -self.clip, self.clip)

    def centre(self, observations: FloatArray) -> FloatArray:
        """(n, dim) raw → where the budget's ball is centred, in policy units.

        A displacement δ makes the policy receive ``clip(centre + slope·δ, ±clip)``. A budget in normalised units
        is around what the policy receives; one in raw units around the raw observation, which may lie outside
        the clip.
        """
        if not self.raw:
            return self.received(observations)
        return (observations.astype(np.float64) - self.mean) * self.gain

    def visible(self, centre: FloatArray, displacements: FloatArray) -> FloatArray:
        """Displacements (n, dim) cut off at the clip, beyond which the policy sees nothing; raw ones as they are."""
        if self.raw:
            return displacements
        return np.clip(displacements, -self.clip - centre, self.clip - centre)

    def displaced(self, observations: FloatArray, displacements: FloatArray) -> FloatArray:
        """The raw observations (n, dim), in the dtype that came, that show the policy these displacements.

        Each coordinate is rounded towards the true one, so that rounding never leaves the budget. Coordinates
        that the policy would not see move stay as they are, bit for bit.
        """
        if self.raw:
            return _add_inwards(observations, observations, displacements * self.unit)
        visible = self.visible(self.centre(observations), displacements)
        reach = self.clip / self.gain
        base = np.clip(observations, self.mean - reach, self.mean + reach)
        return _add_inwards(observations, base, visible / self.gain)


class Shown:
    """What ``n`` streams of a policy were shown before, in their episode; nothing where it sees one frame.

    Zeros stand before an episode's first frame, as in SB3's VecFrameStack: behind the normalisation where that is of
    single frames, before it where it is of the stack.
    """

    def __init__(self, view: View, n: int) -> None:
        self._view = view
        self._stack = FrameStack(n, (view.dim,), view.frames)

    def begin(self, rows: Any) -> None:
        """The next observation of the streams in ``rows`` is the first one of an episode."""
        self._stack.begin(rows)

    def past(self, rows: Any) -> FloatArray:
        """(len(rows), (frames - 1)·dim) what the policy receives of the earlier frames at the next observation."""
        view, older = self._view, self._stack.older(rows)
        return (
            older
            if view.one_by_one
            else np.clip((older - view.older_mean) * view.older_gain, -view.clip, view.clip)
        )

    def seen(self, observations: FloatArray, rows: Any) -> FloatArray:
        """(len(rows), frames·dim) what the policy receives where these (len(rows), dim) are the next, raw."""
        return np.concatenate([self.past(rows), self._view.received(observations)], axis=1)

    def show(self, observations: FloatArray, rows: Any) -> None:
        """These (len(rows), dim) were the next, raw."""
        self._stack.push(self._view.received(observations) if self._view.one_by_one else observations, rows)


def _add_inwards(observations: FloatArray, base: FloatArray, steps: FloatArray) -> FloatArray:
    """``base + steps`` in the dtype of ``observations``, rounded towards ``base``.

    No coordinate moves farther than its step, as far as float64 can tell. Where no number of that dtype is so
    near, and where a step is 0, it is the observation's own.
    """
    wide = np.promote_types(observations.dtype, np.float64)
    base, steps = base.astype(wide), steps.astype(wide)
    with np.errstate(over="ignore"):  # a sum above the dtype's range is infinite, and one step inwards is not
        moved = (base + steps).astype(observations.dtype)
        beyond = np.abs(moved.astype(wide) - base) > np.abs(steps)
        inwards = np.nextafter(moved, base.astype(observations.dtype))
    moved = np.where(beyond, inwards, moved)
    beyond = np.abs(moved.astype(wide) - base) > np.abs(steps)
    return np.where(beyond | (steps == 0), observations, moved)
