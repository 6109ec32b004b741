"""One LipschitzMLP seen as the two modules that SB3's policies expect: latent network and output layer."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lipsrl.layers import LipschitzLayer
from lipsrl.networks import LipschitzMLP


class LatentNetwork(nn.Module):
    """observation features → latent (…, latent_dim). Holds the whole network; its last layer is the output layer's.

    So ``mlp_extractor.parameters()`` are those that SB3's has, and freezing them leaves the heads to be tuned. The
    state dict has the network in one piece.
    """

    def __init__(self, network: LipschitzMLP) -> None:
        super().__init__()
        self.network = network

    @property
    def held_elsewhere(self) -> tuple[LipschitzLayer]:
        """What :func:`~lipsrl.layers.optimizer.constrained_modules` would miss."""
        return (self.network.head,)

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        for name, module in super().named_modules(memo, prefix, remove_duplicate):
            if module is not self.network.head:
                yield name, module

    def forward(self, features: Tensor) -> Tensor:
        return self.network.latent(features)


class OutputLayer(nn.Module):
    """latent → mean action (or logits), or a slice of the outputs.

    ``weight`` and ``bias`` are the parameters of the network's last layer, under the names that SB3's heads have: of
    the whole layer for the slice that starts at 0, its own rows for another. They are held in the units of the plain
    twin and before any action scale; ``lipschitz_network.merge()`` has the weights that act. They are saved with the
    network.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, network: LipschitzMLP, start: int = 0, stop: int | None = None) -> None:
        super().__init__()
        self._network = (network,)  # a tuple hides it from nn.Module: its modules are counted once
        self.start, self.stop = start, network.out_features if stop is None else stop
        if start == 0:
            self._parameters.update({name: network.head._parameters[name] for name in ("weight", "bias")})

    def __getattr__(self, name: str) -> Any:
        if name in ("weight", "bias") and name not in self.__dict__.get("_parameters", {}):
            rows: Tensor = getattr(self._network[0].head, name)[self.start : self.stop]
            return rows
        return super().__getattr__(name)

    @property
    def in_features(self) -> int:
        return self._network[0].head.in_features

    @property
    def out_features(self) -> int:
        return self.stop - self.start

    def forward(self, latent: Tensor) -> Tensor:
        network = self._network[0]
        own, head = self._parameters, network.head._parameters
        if not own or own["weight"] is head["weight"]:
            return self._rows(latent)
        kept = dict(head)  # torch.func.functional_call put others in their place
        try:
            head.update(own)
            return self._rows(latent)
        finally:
            head.update(kept)

    def _rows(self, latent: Tensor) -> Tensor:
        network = self._network[0]
        if self.stop - self.start == network.out_features:
            return network.output(latent)
        # SB3 asks for the slices in their order
        return network.output(latent, again=self.stop < network.out_features)[..., self.start : self.stop]

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        pass

    def _load_from_state_dict(self, *args: Any) -> None:
        pass


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
