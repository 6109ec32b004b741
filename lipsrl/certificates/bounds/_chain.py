"""A plain network as the chain of linear maps and slope-restricted activations that LipSDP and ECLipsE speak of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lipsrl.layers import max_slope
from lipsrl.layers._activation_modules import Abs, Divided, Grouped
from lipsrl.layers._plain import Residual

#: Smallest slope of activations that fall somewhere, rounded down. SiLU's and GELU's slopes at x and -x add up to one.
_MIN_SLOPE: dict[type[nn.Module], float] = {
    nn.SiLU: -0.0998394,
    nn.GELU: -0.1289043,
    nn.Mish: -0.1125262,
    nn.Hardswish: -0.5,
}


@dataclass(frozen=True)
class Chain:
    """``x ↦ W_l φ_l(… φ_1(W_0 x + b_0) …)`` with elementwise activations of known slope.

    Attributes:
        weights: W_0 … W_l, float64, with every diagonal gain before and after the network folded in.
        low, high: for each hidden layer, (n_i,) smallest and largest slope of its units.
    """

    weights: tuple[Tensor, ...]
    low: tuple[Tensor, ...]
    high: tuple[Tensor, ...]

    @property
    def size(self) -> int:
        """Inputs and hidden units together."""
        return sum(weight.shape[1] for weight in self.weights)

    @property
    def monotone(self) -> bool:
        """Whether no slope is negative."""
        return all(bool((low >= 0).all()) for low in self.low)

    def scaled(self, input_gain: Tensor | None = None, output_gain: Tensor | None = None) -> Chain:
        """The chain between other units: its input is multiplied by ``input_gain`` (in,), its output by (out,).

        Also where a clip or a squashing of slope in [0, 1] acts on single coordinates in between: a diagonal passes it.
        """
        weights = list(self.weights)
        if input_gain is not None:
            weights[0] = weights[0] * input_gain.double()
        if output_gain is not None:
            weights[-1] = weights[-1] * output_gain.double().unsqueeze(1)
        return Chain(tuple(weights), self.low, self.high)

    def of_inputs(self, index: Tensor) -> Chain:
        """Of some inputs alone, the others held."""
        return Chain((self.weights[0][:, index], *self.weights[1:]), self.low, self.high)


def slope_range(module: nn.Module) -> tuple[float, float] | None:
    """Smallest and largest slope of an elementwise activation, or ``None`` if it is none or not known."""
    high = max_slope(module)
    if high is None or isinstance(module, (Grouped, Residual)):
        return None
    if isinstance(module, Abs):
        return -1.0, 1.0
    if isinstance(module, Divided):
        return -0.11419, 1.0  # GELU's falls most: 0.12890422/1.1289042
    if isinstance(module, nn.LeakyReLU):
        slope = float(module.negative_slope)
        return min(slope, 1.0), high
    if isinstance(module, nn.Identity):
        return 1.0, 1.0
    if isinstance(module, nn.ELU) and float(module.alpha) < 0:
        return None
    return _MIN_SLOPE.get(type(module), 0.0), high


@torch.no_grad()
def chain_of(network: Iterable[nn.Module]) -> Chain | None:
    """``network`` as a :class:`Chain`, or ``None`` where a part is not slope-restricted unit by unit.

    MaxMin, GroupSort and Householder mix units and residual blocks skip them: LipSDP's constraints as used here would
    be wrong for them. Two linear maps in a row have an activation of slope one between them.
    """
    weights: list[Tensor] = []
    slopes: list[tuple[float, float]] = []
    for module in network:
        if isinstance(module, nn.Linear):
            if len(slopes) < len(weights):
                slopes.append((1.0, 1.0))
            weights.append(module.weight.detach().double())
        elif not isinstance(module, (nn.Flatten, nn.Identity)):
            found = slope_range(module)
            if found is None or not weights:
                return None
            if len(slopes) == len(weights):
                weights.append(torch.eye(len(weights[-1]), dtype=torch.float64))
            slopes.append(found)
    if not weights:
        return None
    if len(slopes) == len(weights):
        weights.append(torch.eye(len(weights[-1]), dtype=torch.float64))
    sizes = [len(weight) for weight in weights[:-1]]
    low, high = (
        tuple(
            torch.full((n,), pair[side], dtype=torch.float64) for n, pair in zip(sizes, slopes, strict=True)
        )
        for side in (0, 1)
    )
    return Chain(tuple(weights), low, high)
