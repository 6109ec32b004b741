"""The last observations of an episode side by side: what a policy with a window is given, and what stands before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lipsrl.deployment._observations import numbers

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int, ...]
Description: TypeAlias = Mapping[str, Any]

#: The only layout there is: as SB3's VecFrameStack.
LAYOUT = "oldest first, newest last"
#: ``observation.window.normalisation``: each frame before it is stacked, the whole stack, both, none.
INSIDE, AROUND, BOTH, NONE = "inside", "around", "inside and around", "none"


def has_window(description: Description) -> bool:
    """Whether the policy that ``description`` (the file's JSON) speaks of keeps a window."""
    return "window" in description["observation"]


def stacked(observation: Description) -> Description:
    """``observation`` as the network takes it: the frames of a window as one vector, anything else as it is."""
    if "window" not in observation:
        return observation
    return {**observation, "shape": [observation["frames"] * size for size in observation["shape"]]}


def holds_mean(observation: Description) -> bool:
    """Whether a mean stands before a window's first observation: zeros, after the normalisation."""
    return "window" in observation and observation["window"]["normalisation"] in (INSIDE, BOTH)


class Window:
    """``frames`` observations (dim,), oldest first, completed in front by a fixed reading. It holds no state.

    Args:
        observation: the file's JSON about observations, with its ``window``.

    Attributes:
        frames, dim: observations in a window, numbers in an observation.
        before: (dim,) float64, the raw reading that stands before an episode's first.
        start: ((frames - 1)·dim,) float64, what stands before the first observation.

    Raises:
        ValueError: the parts do not fit together.
    """

    def __init__(self, observation: Description) -> None:
        described, shape = observation["window"], tuple(observation["shape"])
        frames, before = observation["frames"], np.array(described["before"], np.float64)
        if observation["kind"] != "box" or len(shape) != 1 or type(frames) is not int or frames < 2:
            raise ValueError(
                f"a window of {frames!r} observations of kind {observation['kind']!r} and shape {shape}; expected two "
                "vectors or more"
            )
        if described["layout"] != LAYOUT:
            raise ValueError(f"a window's layout is {described['layout']!r}, expected {LAYOUT!r}")
        if before.shape != shape or not np.isfinite(before).all():
            raise ValueError(
                f"what stands before a window's first observation is {before.tolist()}, expected {shape[0]} finite "
                "numbers"
            )
        self.frames: int = frames
        self.dim: int = shape[0]
        self.before = before
        self.start: Array = np.tile(before, frames - 1)
        for array in (self.before, self.start):
            array.flags.writeable = False

    def one(self, observation: Any) -> Array:
        """``observation`` as an array (dim,).

        Raises:
            ValueError: another shape, or no numbers.
        """
        x = numbers(observation, "observation")
        if x.shape != (self.dim,):
            raise self._wrong(x.shape, f"{(self.dim,)}, one at a time")
        return x

    def rows(self, observations: Any) -> tuple[Array, bool]:
        """``observations``, one or a batch, as (n, dim), and whether it was one.

        Raises:
            ValueError: another shape, or no numbers.
        """
        x = numbers(observations, "observation")
        if x.shape != (self.dim,) and x.shape[1:] != (self.dim,):
            raise self._wrong(x.shape, f"{(self.dim,)} or (n, {self.dim})")
        return x.reshape(-1, self.dim), x.ndim == 1

    def _wrong(self, received: Shape, expected: str) -> ValueError:
        hint = "policy.stateless(window) takes whole windows."
        if received[-1:] == (self.frames * self.dim,):
            hint = f"Leave away what stacks frames (VecFrameStack, frame_stack=), or: {hint}"
        elif len(received) == 2 and received[-1] == self.dim:
            hint = (
                "Several slots: policy.predict(observations, state, episode_start), with the state that it returned. "
                + hint
            )
        return ValueError(
            f"observation must have shape {expected}: the policy keeps its {self.frames} newest observations itself. "
            f"Received {received}. {hint}"
        )

    def older(self, state: Any, episode_start: Any, n: int) -> Array:
        """(n, (frames - 1)·dim), a fresh array: what each slot has seen before, in SB3's recurrent convention.

        Args:
            state: (n, frames - 1, dim) as handed back, or None: all slots are at an episode's start.
            episode_start: (n,) true where an episode starts, one bool for all, or None: nowhere.

        Raises:
            ValueError: another number of slots, another shape, or neither of the two.
        """
        starts = None if episode_start is None else np.asarray(episode_start)
        if starts is not None and (starts.shape not in ((n,), ()) or starts.dtype.kind not in "biuf"):
            raise ValueError(
                f"episode_start must be {n} bools, one per observation, received {episode_start!r}."
            )
        if state is None:
            if starts is None:
                raise ValueError(
                    "predict of a policy with memory needs the state that its last call returned, or episode_start. "
                    f"Expected predict(observation, episode_start=np.ones({n}, bool)) at an episode's start, and "
                    "state=… from then on. For one robot, policy(observation) keeps its own window."
                )
            return np.tile(self.start, (n, 1))
        shape, given = (n, self.frames - 1, self.dim), numbers(state, "state")
        if given.shape != shape:
            raise ValueError(
                f"state must be what predict returned for the same {n} slots, of shape {shape}, received "
                f"{given.shape}. Give state=None with episode_start=np.ones({n}, bool) to start {n} episodes."
            )
        older = np.array(given.reshape(n, -1), np.float64)
        if starts is not None:
            older[np.broadcast_to(starts != 0, n)] = self.start
        return older

    def completed(self, window: Any, filled: Any = None) -> tuple[Array, bool]:
        """Windows (n, frames·dim), float64, from such as are given; and whether it was one.

        Args:
            window: (j, dim) or (n, j, dim), j ≤ frames; or flat, as VecFrameStack has them: (frames·dim,) or
                (n, frames·dim).
            filled: how many of the newest are observations: an int, or one per window; None: all that are given.

        Raises:
            ValueError: another length, no numbers, ``filled`` out of range.
        """
        x = numbers(window, "window")
        k, dim = self.frames, self.dim
        if x.ndim in (1, 2) and x.shape[-1] == k * dim:
            single, x = x.ndim == 1, x.reshape(-1, k, dim)
        elif x.ndim in (2, 3) and x.shape[-1] == dim and 1 <= x.shape[-2] <= k:
            single, x = x.ndim == 2, x.reshape(-1, x.shape[-2], dim)
        else:
            raise ValueError(
                f"window must hold 1 to {k} observations, the newest last, as (j, {dim}) or (n, j, {dim}), or be whole "
                f"and flat, ({k * dim},) or (n, {k * dim}). Received {x.shape}. Of a longer history give the last {k}."
            )
        n, j = x.shape[:2]
        whole = np.empty((n, k, dim))
        whole[:, : k - j] = self.before
        whole[:, k - j :] = x
        if filled is not None:
            counts = np.asarray(filled)
            fits = counts.dtype.kind in "iu" and counts.shape in ((), (n,))
            if not fits or (counts < 1).any() or (counts > j).any():
                raise ValueError(
                    f"filled must be how many of the {j} frames given, counted from the newest, are observations: one "
                    f"integer from 1 to {j}, or {n} of them. Received {filled!r}."
                )
            whole[np.arange(k) < k - np.broadcast_to(counts, n)[:, None]] = self.before
        return whole.reshape(n, k * dim), single
