"""The keyword arguments that every Lipschitz policy takes beside SB3's own, and their checks."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from lipsrl._validation import lookup, positive_finite
from lipsrl.layers import ACTIVATIONS, BUDGETS, HEADS, LAYERS, activation_name
from lipsrl.layers.activations import LEARNED, UNDIVIDED
from lipsrl.networks import LipschitzMLP, norm_mismatch, scale_vector

#: Initial norm of the actor's last layer, as a share of what it may reach (SB3's ``ortho_init`` uses 0.01 too).
HEAD_GAIN = 0.01


@dataclass(frozen=True)
class LipschitzOptions:
    """Checked options of a Lipschitz policy; see :class:`lipsrl.policies.ppo.MlpPolicy` for their meaning."""

    lipschitz_bound: float
    layer: str
    norm: str
    budget: str
    observation_scale: Any
    activation: str

    @classmethod
    def check(
        cls,
        *,
        lipschitz_bound: Any,
        layer: Any,
        norm: Any,
        budget: Any,
        observation_scale: Any,
        activation: Any,
        activation_fn: type[nn.Module] | None,
        critic_lipschitz_bound: Any,
    ) -> LipschitzOptions:
        """Validate what the user wrote.

        Raises:
            ValueError: names the argument, what was received and what is accepted.
        """
        if lipschitz_bound is None:
            raise ValueError(
                "lipschitz_bound is missing: pass policy_kwargs=dict(lipschitz_bound=K) with K > 0, the largest "
                "allowed change of the action per unit change of the observation that the policy receives."
            )
        positive_finite("lipschitz_bound", lipschitz_bound)
        layer_class = lookup("layer", layer, LAYERS)
        lookup("norm", norm, HEADS)
        if norm != layer_class.norm:
            raise norm_mismatch(layer, norm)
        lookup("budget", budget, BUDGETS)
        if activation is not None and activation_fn is not None:
            name, given = activation_name(activation), activation_name(activation_fn)
            if name != given:
                raise ValueError(
                    f"activation={name!r} and activation_fn={activation_fn.__name__} ({given!r}) contradict each "
                    "other: pass one of them."
                )
        if critic_lipschitz_bound is not None:
            raise ValueError(
                f"critic_lipschitz_bound={critic_lipschitz_bound!r} is not supported: only None is accepted "
                "(the critic is a plain network; the promise is about the actor)."
            )
        chosen = activation if activation is not None else activation_fn
        return cls(
            lipschitz_bound=float(lipschitz_bound),
            layer=layer,
            norm=norm,
            budget=budget,
            observation_scale=observation_scale,
            activation=activation_name("relu" if chosen is None else chosen),
        )

    @property
    def activation_class(self) -> type[nn.Module]:
        """The torch class for the critic: the same activation, undivided because the critic is free.

        One that learns parameters cannot be built the way SB3 builds it; the critic then uses ReLU.
        """
        if self.activation in LEARNED:
            return nn.ReLU
        return UNDIVIDED.get(self.activation, ACTIVATIONS[self.activation])

    def network(
        self, in_features: int, out_features: int, hidden: Sequence[int], output_scale: Any = None
    ) -> LipschitzMLP:
        """The actor network that keeps the promise.

        Raises:
            ValueError: ``observation_scale`` does not fit the observation.
        """
        scale_vector("observation_scale", self.observation_scale, in_features)
        return LipschitzMLP(
            in_features,
            out_features,
            hidden,
            self.lipschitz_bound,
            self.layer,
            self.activation,
            self.norm,
            budget=self.budget,
            head_gain=HEAD_GAIN,
            input_scale=self.observation_scale,
            output_scale=output_scale,
        )

    def constructor_parameters(self) -> dict[str, Any]:
        """What ``policy.save`` must remember."""
        return {
            "lipschitz_bound": self.lipschitz_bound,
            "layer": self.layer,
            "norm": self.norm,
            "budget": self.budget,
            "observation_scale": self.observation_scale,
            "activation": self.activation,
        }


def check_observation_space(space: spaces.Space[Any]) -> None:
    """Refuse observations for which no unit of change is defined here."""
    if not isinstance(space, spaces.Box) or is_image_space(space):
        kind = "image" if isinstance(space, spaces.Box) else type(space).__name__
        raise ValueError(
            f"LipschitzMlpPolicy needs a vector (non-image Box) observation space, received {kind} {space}. "
            "Flatten it first, for example with gymnasium.wrappers.FlattenObservation."
        )


def check_features_extractor(features_extractor_class: Any) -> None:
    """Refuse a features extractor whose Lipschitz constant is unknown: it is inside the promise."""
    if features_extractor_class is not FlattenExtractor:
        raise ValueError(
            f"features_extractor_class={getattr(features_extractor_class, '__name__', features_extractor_class)} "
            "is inside the Lipschitz promise and its own constant is unknown. Accepted: FlattenExtractor (the default)."
        )


def check_net_arch(net_arch: Any, critic: str) -> None:
    """Check SB3's ``net_arch``: a list of widths, or ``dict(pi=[…], vf|qf=[…])``, or None.

    Raises:
        ValueError: names the part that is wrong.
    """
    accepted = f"net_arch must be a list of integers > 0 or dict(pi=[…], {critic}=[…])"
    if net_arch is None:
        return
    parts = net_arch if isinstance(net_arch, Mapping) else {"": net_arch}
    for key, widths in parts.items():
        if key not in ("", "pi", critic):
            raise ValueError(f"{accepted}; received the key {key!r}.")
        if isinstance(widths, str) or not isinstance(widths, Sequence):
            raise ValueError(f"{accepted}; received {net_arch!r}.")
        for width in widths:
            if isinstance(width, bool) or not isinstance(width, (int, np.integer)) or width <= 0:
                raise ValueError(f"{accepted}; received the width {width!r} in {net_arch!r}.")


def warn_ortho_init() -> None:
    """Say what becomes of an ``ortho_init`` that was passed explicitly."""
    warnings.warn(
        "ortho_init applies to the value network only: the Lipschitz actor is always initialised on its bound, "
        "with a small last layer.",
        UserWarning,
        stacklevel=4,
    )
