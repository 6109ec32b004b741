"""Lipschitz policies for sb3-contrib's QR-DQN."""

from __future__ import annotations

from typing import Any

from sb3_contrib.qrdqn.policies import QRDQNPolicy, QuantileNetwork
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import Schedule

from lipsrl.networks import LipschitzMLP
from lipsrl.policies._front import parts
from lipsrl.policies._lone_layers import ProjectsLoneLayers
from lipsrl.policies._optimizers import hold
from lipsrl.policies._options import CRITIC_HEAD_GAIN, LipschitzOptions, Twin, mean_scale
from lipsrl.policies._policy import LipschitzPolicy


class LipschitzQuantileNetwork(ProjectsLoneLayers, QuantileNetwork):
    """QR-DQN's network around one constrained network, whose mean over the quantiles keeps the promise."""

    def __init__(self, *args: Any, options: LipschitzOptions, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.options = options
        assert self.features_extractor is not None
        found = parts(self.features_extractor, self.observation_space, self.normalize_images)
        self.quantile_net = options.network(  # type: ignore[assignment]
            found,
            int(self.action_space.n) * self.n_quantiles,
            self.net_arch,
            Twin.of(self.quantile_net, growth="coherent"),
            mean_scale(self.n_quantiles, options.norm),
            head_gain=CRITIC_HEAD_GAIN,
        )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "options": self.options}


class MlpPolicy(LipschitzPolicy, QRDQNPolicy):
    """QR-DQN policy whose Q-values (means of the quantiles) are ``lipschitz_bound``-Lipschitz in the observation.

    See :class:`lipsrl.policies.dqn.MlpPolicy`.
    """

    has_critic = False
    default_layer = "spectral"
    unregularizable = "QRDQN"

    @property
    def lipschitz_network(self) -> LipschitzMLP | None:
        """The constrained online network: features → quantiles. ``None`` with an infinite bound."""
        network: Any = self.quantile_net.quantile_net
        return network if isinstance(network, LipschitzMLP) else None

    def lipschitz_targets(self) -> list[LipschitzMLP]:
        network: Any = self.quantile_net_target.quantile_net
        return [network] if isinstance(network, LipschitzMLP) else []

    def make_quantile_net(self) -> QuantileNetwork:
        if self.options.unconstrained:
            return super().make_quantile_net()
        kwargs = self._update_features_extractor(self.net_args, features_extractor=None)
        return LipschitzQuantileNetwork(**kwargs, options=self.options).to(self.device)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        if self.lipschitz_network is not None:
            self.lipschitz_network.cache_in_eval = True  # not the target's: it is written in eval mode
            self.optimizer = hold(self.optimizer, self.quantile_net)

    def hold_again(self) -> None:
        self._step_these(self.quantile_net)


class CnnPolicy(MlpPolicy):
    """:class:`MlpPolicy` for images, behind a :class:`~lipsrl.policies.LipschitzNatureCNN`."""

    extractor = NatureCNN


class MultiInputPolicy(MlpPolicy):
    """:class:`MlpPolicy` for Dict observations, behind a :class:`~lipsrl.policies.LipschitzCombinedExtractor`."""

    extractor = CombinedExtractor
