"""The deterministic actor of an SB3 model as attacks differentiate it."""

from __future__ import annotations

from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm

from lipsrl.actors.acting import Acting

#: what weights that are not finite lead to
NO_GRADIENT = "there is no gradient to follow"


def actor_of(model: BaseAlgorithm) -> Acting:
    """Read ``model``.

    Raises:
        ValueError: its actor is no plain feed-forward network, its actions are of a kind that is not known here, or
            its weights are not finite.
    """
    acting = Acting.of(model, NO_GRADIENT)
    if not isinstance(model.action_space, spaces.Box) and acting.choices is None:
        raise ValueError(
            f"this attack moves actions of a Box, Discrete or MultiDiscrete space, but {type(model).__name__} acts in "
            f"{model.action_space}. Use RandomAttack."
        )
    return acting
