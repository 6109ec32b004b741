"""How far rounding can carry the output of a plain network away from real arithmetic."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lipsrl.layers import max_slope
from lipsrl.layers._activation_modules import Grouped
from lipsrl.layers._plain import Parallel, Residual, Scale


@torch.no_grad()
def rounding_error(
    network: Iterable[nn.Module], x: Tensor, error: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Output (n, out) at ``x`` (n, in) and a bound of each entry's absolute rounding error, first order.

    Forward error analysis (Higham 2002, section 3.1): ``|fl(Wh + b) - (Wh + b)| ≤ γ(|W||h| + |b|)``. Biases of 1e10
    that cancel leave an error of 1e-6 in float64, whatever the size of the output. Products that underflow lose an
    absolute amount (section 2.1).

    Args:
        error: (n, in) error that ``x`` has already.
        eps: unit of the arithmetic to judge, 2.2e-16 for float64.
    """
    for module in network:
        if isinstance(module, nn.Linear):
            weight = module.weight.detach().to(x.dtype)
            bias = getattr(module, "bias", None)
            bias = torch.zeros_like(weight[:, 0]) if bias is None else bias.detach().to(x.dtype)
            gamma, lost = ((weight.shape[1] + 2) * unit for unit in (eps, _smallest(eps)))
            error = error @ weight.abs().mT + gamma * (x.abs() @ weight.abs().mT + bias.abs()) + lost
            x = nn.functional.linear(x, weight, bias)
        elif isinstance(module, nn.Conv2d):
            x, error = _convolution_error(module, x, error, eps)
        elif isinstance(module, (nn.Flatten, nn.Unflatten)):
            x, error = module(x), module(error)
        elif isinstance(module, Scale):
            x, error = module(x), error * abs(module.factor) + eps * module(x).abs()
        elif isinstance(module, Parallel):
            values, errors = (torch.split(t, list(module.sizes), -1) for t in (x, error))
            done = []
            for part, value, wrong in zip(module.branches, values, errors, strict=True):
                assert isinstance(part, nn.Sequential)
                done.append(rounding_error(part, value, wrong, eps))
            x, error = (torch.cat([pair[i] for pair in done], dim=-1) for i in (0, 1))
        elif isinstance(module, Residual):
            branch, branch_error = rounding_error(module.branch, x, error, eps)
            skip, skip_error = rounding_error([module.skip], x, error, eps)
            x = branch + skip
            error = branch_error + skip_error + eps * x.abs()
        else:
            y = module(x)
            slope = max_slope(module)
            own = 4 * eps * (x.abs() + y.abs())
            if isinstance(module, Grouped):  # an output follows every input of its group
                error, own = module.spread(error), 2 * module.spread(own)
            error = error * (1.0 if slope is None else slope) + own
            x = y
    return x, error


def _convolution_error(conv: nn.Conv2d, x: Tensor, error: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    weight = conv.weight.detach().to(x.dtype)
    bias = torch.zeros_like(weight[:, 0, 0, 0]) if conv.bias is None else conv.bias.detach().to(x.dtype)

    def convolve(signal: Tensor, kernel: Tensor, offset: Tensor | None) -> Tensor:
        return nn.functional.conv2d(
            signal, kernel, offset, conv.stride, conv.padding, conv.dilation, conv.groups
        )

    gamma, lost = ((weight[0].numel() + 2) * unit for unit in (eps, _smallest(eps)))
    grown = convolve(error, weight.abs(), None) + gamma * convolve(x.abs(), weight.abs(), bias.abs()) + lost
    return convolve(x, weight, bias), grown


def _smallest(eps: float) -> float:
    """What a product may lose where it underflows: the smallest normal number of the arithmetic."""
    dtype = torch.float32 if eps >= torch.finfo(torch.float32).eps else torch.float64
    return torch.finfo(dtype).tiny
