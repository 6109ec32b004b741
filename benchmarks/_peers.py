"""The constrained linear layers of other libraries, each as its own documentation builds it.

What is not installed is skipped: ``pip install -e '.[peers]'``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrizations


@dataclass(frozen=True)
class Peer:
    """Another library's layer, at most 1-Lipschitz in l2 by its own account.

    Attributes:
        linear: (in_features, out_features) → a parametrized ``nn.Linear``.
        note: what a reader of its times has to know.
        package: top-level import name, ``None`` for what torch brings along.
        distribution: the same on PyPI.
    """

    linear: Callable[[int, int], nn.Module]
    note: str
    package: str | None = None
    distribution: str | None = None

    def why_absent(self) -> str | None:
        """Why this peer cannot run here, or ``None`` if it can."""
        try:
            self.linear(3, 2)(torch.ones(1, 3)).sum().backward()
        except ModuleNotFoundError as error:
            if self.package is not None and (error.name or "").split(".")[0] == self.package:
                return f"{self.distribution} is not installed: pip install -e '.[peers]'"
            return f"{self.distribution} does not import: {error}"
        except Exception as error:  # whatever another torch version breaks in it
            return f"{self.distribution} does not run with torch {torch.__version__}: {error}"
        return None

    def version(self) -> str:
        """Version of the distribution, or of torch."""
        return importlib.metadata.version(self.distribution or "torch")


def _torch_spectral_norm(n_in: int, n_out: int) -> nn.Module:
    return parametrizations.spectral_norm(nn.Linear(n_in, n_out))


def _torch_cayley(n_in: int, n_out: int) -> nn.Module:
    return parametrizations.orthogonal(nn.Linear(n_in, n_out), orthogonal_map="cayley")


def _torch_matrix_exp(n_in: int, n_out: int) -> nn.Module:
    return parametrizations.orthogonal(nn.Linear(n_in, n_out), orthogonal_map="matrix_exp")


def _torchlip(n_in: int, n_out: int) -> nn.Module:
    torchlip: Any = importlib.import_module("deel.torchlip")
    layer: nn.Module = torchlip.SpectralLinear(n_in, n_out)
    return layer


def _orthogonium(n_in: int, n_out: int) -> nn.Module:
    layers: Any = importlib.import_module("orthogonium.layers")
    layer: nn.Module = layers.OrthoLinear(n_in, n_out)
    return layer


def _geotorch(n_in: int, n_out: int) -> nn.Module:
    geotorch: Any = importlib.import_module("geotorch")
    layer: nn.Module = geotorch.orthogonal(nn.Linear(n_in, n_out), "weight")
    return layer


#: name → peer.
PEERS = {
    "torch-spectral-norm": Peer(
        _torch_spectral_norm,
        "not a bound: divides by a power iteration's estimate, which is never above the true norm",
    ),
    "torch-cayley": Peer(_torch_cayley, "parametrizations.orthogonal(orthogonal_map='cayley')"),
    "torch-matrix-exp": Peer(_torch_matrix_exp, "parametrizations.orthogonal(orthogonal_map='matrix_exp')"),
    "torchlip": Peer(
        _torchlip,
        "SpectralLinear: power iteration, then Björck; eval mode acts with the weights of the last training forward, "
        "one optimizer step behind",
        "deel",
        "deel-torchlip",
    ),
    "orthogonium": Peer(
        _orthogonium,
        "OrthoLinear: power iteration, then 12 Björck steps, in eval mode too",
        "orthogonium",
        "orthogonium",
    ),
    "geotorch": Peer(
        _geotorch, "orthogonal with its default map, the matrix exponential", "geotorch", "geotorch"
    ),
}
