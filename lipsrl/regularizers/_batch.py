"""What a loss sees: a batch of observations, their neighbours in time, and the networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from lipsrl.regularizers._observations import (
    Observations,
    ObservationUnits,
    concatenate,
    size,
)


class Networks(Protocol):
    """The actor and critic of one family of algorithms; each call is differentiable."""

    #: Whether the buffer's actions are those of the Gaussian: on-policy, and not squashed.
    knows_actions: bool

    def mean(self, observations: Observations) -> Tensor:
        """(n, act) deterministic action."""

    def gaussian(self, observations: Observations) -> tuple[Tensor, Tensor]:
        """(n, act) mean and standard deviation of what actions are sampled from, before any squashing."""

    def latent(self, observations: Observations) -> tuple[Tensor, Tensor]:
        """(n, act) deterministic action, and (n, d) what its last layer received."""

    def values(self, observations: Observations, actions: Tensor) -> list[Tensor]:
        """(n, 1) of each critic; on-policy V(o), which knows no action."""


class Memory(Protocol):
    """What a method learns beside the agent."""

    def step(self, learning_rate: float) -> None:
        """Follow the gradients that the last backward pass has left, if any."""

    def plain(self) -> Any:
        """As NumPy arrays and numbers."""


@dataclass(frozen=True)
class Neighbour:
    """The observations one step before or after.

    Attributes:
        observations: (n, …), at rows without a neighbour whatever stands there.
        mask: (n,) 1 where there is one in the same episode, else 0.
    """

    observations: Observations
    mask: Tensor


@dataclass(frozen=True)
class Batch:
    """One minibatch.

    Attributes:
        networks: to evaluate.
        observations: o_t, (n, …).
        action_unit: (act,) what an action is multiplied with to be in the method's units.
        units: of observations.
        generator: of the method's own random numbers.
        actions: (n, act) that were taken at o_t.
        next, previous: o_{t+1}, o_{t-1}, where the method needs them.
        now: the deterministic action at o_t, where it is known already.
        memory: of the method.
    """

    networks: Networks
    observations: Observations
    action_unit: Tensor
    units: Callable[[], ObservationUnits]
    generator: torch.Generator
    actions: Tensor
    next: Neighbour | None = None
    previous: Neighbour | None = None
    now: Callable[[], Tensor] | None = None
    memory: Any = None

    def __len__(self) -> int:
        return size(self.observations)

    @cached_property
    def mean(self) -> Tensor:
        """(n, act) μ(o_t) in the method's units."""
        mean = self.networks.mean(self.observations) if self.now is None else self.now()
        return mean * self.action_unit

    def means(self, *observations: Observations) -> list[Tensor]:
        """(n, act) μ of each batch in the method's units, by one pass through the network."""
        joint = self.networks.mean(concatenate(observations)) * self.action_unit
        return list(torch.split(joint, [size(one) for one in observations]))

    def successor(self) -> Neighbour:
        """``next``, which a method that says so in ``needs`` is given."""
        assert self.next is not None
        return self.next

    def predecessor(self) -> Neighbour:
        """``previous``, likewise."""
        assert self.previous is not None
        return self.previous

    def gaussian_noise(self, like: Tensor) -> Tensor:
        """Standard normal numbers of this method's own generator."""
        return torch.randn(like.shape, generator=self.generator, device=like.device, dtype=like.dtype)

    def uniform_noise(self, like: Tensor) -> Tensor:
        """Numbers of U(-1, 1) of this method's own generator."""
        drawn = torch.rand(like.shape, generator=self.generator, device=like.device, dtype=like.dtype)
        return 2 * drawn - 1


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """() mean over the rows (n,) where ``mask`` is 1; 0 where there is none."""
    return (values * mask).sum() / mask.sum().clamp(min=1.0)
