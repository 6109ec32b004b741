"""What stands before the first linear layer: reshaping, scaling, convolutions, the entries of a Dict side by side."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from lipsrl.layers._plain import Parallel, Residual, Scale
from lipsrl.layers.product import product_bound

_RESHAPING = (nn.Flatten, nn.Unflatten, nn.Identity)


@dataclass(frozen=True)
class Front:
    """A network cut before its first linear layer.

    Attributes:
        modules: before it.
        tail: from it on.
    """

    modules: tuple[nn.Module, ...]
    tail: nn.Sequential
    _known: dict[tuple[int, str], float] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, network: nn.Sequential) -> Front:
        """Cut ``network``; nothing stands before where it begins with a layer or an activation."""
        modules = list(network)
        cut = next((i for i, m in enumerate(modules) if isinstance(m, (nn.Linear, Residual))), 0)
        known = any(isinstance(m, (nn.Conv2d, Parallel, Scale, *_RESHAPING)) for m in modules[:cut])
        cut = cut if known else 0
        return cls(tuple(modules[:cut]), nn.Sequential(*modules[cut:]))

    @property
    def diagonal(self) -> bool:
        """Whether every feature is one coordinate of the observation, scaled."""
        return _diagonal(self.modules)

    def gain(self, gain: Tensor, norm: str) -> Tensor:
        """(features,) g with ``Δfeatures = g ⊙ u``, ‖u‖ ≤ ‖Δx‖, for the input ``gain ⊙ x`` (float64, sound).

        A coordinate that is only scaled keeps its own gain; the features of an image share the Lipschitz constant of
        what they go through times the largest gain of a pixel. Side by side, ``Σ_k ‖u_k‖² ≤ Σ_k ‖Δx_k‖²``.
        """
        return _gain(self.modules, gain.double(), norm, self._known)

    def owners(self, index: Tensor) -> Tensor:
        """(features,) ``index`` (obs,) of the coordinate that a feature comes from; -1 where it comes from several."""
        return _owners(self.modules, index)


def _owners(modules: tuple[nn.Module, ...], index: Tensor) -> Tensor:
    for module in modules:
        if isinstance(module, Parallel):
            slices = torch.split(index, list(module.sizes))
            pairs = zip(module.branches, slices, strict=True)
            index = torch.cat([_owners(tuple(_branch(branch)), part) for branch, part in pairs])
    if _diagonal(modules) or any(isinstance(m, Parallel) for m in modules):
        return index
    alike = bool((index == index[0]).all())
    return torch.full((_features(modules, len(index)),), int(index[0]) if alike else -1)


@torch.no_grad()
def _features(modules: tuple[nn.Module, ...], inputs: int) -> int:
    return int(nn.Sequential(*modules)(torch.zeros(1, inputs, dtype=torch.float64)).shape[1])


def _diagonal(modules: tuple[nn.Module, ...]) -> bool:
    return all(
        isinstance(m, (Scale, *_RESHAPING))
        or (isinstance(m, Parallel) and all(_diagonal(tuple(_branch(b))) for b in m.branches))
        for m in modules
    )


def _branch(module: nn.Module) -> list[nn.Module]:
    assert isinstance(module, nn.Sequential)
    return list(module)


def _gain(
    modules: tuple[nn.Module, ...], gain: Tensor, norm: str, known: dict[tuple[int, str], float]
) -> Tensor:
    if not _diagonal(modules) and not any(isinstance(m, Parallel) for m in modules):
        features = _features(modules, len(gain))
        key = (id(modules[0]), norm)  # the norm of a convolution takes a while
        if key not in known:
            known[key] = product_bound(modules, norm=norm)
        return torch.full((features,), float(gain.max()) * known[key] * (1 + 1e-15), dtype=torch.float64)
    for module in modules:
        if isinstance(module, Scale):
            gain = gain * abs(module.factor) * (1 + 4e-16)
        elif isinstance(module, Parallel):
            slices = torch.split(gain, list(module.sizes))
            pairs = zip(module.branches, slices, strict=True)
            gain = torch.cat([_gain(tuple(_branch(branch)), part, norm, known) for branch, part in pairs])
    return gain
