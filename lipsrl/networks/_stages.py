"""A network as it is evaluated: a chain of plain stages, and what rounding adds to its Lipschitz constant."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lipsrl.layers import LipschitzLayer, operator_norm
from lipsrl.layers._linalg import EPS64
from lipsrl.layers._plain import Residual, plain_linear

Activation = Callable[[Tensor], Tensor]


class Stage(NamedTuple):
    """``x ↦ S x + W_out φ(W x + b)``; ``None`` for an identity φ or ``W_out`` and for a zero S."""

    weight: Tensor
    bias: Tensor
    activation: Activation | None = None
    output: Tensor | None = None
    skip: Tensor | None = None

    def detach(self) -> Stage:
        """Without gradient, sharing memory."""
        return self.map(Tensor.detach)

    def clone(self) -> Stage:
        """Without gradient, with memory of its own."""
        return self.map(lambda tensor: tensor.detach().clone())

    def map(self, function: Callable[[Tensor], Tensor]) -> Stage:
        """Every tensor through ``function``."""
        output = None if self.output is None else function(self.output)
        skip = None if self.skip is None else function(self.skip)
        return Stage(function(self.weight), function(self.bias), self.activation, output, skip)


def evaluate(stages: Sequence[Stage], x: Tensor) -> Tensor:
    """One functional chain: a module call per layer would cost 9 % of batch-1 inference each."""
    for weight, bias, activation, output, skip in stages:
        y = F.linear(x, weight, bias)
        if activation is not None:
            y = activation(y)
        if output is not None:
            y = F.linear(y, output)
        x = y if skip is None else y + F.linear(x, skip)
    return x


def build(
    layers: Sequence[LipschitzLayer],
    *,
    acting: bool,
    input_scale: Tensor | None,
    output_scale: Tensor | None,
    shares: Sequence[Tensor | None] | None,
) -> list[Stage]:
    """The stages of ``layers``: ``W_out`` of a layer without skip is merged into the next layer's ``W_in``.

    Args:
        acting: as the network acts (differentiable); otherwise exactly, in float64, without gradient.
        input_scale, output_scale: folded into the first and last stage.
        shares: factors of the layers (scalars; ``None`` is 1), or ``None``.
    """

    def cast(tensor: Tensor) -> Tensor:
        return tensor if acting else tensor.detach().double()

    # Where float64 factors are to act, they are merged before they are rounded.
    round_late = acting and not layers[0].training and not all(layer.projected for layer in layers)
    dtype = None if acting and not round_late else torch.float64
    stages: list[Stage] = []
    carry: Tensor | None = None
    for i, layer in enumerate(layers):
        weight, output, skip, _ = layer.factors(dtype)
        bias = cast(layer.bias)
        share = None if shares is None else shares[i]
        if share is not None:
            share = share.to(weight.dtype)
            if skip is None:
                weight = weight * share
            else:
                skip, output = skip * share, None if output is None else output * share
        if carry is not None:
            weight = weight @ carry
        if i == 0 and input_scale is not None:
            scale = input_scale.to(weight.dtype)
            weight, skip = weight / scale, None if skip is None else skip / scale
        if i == len(layers) - 1 and output_scale is not None:
            scale = output_scale.to(weight.dtype)
            weight, bias = weight / scale.unsqueeze(1), bias / cast(output_scale)
        carry = output if skip is None else None
        activation = None if layer.activation is None else layer.activation.forward
        stages.append(Stage(weight, bias, activation, None if skip is None else output, skip))
    if carry is not None:
        raise AssertionError("the last layer of a network must have no output weight")
    if round_late:
        own = layers[0].bias.dtype
        stages = [stage.map(lambda tensor: tensor.to(own)) for stage in stages]
    return stages if acting else [stage.detach() for stage in stages]


@torch.no_grad()
def added_by_rounding(
    layers: Sequence[LipschitzLayer],
    acting: Sequence[Stage],
    exact: Sequence[Stage],
    *,
    norm: str,
    input_scale: Tensor | None,
    output_scale: Tensor | None,
) -> float:
    """Upper bound of what ``acting`` can be steeper than ``exact``, both of ``x / input_scale ↦ f·output_scale``.

    With Jacobians J (norms ≤ n) and errors E (norms ≤ e) per stage, ``‖Π(Jᵢ + Eᵢ)‖ - ‖ΠJᵢ‖ ≤ Π(nᵢ + eᵢ) - Πnᵢ``.
    Between units scaled by Ψ, which commutes with the activations' slopes, n and e are taken in those units.
    """
    plain, perturbed = 1.0, 1.0
    before = None if input_scale is None else input_scale.double()
    previous: Tensor | None = None
    for layer, real, target in zip(layers, acting, exact, strict=True):
        factors = layer.factors(torch.float64)
        unit = None if factors.skip is not None else factors.unit_scale
        after = output_scale if layer is layers[-1] else unit
        columns = 1.0 if before is None else before
        rows = 1.0 if after is None else after.double().unsqueeze(1)

        def size(matrix: Tensor, rows: Tensor | float = rows, columns: Tensor | float = columns) -> float:
            return operator_norm(matrix * columns * rows, norm)

        inner = size(target.weight, 1.0) if target.skip is not None else size(target.weight)
        wrong = real.weight.double() - target.weight
        inner_error = size(wrong, 1.0) if target.skip is not None else size(wrong)
        # rounding of the float64 product W_in·W_out itself
        own = factors.input * rows * (1.0 if norm == "l2" else factors.input.shape[1] ** 0.5)
        if previous is not None:
            inner_error += 8 * EPS64 * (own.shape[1] + 8) * float(own.norm()) * float(previous.norm())
        elif not layer.projected or before is not None:
            inner_error += 8 * EPS64 * (own.shape[1] + 8) * float((own * columns).norm())
        if target.skip is None:
            stage_norm, error = inner, inner_error
        else:
            outer = 1.0 if target.output is None else operator_norm(target.output, norm)
            outer_error = 0.0
            if target.output is not None and real.output is not None:
                outer_error = operator_norm(real.output.double() - target.output, norm) + 8 * EPS64 * outer
            stage_norm = size(target.skip, 1.0) + outer * inner
            assert real.skip is not None
            error = size(real.skip.double() - target.skip, 1.0)
            error += outer_error * (inner + inner_error) + outer * inner_error
        plain, perturbed = plain * stage_norm, perturbed * (stage_norm + error)
        before = None if after is None else 1.0 / after.double()
        previous = factors.output if factors.skip is None else None
        if previous is not None and before is not None:
            previous = previous * before
    return perturbed - plain + 4 * EPS64 * len(layers) * perturbed


def plain_modules(stages: Sequence[Stage], activations: Sequence[nn.Module | None]) -> list[nn.Module]:
    """Fresh ``nn.Linear``, copies of the activations, and residual blocks of both, of detached stages."""
    modules: list[nn.Module] = []
    for stage, activation in zip(stages, activations, strict=True):
        branch: list[nn.Module] = [plain_linear(stage.weight, stage.bias)]
        if activation is not None:
            branch.append(copy.deepcopy(activation).requires_grad_(True))
        if stage.output is not None:
            branch.append(plain_linear(stage.output, None))
        modules += branch if stage.skip is None else [Residual(branch, stage.skip)]
    return modules


def proven_product(norms: Sequence[float], added: float) -> float:
    """The product of ``norms`` plus ``added``, rounded upward; infinite where float64 overflows."""
    with np.errstate(over="ignore", under="ignore"):
        bound = (float(np.prod(norms)) + added) * (1.0 + 64 * EPS64)
    if not np.isfinite(bound):
        return float("inf")
    return bound if 0.0 in norms else max(bound, float(np.finfo(np.float64).tiny))
