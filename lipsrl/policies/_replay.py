"""Does the plain actor do what the policy does? Subclasses, hooks and hand-made extractors may differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.dqn.policies import QNetwork
from stable_baselines3.sac.policies import Actor as SACActor
from stable_baselines3.td3.policies import Actor as TD3Actor
from torch import Tensor, nn

from lipsrl.policies._rounding import rounding_error


def foreign_method(policy: Any) -> str | None:
    """``Class.method`` of the first step between observation and action that is not SB3's own, or ``None``."""
    if isinstance(policy, ActorCriticPolicy):
        names = ["_predict", "get_distribution", "extract_features", "_get_action_dist_from_latent"]
        checks = [(policy, ActorCriticPolicy, names), (policy.mlp_extractor, MlpExtractor, ["forward_actor"])]
    elif hasattr(policy, "q_net"):
        checks = [(policy.q_net, QNetwork, ["_predict", "forward", "extract_features"])]
    else:
        sac = isinstance(policy.actor, SACActor)
        names = ["_predict", "forward", "extract_features"] + (["get_action_dist_params"] if sac else [])
        checks = [(policy.actor, SACActor if sac else TD3Actor, names)]
    for owner, base, names in checks:
        for name in names:
            if name in vars(owner) or getattr(type(owner), name, None) is not getattr(base, name):
                return f"{type(owner).__name__}.{name}"
    return None


@torch.no_grad()
def plain_action(
    network: nn.Sequential, x: Tensor, squash: bool, half_range: Any, centre: Any, clip: Any
) -> tuple[Tensor, Tensor]:
    """Actions (n, act) of the plain float64 actor at ``x`` (n, obs), and their error in float32 arithmetic."""
    eps = torch.finfo(torch.float32).eps
    y, error = rounding_error(network, x, eps * x.abs(), eps)
    if squash:
        y, error = torch.tanh(y), error.clamp(max=2.0) + 4 * eps
    if half_range is not None:
        half, centre = torch.as_tensor(half_range), torch.as_tensor(centre)
        y, error = y * half + centre, error * half + 8 * eps * (half + centre.abs())
    if clip is not None:
        y = y.clamp(torch.as_tensor(clip[0]), torch.as_tensor(clip[1]))
    return y, error


def differs_from_predict(policy: Any, network: nn.Sequential, **head: Any) -> bool:
    """Whether ``policy.predict`` contradicts the plain actor on a few observations (a check, no proof).

    Args:
        network: observation → network output; judged in float64.
        head: squash, half_range, centre, clip of :class:`~lipsrl.policies.ActorParts`.
    """
    shape = policy.observation_space.shape
    rows = np.random.default_rng(0).normal(size=(24, *shape)) * np.repeat([0.1, 1.0, 4.0], 8).reshape(
        -1, *[1] * len(shape)
    )
    rows = rows.astype(np.float32)
    reference = next(network.parameters())
    if not all(bool(torch.isfinite(p).all()) for p in network.parameters()):
        return False  # whoever needs finite weights says so
    done, _ = policy.predict(rows, deterministic=True)
    x = torch.as_tensor(rows.reshape(len(rows), -1), dtype=torch.float64, device=reference.device)
    ours, error = (t.cpu().numpy() for t in plain_action(network, x, **head))
    if not isinstance(policy.action_space, spaces.Box):
        return _chooses_another(policy, np.asarray(done), ours, error)
    gap = np.abs(np.asarray(done, dtype=np.float64).reshape(ours.shape) - ours)
    return bool((gap > 1e-4 * np.abs(ours).max(axis=0) + 4 * error).any())


def _chooses_another(policy: Any, chosen: np.ndarray, logits: np.ndarray, error: np.ndarray) -> bool:
    if not isinstance(policy.action_space, spaces.Discrete):
        return False  # MultiDiscrete, MultiBinary: only the methods are checked
    rows = np.arange(len(logits))
    index = chosen.reshape(-1) - int(policy.action_space.start)
    if not ((index >= 0) & (index < logits.shape[1])).all():
        return False
    missing = logits.max(axis=1) - logits[rows, index]
    return bool((missing > 1e-4 * np.abs(logits).max() + 8 * error.max(axis=1)).any())
