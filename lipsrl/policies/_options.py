"""The keyword arguments that every Lipschitz policy takes beside SB3's own, and their checks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from lipsrl._validation import lookup, positive_finite
from lipsrl.layers import BUDGETS, HEADS, LAYERS, activation_name
from lipsrl.layers.activations import LEARNED, activation_class
from lipsrl.networks import LipschitzMLP, norm_mismatch
from lipsrl.policies._arguments import check_measured
from lipsrl.policies._front import Part, feature_scale

#: Initial norm of the actor's last layer, as a share of what it may reach, where the budget says nothing better.
HEAD_GAIN = 0.01

#: The layer of every policy that was not told which, before Q-networks had another.
EARLIER_LAYER = "sandwich"

#: Families that take a plain network's own steps, so that they grow as it does; in the others the long steps of a layer
#: with a high ceiling turn all directions (docs/pace.md).
PLAIN_STEPS = frozenset({"spectral", "rescaled"})

#: Of a constrained critic, and of a network of Q-values, which must learn returns of many units.
CRITIC_HEAD_GAIN = 0.1


@dataclass(frozen=True)
class Twin:
    """The plain network of SB3's that a constrained one stands in for.

    Attributes:
        layers: its linear layers.
        start: how SB3 draws them, one of :data:`lipsrl.layers.STARTS`.
        head: norm of the last one at its start; ``None``: as ``start`` says.
        growth: how its layers grow, one of :data:`lipsrl.layers.GROWTHS`; of meaning for :data:`PLAIN_STEPS` only.
    """

    layers: Sequence[nn.Linear]
    start: str = "linear"
    head: float | None = None
    growth: str = "random"

    @classmethod
    def of(
        cls, *modules: nn.Module, start: str = "linear", head: float | None = None, growth: str = "random"
    ) -> Twin:
        """The linear layers of ``modules``, in order."""
        found = [m for module in modules for m in module.modules() if isinstance(m, nn.Linear)]
        return cls(found, start, head, growth)


@contextmanager
def own_draws() -> Iterator[None]:
    """Random numbers that SB3's own draws never see: what it initialises is then the same to the bit."""
    with torch.random.fork_rng(devices=[]):
        yield


@dataclass(frozen=True)
class LipschitzOptions:
    """Checked options of a Lipschitz policy; see :class:`lipsrl.policies.ppo.MlpPolicy` for their meaning."""

    lipschitz_bound: float
    layer: str
    norm: str
    budget: str
    observation_scale: Any
    activation: str
    critic_lipschitz_bound: float | None = None
    log_std_lipschitz_bound: float | None = None
    activation_given: bool = True
    layer_given: bool = True

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
        log_std_lipschitz_bound: Any = None,
        default_activation: type[nn.Module] = nn.ReLU,
        default_layer: str = EARLIER_LAYER,
    ) -> LipschitzOptions:
        """Validate what the user wrote; ``default_activation`` is SB3's own for this policy, ``default_layer`` ours.

        Raises:
            ValueError: names the argument, what was received and what is accepted.
        """
        if lipschitz_bound is None:
            raise ValueError(
                "lipschitz_bound is missing: pass policy_kwargs=dict(lipschitz_bound=K) with K > 0, the largest "
                "allowed change of the action per unit change of the observation that the policy receives."
            )
        if not _is_infinite(lipschitz_bound):
            positive_finite("lipschitz_bound", lipschitz_bound)
        layer_given = layer is not None
        layer = layer if layer_given else default_layer
        layer_class = lookup("layer", layer, LAYERS)
        lookup("norm", norm, HEADS)
        if norm != layer_class.norm:
            raise norm_mismatch(layer, norm)
        if budget is None:
            budget = "growing" if norm == "l2" else "output"
        lookup("budget", budget, BUDGETS)
        if activation is not None and activation_fn is not None:
            name, given = activation_name(activation), activation_name(activation_fn)
            if name != given:
                written = getattr(activation_fn, "__name__", activation_fn)
                raise ValueError(
                    f"activation={name!r} and activation_fn={written} ({given!r}) contradict each "
                    "other: pass one of them."
                )
        others = {
            "critic_lipschitz_bound": critic_lipschitz_bound,
            "log_std_lipschitz_bound": log_std_lipschitz_bound,
        }
        for name, value in others.items():
            if value is None:
                continue
            positive_finite(name, value)
            if _is_infinite(lipschitz_bound):
                raise ValueError(
                    f"{name}={value!r} needs a finite lipschitz_bound: with lipschitz_bound=inf the policy is "
                    "SB3's own."
                )
        chosen = activation if activation is not None else activation_fn
        return cls(
            lipschitz_bound=float(lipschitz_bound),
            layer=layer,
            norm=norm,
            budget=budget,
            observation_scale=observation_scale,
            activation=activation_name(default_activation if chosen is None else chosen),
            activation_given=chosen is not None,
            layer_given=layer_given,
            **{name: None if value is None else float(value) for name, value in others.items()},
        )

    @property
    def unconstrained(self) -> bool:
        """``lipschitz_bound=inf``: the policy is SB3's own, to the bit."""
        return math.isinf(self.lipschitz_bound)

    @property
    def activation_class(self) -> Any:
        """The torch class for the critic: the same activation, undivided because the critic is free.

        One that learns parameters cannot be built the way SB3 builds it; the critic then uses ReLU.
        """
        if self.activation in LEARNED:
            return nn.ReLU
        return activation_class(self.activation, undivided=True)

    def network(
        self,
        found: list[Part],
        out_features: int,
        hidden: Sequence[int],
        twin: Twin,
        output_scale: Any = None,
        head_gain: float = HEAD_GAIN,
    ) -> LipschitzMLP:
        """The network from features to output that keeps the promise for the whole way from the observation.

        Args:
            found: what stands before it (:func:`lipsrl.policies._front.parts`).
            twin: what SB3 would have used.
            out_features, hidden, output_scale, head_gain: of :class:`LipschitzMLP`.

        Raises:
            ValueError: ``observation_scale`` or ``norm`` does not fit the observation.
        """
        check_measured(found)
        unit = feature_scale(found, self.observation_scale, self.norm)
        return self._mlp(
            sum(part.features for part in found), out_features, hidden, self.lipschitz_bound, unit, output_scale,
            head_gain, twin, own_unit(found),
        )  # fmt: skip

    def critic_network(
        self, found: list[Part], hidden: Sequence[int], twin: Twin, *, action_dim: int = 0, outputs: int = 1
    ) -> LipschitzMLP:
        """Features, and the action in SB3's [-1, 1], jointly → ``outputs`` values whose mean keeps the promise."""
        assert self.critic_lipschitz_bound is not None
        unit = feature_scale(found, self.observation_scale, self.norm)
        size = sum(part.features for part in found)
        if action_dim:
            unit = np.concatenate([np.ones(size) if unit is None else unit, np.ones(action_dim)])
        return self._mlp(
            size + action_dim, outputs, hidden, self.critic_lipschitz_bound, unit,
            mean_scale(outputs, self.norm), CRITIC_HEAD_GAIN, twin, own_unit(found, action_dim),
        )  # fmt: skip

    def _mlp(
        self,
        size: int,
        out: int,
        hidden: Sequence[int],
        bound: float,
        unit: Any,
        output_scale: Any,
        head_gain: float,
        twin: Twin,
        input_unit: float,
    ) -> LipschitzMLP:
        growing = self.budget == "growing"
        with own_draws():
            network = LipschitzMLP(
                size, out, hidden, bound, self.layer, self.activation, self.norm,
                budget=self.budget, head_gain=twin.head if growing else head_gain, start=twin.start,
                growth=twin.growth if self.layer in PLAIN_STEPS else "random",
                input_unit=input_unit, input_scale=unit, output_scale=output_scale,
            )  # fmt: skip
        if growing:
            network.start_from(twin.layers)
        if not self.activation_given:
            network.earlier_activation = "relu"
        if not self.layer_given and self.layer != EARLIER_LAYER:
            network.earlier_layer = EARLIER_LAYER
        return network

    def constructor_parameters(self) -> dict[str, Any]:
        """What ``policy.save`` must remember beside SB3's own."""
        return {
            "lipschitz_bound": self.lipschitz_bound,
            "layer": self.layer,
            "norm": self.norm,
            "budget": self.budget,
            "observation_scale": self.observation_scale,
            "activation": self.activation,
            "critic_lipschitz_bound": self.critic_lipschitz_bound,
            "log_std_lipschitz_bound": self.log_std_lipschitz_bound,
        }


def _is_infinite(value: Any) -> bool:
    return isinstance(value, (int, float)) and value == math.inf


def own_unit(found: list[Part], further: int = 0) -> float:
    """Geometric mean of the features' units as SB3's own network receives them; ``further`` inputs count as 1."""
    sizes = np.array([part.features for part in found] + [further])
    logs = np.log([part.bound for part in found] + [1.0])
    return float(np.exp((sizes * logs).sum() / sizes.sum()))


def mean_scale(outputs: int, norm: str) -> float | None:
    """Scale of a group of ``outputs`` values whose *mean* has the promise: averaging n values has l2 norm 1/√n."""
    return None if outputs == 1 or norm != "l2" else 1 / math.sqrt(outputs)
