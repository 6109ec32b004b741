"""How steep the map can be near given states: slope ranges by interval propagation, then LipSDP with them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lipsrl.actors.pipeline import Pipeline
from lipsrl.certificates.bounds._chain import Chain, chain_of, slope_range
from lipsrl.certificates.bounds._lipsdp import lipsdp_bound
from lipsrl.layers import spectral_norm
from lipsrl.layers._linalg import EPS64

#: Local semidefinite programs are solved to this relative gap: there is one per state.
LOCAL_GAP = 1e-2


class Clip(nn.Module):
    """``min(max(x, low), high)`` per coordinate, as SB3's ``predict`` clips actions to the Box."""

    def __init__(self, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(self.low, self.high)


def _local_slopes(module: nn.Module, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor] | None:
    """Smallest and largest slope of an elementwise activation over [low, high], per unit; ``None`` if unknown."""
    one, zero = torch.ones_like(low), torch.zeros_like(low)
    if isinstance(module, Clip):
        inside = (low > module.low) & (high < module.high)
        outside = (high < module.low) | (low > module.high)
        return torch.where(inside, one, zero), torch.where(outside, zero, one)
    if isinstance(module, (nn.ReLU, nn.LeakyReLU)):
        negative = float(getattr(module, "negative_slope", 0.0))
        left, right = torch.full_like(low, negative), one
        smallest, largest = torch.minimum(left, right), torch.maximum(left, right)
        smallest = torch.where(low > 0, right, torch.where(high < 0, left, smallest))
        largest = torch.where(low > 0, right, torch.where(high < 0, left, largest))
        return smallest, largest
    if isinstance(module, nn.Tanh):
        nearest = torch.where((low <= 0) & (high >= 0), zero, torch.minimum(low.abs(), high.abs()))
        farthest = torch.maximum(low.abs(), high.abs())
        slack = 8 * EPS64
        steep = 1 - torch.tanh(nearest) ** 2 + slack
        flat = (1 - torch.tanh(farthest) ** 2 - slack).clamp_min(0.0)
        return flat, steep.clamp(max=1.0)
    found = slope_range(module)
    return None if found is None else (torch.full_like(low, found[0]), torch.full_like(low, found[1]))


def _value_range(
    module: nn.Module, low: Tensor, high: Tensor, slopes: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Range of the activation over [low, high], rounded outward."""
    a, b = module(low), module(high)
    smallest, largest = torch.minimum(a, b), torch.maximum(a, b)
    if bool((slopes[0] < 0).any()):  # not monotone: the mean value theorem from the midpoint
        middle, half = (low + high) / 2, (high - low) / 2
        steepest = torch.maximum(slopes[0].abs(), slopes[1].abs())
        smallest, largest = module(middle) - steepest * half, module(middle) + steepest * half
    slack = 8 * EPS64 * (1 + torch.maximum(smallest.abs(), largest.abs()))
    return smallest - slack, largest + slack


def _modules(pipeline: Pipeline) -> list[nn.Module]:
    """The network with what follows it as layers: their slopes may be small near a state too."""
    modules: list[nn.Module] = list(pipeline.front.tail)
    parts = pipeline.parts
    if parts.squash:
        modules.append(nn.Tanh())
    if parts.half_range is not None:
        scale = nn.Linear(len(parts.half_range), len(parts.half_range), bias=False).double()
        with torch.no_grad():
            scale.weight.copy_(torch.diag(torch.as_tensor(parts.half_range)))
        modules.append(scale)
    if parts.clip is not None:
        modules.append(Clip(*(torch.as_tensor(bound) for bound in parts.clip)))
    return modules


@torch.no_grad()
def local_bounds(pipeline: Pipeline, states: Tensor, radius: float, fallback: float, scale: Tensor) -> Tensor:
    """For each state, an upper bound of the slope between any two observations within ``radius`` of it (l2).

    Args:
        states: (n, obs) raw observations, float64.
        radius: of the ball, in units of ``scale``.
        fallback: a bound that holds everywhere, in units of ``scale``; none returned is larger.
        scale: (obs,) unit of each sensor.

    Returns:
        (n,) bounds, action per unit of ``scale``.
    """
    modules = _modules(pipeline)
    clips = [module for module in modules if isinstance(module, Clip)]
    chain = chain_of([nn.Hardtanh() if isinstance(m, Clip) else m for m in modules])
    if not pipeline.front.diagonal:
        raise ValueError(
            "states and radius need vector observations: local bounds of images are not available."
        )
    bounds = torch.full((len(states),), fallback, dtype=torch.float64)
    if chain is None or len(clips) > 1:
        return bounds
    for i, state in enumerate(states):
        narrowed = _narrow(pipeline, modules, chain, state, radius, scale)
        if narrowed is not None:
            found = lipsdp_bound(narrowed, gap=LOCAL_GAP)
            if found is not None:
                bounds[i] = min(fallback, found.lipschitz)
    return bounds


def _narrow(
    pipeline: Pipeline, modules: list[nn.Module], chain: Chain, state: Tensor, radius: float, scale: Tensor
) -> Chain | None:
    """The chain with the slope ranges of the ball around ``state``."""
    front = pipeline.front.gain(torch.ones_like(state), "l2")  # scales single coordinates only
    own = torch.as_tensor(pipeline.gain) * front
    gain = own * scale  # features per unit of the ball
    centre = (state - torch.as_tensor(pipeline.mean)) * own
    reach = radius * gain * (1 + 1e-12)
    clip = torch.as_tensor(pipeline.limit) * front
    low, high = ((centre + side * reach).clamp(-clip, clip) for side in (-1, 1))
    first_low, first_high = chain.low, chain.high
    lows: list[Tensor] = []
    highs: list[Tensor] = []
    middle = pipeline.normalise(state.unsqueeze(0)).squeeze(0) * front
    size = radius * spectral_norm(torch.diag(gain))  # l2 distance of the layer's input from its middle
    ball: Tensor | None = gain  # the first layer sees an ellipsoid, which is smaller than its box
    for module in modules:
        if isinstance(module, nn.Linear):
            if len(lows) < _linear_index(modules, module):
                lows.append(torch.ones_like(low))
                highs.append(torch.ones_like(low))
            weight = module.weight.double()
            bias = torch.zeros_like(weight[:, 0])
            if getattr(module, "bias", None) is not None:
                bias = module.bias.double()
            value = weight @ middle + bias
            box_centre, box_half = (low + high) / 2, (high - low) / 2
            box_value, box_reach = weight @ box_centre + bias, weight.abs() @ box_half
            rows = (weight * ball if ball is not None else weight).norm(dim=1)
            ball_reach = rows * (radius if ball is not None else size)
            slack = (
                64
                * EPS64
                * weight.shape[1]
                * (1 + value.abs() + weight.abs() @ torch.maximum(low.abs(), high.abs()))
            )
            low = torch.maximum(box_value - box_reach, value - ball_reach) - slack
            high = torch.minimum(box_value + box_reach, value + ball_reach) + slack
            size = size * spectral_norm(weight) if ball is None else radius * spectral_norm(weight * ball)
            ball, middle = None, value
        elif not isinstance(module, (nn.Flatten, nn.Identity)):
            slopes = _local_slopes(module, low, high)
            if slopes is None:
                return None
            lows.append(slopes[0])
            highs.append(slopes[1])
            size = size * float(torch.maximum(slopes[0].abs(), slopes[1].abs()).max())
            low, high = _value_range(module, low, high, slopes)
            middle = module(middle)
    if len(lows) != len(first_low) or not math.isfinite(size):
        return None
    # where the clip of VecNormalize holds a sensor throughout the ball, the policy does not feel it
    dead = ((centre - reach) >= clip) | ((centre + reach) <= -clip)
    narrowed = Chain(chain.weights, tuple(lows), tuple(highs))
    assert all(a.shape == b.shape for a, b in zip(narrowed.low, first_low, strict=True))
    assert all(a.shape == b.shape for a, b in zip(narrowed.high, first_high, strict=True))
    return narrowed.scaled(torch.where(dead, torch.zeros_like(gain), gain))


def _linear_index(modules: list[nn.Module], module: nn.Module) -> int:
    """Number of linear maps before ``module``."""
    return sum(isinstance(m, nn.Linear) for m in modules[: modules.index(module)])
