"""Lipschitz policies for sb3-contrib's ARS."""

from __future__ import annotations

from typing import Any

from sb3_contrib.ars.policies import ARSPolicy
from torch import nn

from lipsrl.networks import LipschitzMLP
from lipsrl.policies._policy import LipschitzPolicy, hidden_of
from lipsrl.policies._spaces import action_half_range, output_features


class MlpPolicy(LipschitzPolicy, ARSPolicy):
    """ARS policy whose action (logits) is ``lipschitz_bound``-Lipschitz in the observation.

    Arguments and promise: see :class:`lipsrl.policies.ppo.MlpPolicy`. ARS writes its weights as one vector, outside any
    optimizer: each candidate is projected when it first acts.
    """

    takes_extractor = False
    has_critic = False

    def __init__(self, *args: Any, squash_output: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, squash_output=squash_output, **kwargs)
        if self.options.unconstrained:
            return
        self._squash_argument = squash_output
        half_range = action_half_range(self.action_space) if self.squash_output else None
        network = self.options.network(
            self.found_parts(self.features_extractor),
            output_features(self.action_space),
            hidden_of(self.net_arch, "pi"),
            half_range,
        )
        self.action_net = nn.Sequential(network, nn.Tanh()) if self.squash_output else nn.Sequential(network)

    @property
    def lipschitz_network(self) -> LipschitzMLP | None:
        """The constrained network: observation → action before tanh (logits). ``None`` with an infinite bound."""
        network = self.action_net[0]
        return network if isinstance(network, LipschitzMLP) else None


class LinearPolicy(MlpPolicy):
    """:class:`MlpPolicy` without hidden layers."""

    def __init__(self, *args: Any, squash_output: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, net_arch=[], squash_output=squash_output, **kwargs)
