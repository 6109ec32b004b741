"""Check that the plain actor does what the policy does: subclasses, hooks and own extractors may differ."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from lipsrl.actors._rounding import rounding_error
from lipsrl.policies._front import flatten


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
    rows = _observations(policy.observation_space)
    reference = next(network.parameters())
    if not all(bool(torch.isfinite(p).all()) for p in network.parameters()):
        return False  # whoever needs finite weights says so
    done, _ = policy.predict(rows, deterministic=True)
    flat = flatten(policy.observation_space, rows)
    x = torch.as_tensor(flat, dtype=torch.float64, device=reference.device)
    ours, error = (t.cpu().numpy() for t in plain_action(network, x, **head))
    if not isinstance(policy.action_space, spaces.Box):
        return _chooses_another(policy, np.asarray(done), ours, error)
    gap = np.abs(np.asarray(done, dtype=np.float64).reshape(ours.shape) - ours)
    return bool((gap > 1e-4 * np.abs(ours).max(axis=0) + 4 * error).any())


def _observations(space: spaces.Space[Any]) -> Any:
    """A batch of observations to compare at, as SB3 gets it."""
    if isinstance(space, spaces.Dict):
        return {key: _observations(entry) for key, entry in space.spaces.items()}
    n = 24
    rng = np.random.default_rng(0)
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        rows = rng.normal(size=(n, *space.shape)) * np.repeat([0.1, 1.0, 4.0], n // 3).reshape(
            -1, *[1] * len(space.shape)
        )
        return rows.astype(space.dtype)
    own = copy.deepcopy(space)  # the space's generator belongs to the user
    own.seed(0)
    return np.stack([np.asarray(own.sample()) for _ in range(n)])


def _chooses_another(policy: Any, chosen: np.ndarray, logits: np.ndarray, error: np.ndarray) -> bool:
    if not isinstance(policy.action_space, spaces.Discrete):
        return False  # MultiDiscrete, MultiBinary: only the methods are checked
    rows = np.arange(len(logits))
    index = chosen.reshape(-1)  # SB3 returns the index of the output: it does not add ``action_space.start``
    if not ((index >= 0) & (index < logits.shape[1])).all():
        return True
    missing = logits.max(axis=1) - logits[rows, index]
    return bool((missing > 1e-4 * np.abs(logits).max() + 8 * error.max(axis=1)).any())
