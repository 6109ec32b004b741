"""One gradient step after the other towards what the teacher says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from lipsrl.distillation._critics import actor_parameters
from lipsrl.distillation._losses import ValueLoss, loss_of, values_of
from lipsrl.layers import project_after_step
from lipsrl.networks import LipschitzMLP

LEARNING_RATE = 3e-3
BATCH_SIZE = 512


class Imitation:
    """Adam on the student's actor, over a set of states that grows.

    Args:
        policy: the student's; its actor is trained and nothing else.
        total_steps: over which the learning rate falls linearly to 0.
        seed: of the order of the batches.

    Attributes:
        loss: what the student is asked to match.
        observations: (n, dim) what the policies received so far.
    """

    def __init__(self, policy: BasePolicy, total_steps: int, seed: int) -> None:
        self.loss = loss_of(policy)
        actor: Any = policy
        network: LipschitzMLP | None = actor.lipschitz_network  # None: without a bound
        self._policy, self._network = actor, network
        parameters = actor_parameters(policy) if network is None else list(network.parameters())
        optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE)
        self._optimizer = optimizer if network is None else project_after_step(optimizer, network)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda step: 1.0 - step / total_steps
        )
        self._generator = torch.Generator().manual_seed(seed)
        self.observations = torch.empty(0)
        self._targets = torch.empty(0)

    def add(self, observations: NDArray[Any], targets: NDArray[Any]) -> None:
        """More states: what the policy receives ``(n, dim)``, and what :attr:`loss` asks the teacher."""
        new, answers = self._tensor(observations), self._tensor(targets)
        if not len(self.observations):
            self.observations, self._targets = new, answers
            if isinstance(self.loss, ValueLoss) and self._network is not None:
                self._start_at_the_level()
            return
        self.observations = torch.cat([self.observations, new])
        self._targets = torch.cat([self._targets, answers])

    def fit(self, steps: int, after_step: Callable[[], Any]) -> None:
        """``steps`` batches from all states so far. The policy is left in evaluation mode, its weights exact."""
        self._policy.set_training_mode(True)
        for _ in range(steps):
            rows = torch.randint(len(self._targets), (BATCH_SIZE,), generator=self._generator)
            loss = self.loss(self._policy, self.observations[rows], self._targets[rows])
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            self._schedule.step()
            after_step()
        self._policy.set_training_mode(False)

    @torch.no_grad()
    def _start_at_the_level(self) -> None:
        """Give the Q-values their mean by the bias, which costs no slope: Adam would take thousands of steps to it."""
        self._policy.set_training_mode(True)
        missing = self._targets.mean(0) - values_of(self._policy, self.observations).mean(0)
        assert self._network is not None
        scale = self._network.output_scale
        bias: Tensor = self._network.head.bias
        bias += missing.flatten() * (1.0 if scale is None else scale)

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self._policy.device)
