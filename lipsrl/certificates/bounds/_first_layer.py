"""A network cut behind its first linear map: what windows of frames are folded into."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lipsrl.actors.pipeline import Pipeline
from lipsrl.layers.product import product_bound


@dataclass(frozen=True)
class FirstLayer:
    """``observation / unit ↦ action`` is a map with Lipschitz constant ``rest`` behind ``weight``.

    Attributes:
        weight: (features, obs) float64, gains and units folded in.
        rest: upper bound in the norm that was asked for.
    """

    weight: Tensor
    rest: float


def first_layer(pipeline: Pipeline, unit: Tensor, norm: str) -> FirstLayer | None:
    """Of the actor, or ``None`` where something else than a linear map comes first.

    Args:
        unit: (obs,) that a change of each raw coordinate is measured in.
        norm: ``"l2"``, ``"linf"`` or ``"l1"``.
    """
    modules = [m for m in pipeline.front.tail if not isinstance(m, (nn.Flatten, nn.Identity))]
    if not modules or not isinstance(modules[0], nn.Linear) or not pipeline.front.diagonal:
        return None
    weight = modules[0].weight.detach().double()
    weight = weight * pipeline.front.gain(torch.as_tensor(pipeline.gain) * unit, norm)
    half = pipeline.parts.half_range
    output = None if half is None else torch.as_tensor(half)
    rest = modules[1:]
    if not rest:
        return FirstLayer(weight if output is None else weight * output.unsqueeze(1), 1.0)
    return FirstLayer(weight, product_bound(rest, output, norm=norm))
