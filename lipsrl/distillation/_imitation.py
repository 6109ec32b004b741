"""One gradient step after the other towards the teacher's actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from lipsrl.layers import project_after_step
from lipsrl.policies._spaces import action_half_range

LEARNING_RATE = 3e-3
BATCH_SIZE = 512


class Imitation:
    """Adam on the student's actor, over a set of states that grows.

    The loss is the mean squared difference between the actions that the environment would receive (clipped
    or squashed, as the policy does it), each action dimension in units of half its range.

    Args:
        policy: the student's; its ``lipschitz_network`` is trained and nothing else.
        total_steps: over which the learning rate falls linearly to 0.
        seed: of the order of the batches.
    """

    def __init__(self, policy: BasePolicy, total_steps: int, seed: int) -> None:
        space = policy.action_space
        assert isinstance(space, spaces.Box)
        half = action_half_range(space)
        half[half == 0] = 1.0  # a dimension that cannot move
        centre = (space.low.astype(np.float64) + space.high.astype(np.float64)).reshape(-1) / 2
        self._policy: Any = policy
        self._half, self._centre = self._tensor(half), self._tensor(centre)
        network: Any = policy.lipschitz_network
        optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
        self._optimizer = project_after_step(optimizer, network)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda step: 1.0 - step / total_steps
        )
        self._generator = torch.Generator().manual_seed(seed)
        self.observations = self._tensor(np.empty((0, *policy.observation_space.shape)))  # type: ignore[misc]
        self._targets = self._tensor(np.empty((0, half.size)))

    def add(self, observations: NDArray[Any], actions: NDArray[Any]) -> None:
        """More states: what the policy receives ``(n, dim)``, and what the teacher does ``(n, act)``."""
        self.observations = torch.cat([self.observations, self._tensor(observations)])
        targets = (self._tensor(actions) - self._centre) / self._half
        self._targets = torch.cat([self._targets, targets])

    def fit(self, steps: int, after_step: Callable[[], Any]) -> None:
        """``steps`` batches from all states so far. The policy is left in evaluation mode, its weights exact."""
        self._policy.set_training_mode(True)
        for _ in range(steps):
            rows = torch.randint(len(self._targets), (BATCH_SIZE,), generator=self._generator)
            error = self._action(self.observations[rows]) - self._targets[rows]
            self._optimizer.zero_grad()
            error.square().mean().backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            self._schedule.step()
            after_step()
        self._policy.set_training_mode(False)

    def _action(self, observations: Tensor) -> Tensor:
        """What the environment would receive, in [-1, 1] per dimension."""
        action: Tensor = self._policy._predict(observations, deterministic=True).flatten(1)
        if not self._policy.squash_output:
            action = (action - self._centre) / self._half
        # The gradient passes the clip: a student that saturates on the wrong side must find back.
        return action + (action.clamp(-1.0, 1.0) - action).detach()

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self._policy.device)
