"""What the tests need to know of every constraint family: its norm, its activations, and how to climb its slope."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lipsrl.layers import ACTIVATIONS, LAYERS, LipschitzLayer, Sandwich
from lipsrl.layers.activations import L2_ONLY, UNIT_SLOPE
from lipsrl.layers.sandwich import balanced_stack

FAMILIES = sorted(LAYERS)
L2_FAMILIES = [name for name in FAMILIES if LAYERS[name].norm == "l2"]
PROJECTED = [name for name in FAMILIES if LAYERS[name].projected]


def covers(family: str, activation: str) -> bool:
    """Whether the family's proof covers the activation."""
    cls = LAYERS[family]
    if cls.needs_unit_slope and activation not in UNIT_SLOPE:
        return False
    return cls.norm == "l2" or activation not in L2_ONLY


#: Every pair of names that may be combined.
COMBINATIONS = [(f, a) for f in FAMILIES for a in sorted(ACTIVATIONS) if covers(f, a)]


def in_turn(*factors: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Combinations in which each value of the first two factors meets, and those of the others take turns.

    A third of the cross product where the third has three values. For what has no interaction of three to go wrong.
    """
    pairs = itertools.product(*(list(enumerate(factor)) for factor in factors[:2]))
    return [
        (a, b, *(factor[(i + j * k) % len(factor)] for k, factor in enumerate(factors[2:], 1)))
        for (i, a), (j, b) in pairs
    ]


def every_nth(combinations: Sequence[tuple[Any, Any]], n: int) -> list[tuple[Any, Any]]:
    """Some of the pairs, diagonally: about one in ``n``, every value of either side among them.

    Raises:
        ValueError: a value would be left out.
    """
    first, second = (list(dict.fromkeys(pair[side] for pair in combinations)) for side in (0, 1))
    some = [(a, b) for a, b in combinations if (first.index(a) + second.index(b)) % n == 0]
    if {a for a, _ in some} != set(first) or {b for _, b in some} != set(second):
        raise ValueError(f"n={n} leaves values out. Take a smaller one.")
    return some


def norm_of(family: str) -> dict[str, str]:
    """Keyword arguments that say the family's norm."""
    return {"norm": LAYERS[family].norm}


def matrix_norm(matrices: torch.Tensor, norm: str) -> torch.Tensor:
    """Operator norm of (…, m, n) in the family's norm."""
    return torch.linalg.matrix_norm(matrices, ord=2 if norm == "l2" else math.inf)


def steepest(module: nn.Module, in_features: int, norm: str = "l2", rounds: int = 30) -> float:
    """Largest Jacobian norm found in float64 by hill climbing on a copy: never above a sound bound."""
    double = copy.deepcopy(module).double()
    x = torch.randn(256, in_features, dtype=torch.float64) * torch.logspace(-2, 1, 256).unsqueeze(1).double()
    best = torch.zeros(256, dtype=torch.float64)
    for _ in range(rounds):
        moved = x + torch.randn_like(x) * 10 ** float(torch.rand(()) * 3 - 2)
        leaf = moved.clone().requires_grad_(True)
        y = double(leaf)
        rows = [torch.autograd.grad(y[:, i].sum(), leaf, retain_graph=True)[0] for i in range(y.shape[1])]
        slope = matrix_norm(torch.stack(rows, dim=1), norm)
        better = slope > best
        x, best = torch.where(better.unsqueeze(1), moved, x), torch.where(better, slope, best)
    return float(best.max())


def push(module: nn.Module, optimizer: torch.optim.Optimizer, in_features: int, steps: int) -> None:
    """Train the module to be as steep as it can."""
    for _ in range(steps):
        y = module(torch.randn(16, in_features))
        loss = -(y[1:] - y[:-1]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def matrices(layer: LipschitzLayer) -> list[nn.Parameter]:
    """The layer's weight matrices."""
    return [p for p in layer.parameters() if p.ndim == 2]


def open_gains(network):
    """Give each layer all that it may have, so that a large last layer stands on the bound."""
    if getattr(network.shares, "log_gains", None) is not None:
        with torch.no_grad():
            network.shares.log_gains.zero_()
    for layer in network.layers:
        if isinstance(layer, Sandwich):  # it starts as flat as its plain twin
            with torch.no_grad():
                layer.stack.copy_(layer.held * balanced_stack(layer.in_features, layer.out_features))
                if layer.log_psi is not None:
                    layer.log_psi.zero_()
