"""The last observations of an episode side by side, as SB3's VecFrameStack shows them to a policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnvWrapper, VecFrameStack

from lipsrl._validation import positive_int

_ALL = slice(None)


def kept_frames(model: Any) -> int | None:
    """How many frames a model says that it sees: `lipsrl.distill` notes it on its students, and SB3 saves the note."""
    frames = getattr(model, "frame_stack", None)
    return frames if isinstance(frames, int) and not isinstance(frames, bool) and frames > 0 else None


def attached_frames(model: Any) -> int:
    """Depth of the frame stack around the model's own environment; without one what the model says itself, or 1.

    Raises:
        ValueError: a frame stack of a Dict.
    """
    layer = model.get_env() if isinstance(model, BaseAlgorithm) else None
    frames = 1 if layer is not None else kept_frames(model) or 1
    while isinstance(layer, VecEnvWrapper):
        if isinstance(layer, VecFrameStack):
            if isinstance(layer.observation_space, spaces.Dict):
                raise ValueError(
                    "Frame stacks of Dict observations are not supported. Flatten the Dict before it is stacked "
                    "(gymnasium.wrappers.FlattenObservation)."
                )
            frames *= int(layer.stacked_obs.n_stack)
        layer = layer.venv
    return frames


def frames_of(model: Any, frame_stack: Any = None) -> int:
    """``frame_stack`` where it is given, else :func:`attached_frames`.

    Raises:
        ValueError: no integer > 0, or another number than the model itself says that it sees.
    """
    if frame_stack is None:
        return attached_frames(model)
    frames = positive_int("frame_stack", frame_stack)
    kept = kept_frames(model)
    if kept is not None and kept != frames:
        raise ValueError(
            f"frame_stack={frames}, but this model was made for windows of {kept} observations, as it says itself "
            "(model.frame_stack). Leave frame_stack out."
        )
    return frames


def check_frames(frames: int, size: int) -> None:
    """Raises a ``ValueError`` unless ``frames`` of one length make ``size`` values."""
    if size % frames:
        raise ValueError(
            f"frame_stack={frames} frames of one length do not make the {size} values that the model receives. Pass "
            "the number of frames that it was trained with."
        )


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
