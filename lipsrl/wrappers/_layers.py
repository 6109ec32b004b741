"""What lies below a wrapper: refusals, and the way down to further disturbances."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym


def below(env: Any) -> Iterator[Any]:
    """``env`` and all that it wraps, of Gymnasium environments or vector environments."""
    while isinstance(env, gym.Wrapper | gym.vector.VectorWrapper):
        yield env
        env = env.env


def refuse(kind: type[Any], env: Any, *normalisers: type) -> None:
    """``ValueError`` if a wrapper of class ``kind`` or one of ``normalisers`` is in ``env``."""
    for layer in below(env):
        if isinstance(layer, normalisers):
            normaliser = type(layer).__name__
            raise ValueError(
                f"{kind.__name__} acts in raw sensor units, but there is a {normaliser} below. Put the "
                f"disturbance inside: {normaliser}({kind.__name__}(env, disturbance))."
            )
        if isinstance(layer, kind):
            # both would restart from the same seed of reset and add the same draws
            raise already_disturbed(layer.disturbance)


def already_disturbed(disturbance: Any) -> ValueError:
    """The error for a second wrapper of one kind."""
    return ValueError(
        f"The environment is disturbed already, by {disturbance!r}. Use one wrapper with one disturbance that "
        "says it all (Compose)."
    )


def tell_below(wrapper: Any, progress: float) -> None:
    """Tell the next disturbance below ``wrapper``, if there is one; it tells the one below it."""
    layer = next(
        (layer for layer in below(wrapper.env) if hasattr(type(layer), "set_disturbance_progress")), None
    )
    if layer is not None:
        layer.set_disturbance_progress(progress)
