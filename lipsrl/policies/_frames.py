"""Windows of frames as SB3's ``VecFrameStack`` lays them out: the oldest first, in one vector."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from lipsrl._validation import positive_int


def frame_size(name: str, space: spaces.Space[Any], n_frames: int) -> int:
    """Length of one frame.

    Raises:
        ValueError: the observation is no vector of ``n_frames`` equal parts.
    """
    n = positive_int("n_frames", n_frames)
    if not isinstance(space, spaces.Box) or len(space.shape) != 1 or space.shape[0] % n:
        raise ValueError(
            f"{name} needs a vector of n_frames={n} frames side by side, as VecFrameStack(env, {n}) gives it; received "
            f"{space}."
        )
    return int(space.shape[0]) // n
