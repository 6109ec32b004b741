"""Lipschitz policies for sb3-contrib's ARS."""

from __future__ import annotations

from typing import Any

from sb3_contrib.ars.policies import ARSPolicy
from torch import nn

from lipsrl.networks import LipschitzMLP
from lipsrl.policies._options import Twin
from lipsrl.policies._policy import LipschitzPolicy, hidden_of
from lipsrl.policies._spaces import action_half_range, output_features


class MlpPolicy(LipschitzPolicy, ARSPolicy):
    """ARS policy whose action (logits) is ``lipschitz_bound``-Lipschitz in the observation.

    Arguments and promise: see :class:`lipsrl.policies.ppo.MlpPolicy`. ARS writes its weights as one vector, outside any
    optimizer: each candidate is projected when it first acts.
    """

    takes_extractor = False
    has_critic = False
    unregularizable = "ARS"

    def __init__(self, *args: Any, squash_output: bool = True, with_bias: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, squash_output=squash_output, with_bias=with_bias, **kwargs)
        self._squash_argument, self._with_bias = squash_output, with_bias
        if self.options.unconstrained:
            return
        if not with_bias:
            raise ValueError(
                "with_bias=False is not supported: a constrained layer has a bias. Leave it out."
            )
        half_range = action_half_range(self.action_space) if self.squash_output else None
        network = self.options.network(
            self.found_parts(self.features_extractor),
            output_features(self.action_space),
            hidden_of(self.net_arch, "pi"),
            Twin.of(self.action_net),
            half_range,
        )
        self.action_net = nn.Sequential(network, nn.Tanh()) if self.squash_output else nn.Sequential(network)
        self._make_contiguous()

    @property
    def lipschitz_network(self) -> LipschitzMLP | None:
        """The constrained network: observation → action before tanh (logits). ``None`` with an infinite bound."""
        network = self.action_net[0]
        return network if isinstance(network, LipschitzMLP) else None

    def _get_constructor_parameters(self) -> dict[str, Any]:
        # SB3 forgets these: a policy saved without tanh would be loaded with it
        own = {"squash_output": self._squash_argument, "with_bias": self._with_bias}
        return {**super()._get_constructor_parameters(), **own}


class LinearPolicy(MlpPolicy):
    """:class:`MlpPolicy` without hidden layers; unlike sb3-contrib's it has a bias."""

    def __init__(self, *args: Any, squash_output: bool = False, **kwargs: Any) -> None:
        kwargs["net_arch"] = []
        super().__init__(*args, squash_output=squash_output, **kwargs)
