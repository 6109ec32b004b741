"""The last observations of an episode side by side, as SB3's VecFrameStack shows them to a policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ALL = slice(None)


def kept_frames(model: Any) -> int | None:
    """How many frames a model says that it sees: `lipsrl.distill` notes it on its students, and SB3 saves the note."""
    frames = getattr(model, "frame_stack", None)
    return frames if isinstance(frames, int) and not isinstance(frames, bool) and frames > 0 else None


class FrameStack:
    """The last frames of ``n`` streams, the newest last, zeros before the first of an episode.

    Args:
        n: number of streams.
        shape, dtype: of one frame.
        frames: how many make a stack, > 0.
        axis: of a frame along which they are joined, 0 or -1.
    """

    def __init__(
        self, n: int, shape: Sequence[int], frames: int, dtype: Any = np.float64, axis: int = -1
    ) -> None:
        older = list(shape)
        older[axis] *= frames - 1
        self._axis = axis % len(older) + 1  # behind that of the streams
        self._newer: tuple[slice, ...] = (*[_ALL] * self._axis, slice(shape[axis], None))
        self._older = np.zeros((n, *older), dtype=dtype)

    def begin(self, rows: Any) -> None:
        """The next frame of the streams in ``rows`` is the first one of an episode."""
        self._older[rows] = 0

    def older(self, rows: Any = _ALL) -> NDArray[Any]:
        """What stands before the next frame, ``frames - 1`` side by side; not to be written into."""
        older: NDArray[Any] = self._older[rows]
        return older

    def push(self, newest: NDArray[Any], rows: Any = _ALL) -> NDArray[Any]:
        """The stacks with ``newest`` (len(rows), *shape) at their ends, a fresh array."""
        stacked = np.concatenate([self._older[rows], newest], axis=self._axis)
        self._older[rows] = stacked[self._newer]
        return stacked


def stacked_episode(observations: NDArray[Any], frames: int) -> NDArray[Any]:
    """The stacks (T, frames·dim) of an episode's observations (T, dim)."""
    steps, dim = observations.shape
    padded = np.concatenate([np.zeros((frames - 1, dim), dtype=observations.dtype), observations])
    return np.concatenate([padded[first : first + steps] for first in range(frames)], axis=1)
