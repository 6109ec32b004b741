"""The squashed Gaussian actor of SB3 (SAC, TQC, CrossQ) around a constrained network."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from lipsrl._validation import positive_finite
from lipsrl.networks import LipschitzMLP
from lipsrl.policies._adapters import CopyableDistribution, LatentNetwork, OutputLayer
from lipsrl.policies._front import parts
from lipsrl.policies._lone_layers import ProjectsLoneLayers
from lipsrl.policies._optimizers import hold
from lipsrl.policies._options import LipschitzOptions, Twin
from lipsrl.policies._policy import LipschitzPolicy
from lipsrl.policies._spaces import action_half_range

#: SB3 and sb3-contrib clamp log σ to [-20, 2].
LARGEST_STD = math.exp(2)


class LipschitzSquashedActor(ProjectsLoneLayers, CopyableDistribution):
    """Mixin before SB3's ``Actor``.

    ``log_std`` stays a free head on the latent, or with ``log_std_lipschitz_bound`` is further outputs of the
    constrained network.
    """

    def __init__(self, *args: Any, options: LipschitzOptions, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        actor: Any = self
        self.options = options
        # tanh maps the mean to ±1 and the half range scales it to the action space: the network's output is
        # divided by the half range, so that the end-to-end gain of every action dimension is exactly one.
        half_range = action_half_range(actor.action_space)
        found = parts(actor.features_extractor, actor.observation_space, actor.normalize_images)
        n_actions, scale = half_range.size, half_range
        if options.log_std_lipschitz_bound is not None:
            share = options.lipschitz_bound / options.log_std_lipschitz_bound
            scale = np.concatenate([half_range, np.full(n_actions, share)])
        heads = [actor.mu] if options.log_std_lipschitz_bound is None else [stacked(actor.mu, actor.log_std)]
        network = options.network(found, scale.size, actor.net_arch, Twin.of(actor.latent_pi, *heads), scale)
        network.cache_in_eval = True
        actor.latent_pi = LatentNetwork(network)
        if options.log_std_lipschitz_bound is not None:
            actor.log_std = OutputLayer(network, n_actions)
        mean = OutputLayer(network, 0, n_actions)
        # gSDE: Linear, then Hardtanh, which is 1-Lipschitz
        actor.mu = nn.Sequential(mean, *list(actor.mu)[1:]) if isinstance(actor.mu, nn.Sequential) else mean

    @property
    def lipschitz_network(self) -> LipschitzMLP:
        """The constrained network: observation features → mean before tanh (and log σ, where it is constrained)."""
        actor: Any = self
        network: LipschitzMLP = actor.latent_pi.network
        return network

    @torch.no_grad()
    def rescale_log_std(self, scale: float) -> None:
        """Give log σ another unit in the constrained network's output; the function stays as it is."""
        head, unit = self.lipschitz_network.head, self.lipschitz_network.output_scale
        assert unit is not None
        n_actions = unit.numel() // 2
        old = unit[n_actions:].clone()
        unit[n_actions:] = scale
        for parameter in (head.weight, head.bias):
            assert isinstance(parameter, nn.Parameter)
            rows = parameter[n_actions:]
            rows.mul_((unit[n_actions:] / old).reshape(-1, *[1] * (rows.ndim - 1)))

    def sampled_action_bound(self, noise: Any) -> float:
        """Lipschitz constant of the *sampled* action for a fixed draw ``noise`` ξ (act,) of the standard normal.

        The sample is ``a = h·tanh(μ + σξ) + c`` with half range h. With L = ``log_std_lipschitz_bound`` and s = K / L
        the network promises ``‖(h·Δμ, s·Δ log σ)‖ ≤ K·‖Δo / observation_scale‖``. Differentiating at fixed ξ,

            da_i = sech²(·)·(h_i dμ_i + (h_i σ_i ξ_i / s)·(s d log σ_i)),

        and sech² ≤ 1, σ ≤ e² give, by Cauchy–Schwarz for each i,
        ``‖Δa‖₂ ≤ max_i √(K² + (L·h_i·e²·|ξ_i|)²) · ‖Δo / observation_scale‖₂``; in l-inf the sum K + L·h_i·e²·|ξ_i|.

        Raises:
            ValueError: ``log_std_lipschitz_bound`` is not set, or ``noise`` does not have one entry per action.
        """
        actor: Any = self
        if self.options.log_std_lipschitz_bound is None:
            raise ValueError(
                "The sampled action has no Lipschitz constant here: its standard deviation is a free function of the "
                "observation. Train with policy_kwargs=dict(log_std_lipschitz_bound=…)."
            )
        half_range = action_half_range(actor.action_space)
        draw = np.abs(np.asarray(noise, dtype=np.float64)).reshape(-1)
        if draw.shape != half_range.shape or not np.isfinite(draw).all():
            raise ValueError(
                f"noise must be {half_range.size} finite numbers, one per action, received {noise!r}."
            )
        spread = self.options.log_std_lipschitz_bound * LARGEST_STD * float((half_range * draw).max())
        bound = self.options.lipschitz_bound
        total = math.hypot(bound, spread) if self.options.norm == "l2" else bound + spread
        return total * (1 + 1e-14)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "options": self.options}  # type: ignore[misc]


def stacked(*modules: nn.Module) -> nn.Linear:
    """The linear layers of ``modules``, which act on the same features, as one."""
    layers = Twin.of(*modules).layers
    both = nn.Linear(layers[0].in_features, sum(layer.out_features for layer in layers), device="meta")
    both = both.to_empty(device=layers[0].weight.device)
    with torch.no_grad():
        both.weight.copy_(torch.cat([layer.weight for layer in layers]))
        both.bias.copy_(torch.cat([layer.bias for layer in layers]))
    return both


def constrain_critic(critic: Any, options: LipschitzOptions, *, outputs: int = 1) -> None:
    """Put a constrained network in the place of each of ``critic.q_networks``."""
    found = parts(critic.features_extractor, critic.observation_space, critic.normalize_images)
    hidden = [m.out_features for m in critic.q_networks[0].modules() if isinstance(m, nn.Linear)][:-1]
    action_dim = action_half_range(critic.action_space).size
    for i in range(critic.n_critics):
        critic.q_networks[i] = options.critic_network(
            found, hidden, Twin.of(critic.q_networks[i]), action_dim=action_dim, outputs=outputs
        )
        critic.add_module(f"qf{i}", critic.q_networks[i])


class LipschitzContinuousCritic(ContinuousCritic):
    """SB3's Q-networks, each Lipschitz in observation and action jointly (the action in [-1, 1], as SB3 gives it)."""

    def __init__(self, *args: Any, options: LipschitzOptions, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        constrain_critic(self, options)


class LipschitzSquashedPolicy(LipschitzPolicy):
    """Mixin before ``SACPolicy``, ``TQCPolicy`` and ``CrossQPolicy``."""

    image_arch = (256, 256)
    has_log_std = True
    #: The constrained actor.
    actor_class: ClassVar[type[nn.Module]]
    #: The constrained critic.
    critic_class: ClassVar[type[nn.Module]] = LipschitzContinuousCritic

    @property
    def lipschitz_network(self) -> LipschitzMLP | None:
        """The constrained network: observation features → mean before tanh. ``None`` with an infinite bound."""
        policy: Any = self
        return None if self.options.unconstrained else policy.actor.lipschitz_network

    def set_lipschitz_bound(self, bound: float) -> None:
        policy: Any = self
        limit = self.options.log_std_lipschitz_bound
        if limit is not None:  # the promise on log σ does not move with K
            policy.actor.rescale_log_std(positive_finite("lipschitz_bound", bound) / limit)
        super().set_lipschitz_bound(bound)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        if self.options.unconstrained:
            return super().make_actor(features_extractor)  # type: ignore[misc]
        policy: Any = self
        kwargs = policy._update_features_extractor(policy.actor_kwargs, features_extractor)
        return self.actor_class(**kwargs, options=self.options).to(policy.device)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        if self.options.critic_lipschitz_bound is None:
            return super().make_critic(features_extractor or self.free_extractor())  # type: ignore[misc]
        policy: Any = self
        kwargs = policy._update_features_extractor(policy.critic_kwargs, features_extractor)
        return self.critic_class(**kwargs, options=self.options).to(policy.device)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)  # type: ignore[misc]
        if self.options.unconstrained:
            return
        policy: Any = self
        # the critic's target is averaged from it right after each step, inside train(); the actor's optimizer steps a
        # shared features extractor
        exact = self.options.critic_lipschitz_bound is not None
        hold(policy.actor.optimizer, policy.actor, exact=exact and policy.share_features_extractor)
        hold(policy.critic.optimizer, policy.critic, exact=exact)
