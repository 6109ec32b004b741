"""What the policy receives of a raw observation, and the raw observation that makes it receive something else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecNormalize

from lipsrl.actors.normalization import check_dimension, observation_gains

FloatArray = NDArray[np.floating[Any]]

#: in what the budget is counted: what the policy receives, or what the sensors give
UNITS = ("normalized", "raw")


@dataclass(frozen=True, eq=False)
class View:
    """The map ``o ↦ clip((o - mean)·gain, ±clip)`` of VecNormalize with displacements in the budget's unit.

    Everything is float64 and frozen. Without a VecNormalize the map is the identity and the units agree.

    Attributes:
        mean, gain: (dim,).
        clip: in normalised units; infinite if there is none.
        raw: displacements are of raw observations; otherwise of what the policy receives.
    """

    mean: FloatArray
    gain: FloatArray
    clip: float
    raw: bool

    @classmethod
    def of(cls, vec_normalize: VecNormalize | None, dim: int, units: str) -> View:
        """Copy the statistics.

        Raises:
            ValueError: they are of another length, or not finite.
        """
        if vec_normalize is not None:
            check_dimension(vec_normalize, dim, "the attacked model")
        mean, gain, clip = observation_gains(vec_normalize, dim)
        # copied: the statistics of a VecNormalize that trains on may change in place
        return cls(mean.copy(), gain, clip, raw=units == "raw")

    @property
    def dim(self) -> int:
        """Length of an observation."""
        return len(self.mean)

    @property
    def slope(self) -> FloatArray:
        """(dim,) what the policy sees, before the clip, of a displacement by 1."""
        return self.gain if self.raw else np.ones_like(self.gain)

    def centre(self, observations: FloatArray) -> FloatArray:
        """(n, dim) raw → where the budget's ball is centred, in policy units.

        A displacement δ makes the policy receive ``clip(centre + slope·δ, ±clip)``. A budget in normalised units
        is around what the policy receives; one in raw units around the raw observation, which may lie outside
        the clip.
        """
        normalized = (observations.astype(np.float64) - self.mean) * self.gain
        return normalized if self.raw else np.clip(normalized, -self.clip, self.clip)

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
            return _add_inwards(observations, observations, displacements)
        visible = self.visible(self.centre(observations), displacements)
        reach = self.clip / self.gain
        base = np.clip(observations, self.mean - reach, self.mean + reach)
        return _add_inwards(observations, base, visible / self.gain)


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
