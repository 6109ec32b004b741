"""Batch (re)normalisation at rest: the affine map of evaluation mode, put into the linear layers beside it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lipsrl.layers._plain import plain_linear


class Affine(nn.Module):
    """``x ↦ gain·x + offset``, unit by unit, float64: what :func:`fold` puts elsewhere."""

    gain: Tensor
    offset: Tensor

    def __init__(self, gain: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.register_buffer("gain", gain)
        self.register_buffer("offset", offset)

    def then(self, other: Affine) -> Affine:
        """``other`` after this one."""
        return Affine(other.gain * self.gain, other.gain * self.offset + other.offset)

    def linear(self) -> nn.Linear:
        """As a diagonal layer."""
        return plain_linear(torch.diag(self.gain), self.offset)


def is_batch_norm(module: nn.Module) -> bool:
    """Whether ``module`` is exactly torch's ``BatchNorm1d`` or sb3-contrib's batch renormalisation."""
    contrib = sys.modules.get("sb3_contrib.common.torch_layers")
    known = [nn.BatchNorm1d, *(getattr(contrib, name, None) for name in ("BatchRenorm", "BatchRenorm1d"))]
    return type(module) in known


@torch.no_grad()
def affine_of(module: Any) -> Affine:
    """What the normalisation layer ``module`` does in evaluation mode: ``scale·(x - mean)/√(var + eps) + bias``.

    Raises:
        ValueError: it normalises by the batch, or its running statistics are no mean and variance.
    """
    name = type(module).__name__
    renorm = not isinstance(module, nn.BatchNorm1d)
    mean, var = (module.ra_mean, module.ra_var) if renorm else (module.running_mean, module.running_var)
    if module.training or mean is None or var is None:
        why = "is in training mode" if module.training else "keeps no running statistics"
        raise ValueError(
            f"A {name} in the actor {why}: it normalises by the other observations of the batch, so the action is no "
            "function of the observation. Put it in evaluation mode (policy.set_training_mode(False)), with running "
            "statistics."
        )
    mean, square = mean.detach().double(), var.detach().double() + float(module.eps)
    if not bool((torch.isfinite(mean) & torch.isfinite(square) & (square > 0)).all()):
        raise ValueError(
            f"The running statistics of a {name} in the actor are not finite, or its variance is not positive, so "
            "nothing can be certified. Load a checkpoint from before the training diverged."
        )
    scale, bias = (module.scale, module.bias) if renorm else (module.weight, module.bias)
    gain = square.rsqrt()
    if scale is not None and module.affine:
        gain = gain * scale.detach().double()
    offset = -mean * gain
    if bias is not None and module.affine:
        offset = offset + bias.detach().double()
    return Affine(gain, offset)


@torch.no_grad()
def fold(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """The chain without its :class:`Affine` maps: each goes into the linear layer before it, or into the next.

    Layers that took one are float64. Where an activation stands on both sides a diagonal layer takes its place.
    """
    result: list[nn.Module] = []
    waiting: Affine | None = None
    for module in modules:
        if isinstance(module, Affine):
            last = result[-1] if result else None
            if waiting is not None:
                waiting = waiting.then(module)
            elif type(last) is nn.Linear:
                result[-1] = _before(last, module)
            else:
                waiting = module
        elif waiting is not None and type(module) is nn.Linear:
            result.append(_after(waiting, module))
            waiting = None
        else:
            if waiting is not None and not isinstance(module, nn.Identity):
                result.append(waiting.linear())
                waiting = None
            result.append(module)
    if waiting is not None:
        result.append(waiting.linear())
    return result


def _before(linear: nn.Linear, affine: Affine) -> nn.Linear:
    return plain_linear(
        linear.weight.double() * affine.gain.unsqueeze(1), affine.gain * _bias(linear) + affine.offset
    )


def _after(affine: Affine, linear: nn.Linear) -> nn.Linear:
    weight = linear.weight.double()
    return plain_linear(weight * affine.gain, weight @ affine.offset + _bias(linear))


def _bias(linear: Any) -> Tensor:
    weight: Tensor = linear.weight
    return weight.new_zeros(len(weight)).double() if linear.bias is None else linear.bias.double()
