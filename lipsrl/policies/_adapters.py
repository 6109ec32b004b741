"""One LipschitzMLP seen as the two modules that SB3's policies expect: latent network and output layer."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from lipsrl.networks import LipschitzMLP


class LatentNetwork(nn.Module):
    """observation features → latent (…, latent_dim). Owns the whole network."""

    def __init__(self, network: LipschitzMLP) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> Tensor:
        return self.network.latent(features)


class OutputLayer(nn.Module):
    """latent → mean action (or logits), or a slice of the outputs.

    Refers to the network without registering it a second time.
    """

    def __init__(self, network: LipschitzMLP, start: int = 0, stop: int | None = None) -> None:
        super().__init__()
        self._network = (network,)  # a tuple hides it from nn.Module: its parameters are counted once
        self.start, self.stop = start, network.out_features if stop is None else stop

    @property
    def out_features(self) -> int:
        return self.stop - self.start

    def forward(self, latent: Tensor) -> Tensor:
        return self._network[0].output(latent)[..., self.start : self.stop]


class CopyableDistribution(nn.Module):
    """Mixin: ``deepcopy`` and pickling work right after ``learn()`` too.

    SB3's ``action_dist`` keeps the last batch's distribution, whose tensors hang in the autograd graph and
    refuse to be copied. They are of no use in a copy: tensors are detached, the last distribution is left out.
    """

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        distribution = copy.copy(state["action_dist"])
        for name, value in list(vars(distribution).items()):
            if isinstance(value, Tensor):
                setattr(distribution, name, value.detach())
            elif isinstance(value, torch.distributions.Distribution):
                delattr(distribution, name)
        state["action_dist"] = distribution
        return state
