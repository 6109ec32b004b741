"""Combinations of a network's outputs per unit of the raw observation, the gains folded into its weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from lipsrl._validation import unknown_name
from lipsrl.actors.pipeline import Pipeline
from lipsrl.certificates.bounds._chain import chain_of
from lipsrl.certificates.bounds._upper import ellipsoid_bound
from lipsrl.layers import spectral_norm
from lipsrl.layers._linalg import EPS64
from lipsrl.layers._plain import plain_linear
from lipsrl.layers.product import product_bound

#: A sound upper bound of the l2 Lipschitz constant of any plain float64 network.
BoundFunction: TypeAlias = Callable[[nn.Sequential], float]

#: Norms that a disturbance of the observation can be measured in.
NORMS = ("l2", "linf")

#: Shape-only modules, which a vector passes unchanged.
_SHAPE_ONLY = (nn.Flatten, nn.Identity)


def tightest_bound(network: nn.Sequential) -> float:
    """The smaller of the product bound and the verified one of LipSDP-Neuron (ECLipsE-Fast for large networks)."""
    bound = product_bound(network)
    chain = chain_of(network)
    ellipsoid = ellipsoid_bound(chain) if chain is not None and bound > 0 else None
    return bound if ellipsoid is None else min(bound, ellipsoid.lipschitz)


@torch.no_grad()
def folded(network: nn.Sequential, gain: Tensor, rows: Tensor) -> nn.Sequential:
    """``x ↦ rows · network(gain ⊙ x)`` as one plain network that shares what it does not change.

    Args:
        network: plain and in float64.
        gain: (in,).
        rows: (k, out).
    """
    modules: list[nn.Module] = [module for module in network if not isinstance(module, _SHAPE_ONLY)]
    if modules and isinstance(modules[0], nn.Linear):
        modules[0] = plain_linear(modules[0].weight * gain, modules[0].bias)
    else:
        modules.insert(0, plain_linear(torch.diag(gain), None))
    last = modules[-1]
    if isinstance(last, nn.Linear):
        bias = None if getattr(last, "bias", None) is None else rows @ last.bias
        modules[-1] = plain_linear(rows @ last.weight, bias)
    else:
        modules.append(plain_linear(rows, None))
    return nn.Sequential(*modules)


def output_bound(pipeline: Pipeline, rows: Tensor, norm: str, network_bound: BoundFunction) -> float:
    """Upper bound of ``‖rows · Δoutput‖₂ / ‖Δobservation‖`` for raw observations, ``norm`` below the line.

    The clip of VecNormalize does not stand in the way of the folding: it commutes with its positive gains and moves no
    two values of a sensor apart. The smallest of

    - ``network_bound`` of the network with the gains and ``rows`` folded in (l-inf: by ``‖S⁻¹Δ‖₂ ≤ ‖S⁻¹1‖₂‖Δ‖∞``
      for S = I and for S = diag(1/gain), the smaller);
    - where the network is constrained to K: ``K·g·‖rows‖₂`` with g the largest of the gains, or their l2 norm for
      l-inf; constrained in l-inf: ``K·max gain·(Σ_k ‖row_k‖₁²)^½``, in both norms because ``‖Δ‖∞ ≤ ‖Δ‖₂``.

    Args:
        pipeline: without rescaling after the network.
        rows: (k, out) float64.
        norm: ``"l2"`` or ``"linf"``.

    Raises:
        ValueError: an unknown norm, or a module whose Lipschitz constant is not known.
    """
    if norm not in NORMS:
        raise unknown_name("norm", norm, NORMS)
    gain = torch.as_tensor(pipeline.gain)
    ones = torch.ones_like(gain)
    front = pipeline.front
    candidates = [network_bound(folded(front.tail, front.gain(gain, "l2"), rows))]
    if norm == "linf":
        candidates[0] *= float(ones.norm())
        candidates.append(
            network_bound(folded(front.tail, front.gain(ones, "l2"), rows)) * float(gain.norm())
        )
    stacked = pipeline.frame_gain[norm]
    constrained = pipeline.parts.constrained
    if constrained is not None:
        inner = gain / torch.as_tensor(pipeline.input_scale)
        if constrained.norm == "linf":
            factor = float(inner.max() * rows.abs().sum(dim=1).norm())
        else:
            factor = float(inner.max() if norm == "l2" else inner.norm()) * spectral_norm(rows)
        candidates.append(constrained.lipschitz_bound() * factor)
    # the products of gains, weights and rows are rounded
    return min(candidates) * stacked * (1.0 + 8 * EPS64 * (len(gain) + rows.shape[1]))
