"""Check that a policy's spaces fit an environment, and find the frame stack between them."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

# the deepest stack that an error message looks for
_DEEPEST = 64


def stack_axis(policy: spaces.Space[Any], env: spaces.Space[Any], frames: int, label: str) -> int:
    """The axis of one observation along which ``frames`` of them make what the policy sees; -1 if it is 1.

    Images may be turned: SB3 puts the channels first for its policies.

    Raises:
        ValueError: the spaces do not fit; suggests a number of frames that would do.
    """
    for axis in (-1, 0):
        if _fit(policy, env, frames, axis):
            return axis
    advice = (
        "Evaluate it in the environment, wrappers included, that it was trained in (give a factory)."
        if frames == 1
        else f"They were compared behind frame_stack={frames}."
    )
    for depth in range(2, _DEEPEST + 1):
        if frames == 1 and (_fit(policy, env, depth, -1) or _fit(policy, env, depth, 0)):
            advice = f"It looks as if it was trained behind a VecFrameStack: give frame_stack={depth}."
            break
    raise ValueError(
        f"{label} was trained on observations {policy}, but the environment gives {env}. {advice}"
    )


def _fit(policy: spaces.Space[Any], env: spaces.Space[Any], frames: int, axis: int) -> bool:
    if isinstance(policy, spaces.Dict) and isinstance(env, spaces.Dict):
        return (
            frames == 1
            and policy.spaces.keys() == env.spaces.keys()
            and all(_fit(part, env.spaces[key], 1, axis) for key, part in policy.spaces.items())
        )
    if not (isinstance(policy, spaces.Box) and isinstance(env, spaces.Box)):
        return frames == 1 and policy == env
    shape = list(env.shape)
    if not shape:
        return policy.shape == env.shape
    shape[axis] *= frames
    # an image with its channels last becomes one with its channels first
    turned = (shape[2], shape[0], shape[1]) if len(shape) == 3 else None
    return policy.shape in (tuple(shape), turned)
