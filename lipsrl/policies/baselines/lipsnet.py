"""LipsNet: an action divided by the norm of its own Jacobian. No certificate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, create_mlp, get_actor_critic_arch
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.sac.policies import Actor, SACPolicy
from torch import Tensor, nn

from lipsrl._validation import positive_finite
from lipsrl.policies._spaces import output_features
from lipsrl.regularizers._ride import ride


def value_and_jacobian(network: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor]:
    """f(x) (n, out) and ∂f/∂x (n, out, in) of linear layers with ReLU or tanh between, in one pass forward."""
    jacobian: Tensor | None = None
    for module in network:
        if isinstance(module, nn.Linear):
            x = module(x)
            if jacobian is None:
                jacobian = module.weight.expand(len(x), *module.weight.shape)
            else:
                jacobian = module.weight @ jacobian
            continue
        slope = (x > 0).to(x.dtype) if isinstance(module, nn.ReLU) else 1 - torch.tanh(x).square()
        x = module(x)
        assert jacobian is not None
        jacobian = slope.unsqueeze(-1) * jacobian
    assert jacobian is not None
    return x, jacobian


class LipsNet(nn.Module):
    """``K(x) · f(x) / (‖∂f/∂x‖_F + ε)`` with a learned K(x) > 0 that is drawn to zero by ``weight · E[K(x)²]``.

    Song et al. 2023, "LipsNet: a smooth and robust neural network with adaptive Lipschitz constant for high accuracy
    optimal control" (ICML). At every point where f is smooth the output's slope is near K(x); but with ReLU the
    Jacobian jumps from one linear region to the next, and the output with it: there is no Lipschitz constant at all.

    Args:
        in_features, out_features, hidden: of f.
        activation: ``nn.ReLU`` or ``nn.Tanh``.
        k_init: K(x) at the start.
        k_hidden: hidden layers of K(x), with tanh.
        weight: of E[K(x)²], added to the gradient of the output: no train() is changed.
        epsilon: ε.

    Raises:
        ValueError: another activation, or a number that is not > 0.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden: Sequence[int] = (64, 64),
        activation: type[nn.Module] = nn.ReLU,
        *,
        k_init: float = 50.0,
        k_hidden: Sequence[int] = (32,),
        weight: float = 1e-5,
        epsilon: float = 1e-4,
    ) -> None:
        super().__init__()
        if activation not in (nn.ReLU, nn.Tanh):
            raise ValueError(f"LipsNet's activation must be nn.ReLU or nn.Tanh, received {activation!r}.")
        self.out_features, self.weight = out_features, positive_finite("weight", weight)
        self.epsilon = positive_finite("epsilon", epsilon)
        start = positive_finite("k_init", k_init)
        self.f = nn.Sequential(*create_mlp(in_features, out_features, list(hidden), activation))
        self.k = nn.Sequential(*create_mlp(in_features, 1, list(k_hidden), nn.Tanh))
        last = self.k[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():  # softplus(bias) = k_init
            last.bias.fill_(start + math.log(-math.expm1(-start)))

    def forward(self, x: Tensor) -> Tensor:
        """(n, in) → (n, out)."""
        value, jacobian = value_and_jacobian(self.f, x)
        k = nn.functional.softplus(self.k(x))
        norm = torch.linalg.vector_norm(jacobian, dim=(1, 2)).unsqueeze(1)
        action: Tensor = k * value / (norm + self.epsilon)
        if self.training and k.requires_grad:
            action = ride(action, self.weight * k.square().mean())
        return action


class LipsNetPolicy(ActorCriticPolicy):
    """SB3's actor-critic (PPO, A2C) whose mean action is a :class:`LipsNet`. **No certificate.**

    Args:
        lipsnet: keyword arguments of :class:`LipsNet`.

    Other arguments are those of :class:`stable_baselines3.common.policies.ActorCriticPolicy`; ``net_arch`` gives the
    hidden layers of f.
    """

    def __init__(self, *args: Any, lipsnet: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        arch = kwargs.pop("net_arch", None)
        arch = [64, 64] if arch is None else arch
        self._hidden, critic = (arch["pi"], arch["vf"]) if isinstance(arch, Mapping) else (arch, arch)
        self._lipsnet = dict(lipsnet or {})
        self._given_arch = arch
        super().__init__(*args, **{**kwargs, "net_arch": {"pi": [], "vf": list(critic)}})

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        actions = output_features(self.action_space)
        self.action_net = LipsNet(
            self.mlp_extractor.latent_dim_pi, actions, self._hidden, self.activation_fn, **self._lipsnet
        ).to(self.device)
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        own = {"net_arch": self._given_arch, "lipsnet": self._lipsnet}
        return {**super()._get_constructor_parameters(), **own}


class LipsNetActor(Actor):
    """SAC's actor: the mean is a :class:`LipsNet`, log σ a network of its own."""

    def __init__(self, *args: Any, lipsnet: Mapping[str, Any], hidden: Sequence[int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._own = {"lipsnet": dict(lipsnet), "hidden": list(hidden)}
        actions = output_features(self.action_space)
        size = self.features_dim
        self.mu = LipsNet(size, actions, hidden, self.activation_fn, **lipsnet)
        self.log_std = nn.Sequential(*create_mlp(size, actions, list(hidden), self.activation_fn))  # type: ignore[assignment]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self._own}


class SACLipsNetPolicy(SACPolicy):
    """SAC's policy whose mean action (before tanh) is a :class:`LipsNet`. **No certificate.** Not with gSDE.

    Args:
        lipsnet: keyword arguments of :class:`LipsNet`.

    Other arguments are those of :class:`stable_baselines3.sac.policies.SACPolicy`.
    """

    def __init__(self, *args: Any, lipsnet: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        if kwargs.get("use_sde"):
            raise ValueError("SACLipsNetPolicy has no gSDE: use_sde=False.")
        arch = kwargs.get("net_arch")
        arch = [256, 256] if arch is None else arch
        self._hidden, _ = get_actor_critic_arch(arch)
        self._lipsnet = dict(lipsnet or {})
        super().__init__(*args, **{**kwargs, "net_arch": arch})

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        kwargs = self._update_features_extractor(self.actor_kwargs, features_extractor)
        own = {"lipsnet": self._lipsnet, "hidden": self._hidden, "net_arch": []}
        return LipsNetActor(**{**kwargs, **own}).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "lipsnet": self._lipsnet}
