"""How a network's bound is laid out over its layers: what each may become, and how it holds its weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from lipsrl.layers import HEADS, LipschitzLayer, growing_bounds, layer_bounds
from lipsrl.layers._linalg import MARGIN


class Part(NamedTuple):
    """What a layer of a network may become, and how it holds its weights.

    Attributes:
        size: largest norm as a plain twin would have it.
        bound: the same in the network's own units.
        gain: initial norm as a share of it.
        unit: of the stored weights.
    """

    size: float
    bound: float
    gain: float = 1.0
    unit: float = 1.0


def with_reserve(bound: float, n_layers: int) -> float:
    """``bound``, less what the rounding of the merged float32 weights may carry the network over it.

    ``lipschitz_bound()`` adds that. It grows with depth as the product of the factors' norms does.
    """
    return bound * (1.0 - min(1e-2, MARGIN * n_layers * 2.0 ** (n_layers - 1)))


def shared_layout(
    bound: float, budget: str, layer_class: type[LipschitzLayer], norm: str, n_layers: int
) -> list[Part]:
    """Of the budgets that know no twin: each layer in its family's own unit.

    Args:
        bound: of the network, :func:`with_reserve`.
        budget: key of :data:`lipsrl.layers.BUDGETS`, not ``"growing"``.
        n_layers: the last one included, which is the norm's head.
    """
    own = [layer_class.own_unit] * (n_layers - 1) + [HEADS[norm].own_unit]
    bounds = layer_bounds(budget, bound, n_layers)
    return [Part(size, size, unit=unit(size)) for size, unit in zip(bounds, own, strict=True)]


def growing_layout(
    bound: float,
    sizes: Sequence[int],
    starts: Sequence[float],
    layer_class: type[LipschitzLayer],
    input_unit: float,
    output_unit: float,
    growth: str,
) -> list[Part]:
    """Of ``budget="growing"``: each layer starts as its plain twin and may grow.

    Args:
        bound: of the network, :func:`with_reserve`.
        sizes: features from the input to the output.
        starts: norm of each layer of the twin at its start.
        input_unit, output_unit: of an input as the twin receives it, and of the output.
        growth: of :func:`~lipsrl.layers.growing_bounds`.
    """
    parts = []
    # in the twin's units
    bounds = growing_bounds(bound / (input_unit * output_unit), sizes, starts, growth)
    for i, (size, start) in enumerate(zip(bounds, starts, strict=True)):
        last = i == len(bounds) - 1
        unit = (input_unit if i == 0 else 1.0) * (output_unit if last else 1.0)
        if last or layer_class.shrinks:
            parts.append(Part(size, size * unit, min(1.0, start / size), unit))
        else:  # its gain grows from start to size, and with it how far a step turns the layer: right in the middle
            parts.append(Part(size, size * unit, 1.0, unit * math.sqrt(size / start)))
    return parts


def in_own_units(
    plain: Sequence[nn.Linear], input_unit: float, output_scale: Tensor | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """(weight, bias) of each layer of a twin, in the network's units instead of the twin's.

    Args:
        input_unit: as :func:`growing_layout`.
        output_scale: (out,) that the network's output is divided by, or ``None``.
    """
    for i, twin in enumerate(plain):
        weight, bias = twin.weight.detach(), twin.bias.detach()
        if i == len(plain) - 1 and output_scale is not None:
            weight, bias = weight * output_scale.unsqueeze(1), bias * output_scale
        if i == 0:
            weight = weight * input_unit
        yield weight, bias
