"""Upper bounds of a plain network's Lipschitz constant, each sound in float64."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lipsrl.layers import max_slope, operator_norm
from lipsrl.layers._activation_modules import Grouped, Householder
from lipsrl.layers._convolution import conv2d_norm
from lipsrl.layers._linalg import EPS64
from lipsrl.layers._plain import Parallel, Residual, Scale


def product_bound(
    network: Iterable[nn.Module],
    output_weight: Tensor | None = None,
    input_weight: Tensor | None = None,
    *,
    norm: str = "l2",
) -> float:
    """Product of the layers' float64 operator norms and the activations' steepest slopes.

    Szegedy et al. 2014, section 4.3. Sound for every feed-forward chain, and usually loose. A residual block counts
    ``‖S‖`` plus the product of its branch, an activation on groups of units its joint Lipschitz constant.

    Args:
        network: ``nn.Linear``s, activations, residual blocks of them and shape-only modules.
        output_weight: (out,) factors of the outputs. They are folded into the last linear layer if only
            activations that act unit by unit follow, because these let a diagonal pass.
        input_weight: (in,) factors of the inputs, folded into the first layer where that is linear.
        norm: ``"l2"``, ``"linf"`` or ``"l1"``.

    Raises:
        ValueError: a module whose Lipschitz constant is not known in ``norm``; names it.
    """
    modules = [m for m in network if not isinstance(m, (nn.Flatten, nn.Unflatten, nn.Identity))]
    mixing = [
        i for i, m in enumerate(modules) if isinstance(m, (nn.Linear, nn.Conv2d, Residual, Grouped, Parallel))
    ]
    last = max(mixing, default=0)
    bound = 1.0
    if input_weight is not None and not (modules and isinstance(modules[0], nn.Linear)):
        bound *= float(input_weight.abs().max())
    for i, module in enumerate(modules):
        weight = output_weight if i == last else None
        if isinstance(module, nn.Linear):
            matrix = module.weight.detach().double()
            if i == 0 and input_weight is not None:
                matrix = matrix * input_weight.double()
            bound *= operator_norm(matrix if weight is None else matrix * weight.double().unsqueeze(1), norm)
        else:
            bound *= _lipschitz_constant(module, norm) * (
                1.0 if weight is None else float(weight.abs().max())
            )
    return bound * (1.0 + 8 * EPS64 * (len(modules) + 1))


def _lipschitz_constant(module: nn.Module, norm: str) -> float:
    """Of a module between linear layers."""
    if isinstance(module, Residual):
        return product_bound([module.skip], norm=norm) + product_bound(module.branch, norm=norm)
    if isinstance(module, Scale):
        return abs(module.factor)
    if isinstance(module, nn.Conv2d):
        return conv2d_norm(module) if norm == "l2" else _convolution_sum(module, norm)
    if isinstance(module, Parallel):  # side by side: the steepest branch
        return max(product_bound(branch, norm=norm) for branch in module.branches)  # type: ignore[arg-type]
    slope = max_slope(module)
    if slope is None or (norm != "l2" and isinstance(module, Householder)):
        raise ValueError(
            f"{type(module).__name__} in the actor has no known Lipschitz constant in the {norm} norm, so the model "
            "cannot be certified. Use one of the activations of lipsrl.layers.ACTIVATIONS."
        )
    return slope


@torch.no_grad()
def _convolution_sum(conv: nn.Conv2d, norm: str) -> float:
    """l-inf: each output is a sum over its kernel. l1: each input reaches every output channel through every tap."""
    weight = conv.weight.double().abs()
    sums = weight.sum(dim=(1, 2, 3)) if norm == "linf" else weight.sum(dim=(0, 2, 3))
    if conv.groups > 1 and norm == "l1":
        sums = sums * conv.groups  # loose: channels of different groups are summed together
    return float(sums.max()) * (1.0 + 8 * EPS64 * weight[0].numel())
