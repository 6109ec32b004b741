"""Lipschitz policies for DQN."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork

from lipsrl.networks import LipschitzMLP
from lipsrl.policies._front import parts
from lipsrl.policies._lone_layers import ProjectsLoneLayers
from lipsrl.policies._optimizers import hold
from lipsrl.policies._options import CRITIC_HEAD_GAIN, LipschitzOptions, Twin
from lipsrl.policies._policy import LipschitzPolicy


class LipschitzQNetwork(ProjectsLoneLayers, QNetwork):
    """DQN's network around one constrained network: features → Q-values."""

    def __init__(self, *args: Any, options: LipschitzOptions, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.options = options
        assert self.features_extractor is not None
        found = parts(self.features_extractor, self.observation_space, self.normalize_images)
        n = int(self.action_space.n)
        self.q_net = options.network(
            found, n, self.net_arch, Twin.of(self.q_net, growth="coherent"), head_gain=CRITIC_HEAD_GAIN
        )  # type: ignore[assignment]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "options": self.options}


class MlpPolicy(LipschitzPolicy, DQNPolicy):
    """DQN policy whose vector of Q-values is ``lipschitz_bound``-Lipschitz in the observation, and its target's too.

    ‖Q(o, ·) - Q(o′, ·)‖₂ ≤ lipschitz_bound · ‖(o - o′) / observation_scale‖₂. The greedy action then cannot change for
    ‖δ‖ < margin / (√2·lipschitz_bound); see :func:`lipsrl.certificates.margin_certificate`. Arguments:
    see :class:`lipsrl.policies.ppo.MlpPolicy`; there is no other critic.

    Other arguments are those of :class:`stable_baselines3.dqn.policies.DQNPolicy`.

    Raises:
        ValueError: an argument is missing, out of range or unknown, or the spaces are not covered.
    """

    has_critic = False
    default_layer = "spectral"
    unregularizable = "DQN"

    @property
    def lipschitz_network(self) -> LipschitzMLP | None:
        """The constrained online network: features → Q-values. ``None`` with an infinite bound."""
        network: Any = self.q_net.q_net
        return network if isinstance(network, LipschitzMLP) else None

    def lipschitz_targets(self) -> list[LipschitzMLP]:
        network: Any = self.q_net_target.q_net
        return [network] if isinstance(network, LipschitzMLP) else []

    def make_q_net(self) -> QNetwork:
        if self.options.unconstrained:
            return super().make_q_net()
        kwargs = self._update_features_extractor(self.net_args, features_extractor=None)
        return LipschitzQNetwork(**kwargs, options=self.options).to(self.device)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        if self.lipschitz_network is not None:
            self.lipschitz_network.cache_in_eval = True  # not the target's: it is written in eval mode
            # the target is written during rollouts only, when the online network has been projected exactly
            self.optimizer = hold(self.optimizer, self.q_net)

    def hold_again(self) -> None:
        self._step_these(self.q_net)


class CnnPolicy(MlpPolicy):
    """:class:`MlpPolicy` for images, behind a :class:`~lipsrl.policies.LipschitzNatureCNN`."""

    extractor = NatureCNN


class MultiInputPolicy(MlpPolicy):
    """:class:`MlpPolicy` for Dict observations, behind a :class:`~lipsrl.policies.LipschitzCombinedExtractor`."""

    extractor = CombinedExtractor
