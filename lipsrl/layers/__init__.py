"""Constrained layers: one file per constraint, the same contract for all.

``LAYERS`` and ``ACTIVATIONS`` map the names that users write to classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from lipsrl.layers._base import Factors, LipschitzLayer
from lipsrl.layers._linalg import operator_norm, spectral_norm
from lipsrl.layers.activations import ACTIVATIONS, activation_name, max_slope
from lipsrl.layers.aol import AOL
from lipsrl.layers.bjorck import Bjorck
from lipsrl.layers.budget import (
    BUDGETS,
    GROWTHS,
    STARTS,
    GrowingGains,
    LearnedBudget,
    Shares,
    growing_bounds,
    layer_bounds,
    start_norms,
)
from lipsrl.layers.cayley import Cayley
from lipsrl.layers.convolution import SpectralConv2d
from lipsrl.layers.expm import Expm
from lipsrl.layers.linf import LInf
from lipsrl.layers.optimizer import project_after_step
from lipsrl.layers.orthogonal import Orthogonal
from lipsrl.layers.rescaled import Rescaled
from lipsrl.layers.sandwich import Sandwich
from lipsrl.layers.sandwich_cayley import SandwichCayley
from lipsrl.layers.sll import SLL
from lipsrl.layers.spectral import Spectral

#: name → class of every constrained layer.
LAYERS: Mapping[str, type[LipschitzLayer]] = MappingProxyType(
    {
        cls.name: cls
        for cls in (
            Spectral,
            Rescaled,
            Orthogonal,
            Sandwich,
            Cayley,
            SandwichCayley,
            Bjorck,
            AOL,
            SLL,
            Expm,
            LInf,
        )
    }
)

#: norm → class of the last layer of a network, which may shrink.
HEADS: Mapping[str, type[LipschitzLayer]] = MappingProxyType({"l2": Spectral, "linf": LInf})

__all__ = [
    "ACTIVATIONS",
    "AOL",
    "BUDGETS",
    "GROWTHS",
    "HEADS",
    "LAYERS",
    "SLL",
    "STARTS",
    "Bjorck",
    "Cayley",
    "Expm",
    "Factors",
    "GrowingGains",
    "LInf",
    "LearnedBudget",
    "LipschitzLayer",
    "Orthogonal",
    "Rescaled",
    "Sandwich",
    "SandwichCayley",
    "Shares",
    "Spectral",
    "SpectralConv2d",
    "activation_name",
    "growing_bounds",
    "layer_bounds",
    "max_slope",
    "operator_norm",
    "project_after_step",
    "spectral_norm",
    "start_norms",
]
