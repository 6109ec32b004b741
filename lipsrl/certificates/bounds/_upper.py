"""Upper bounds of the whole pipeline, with its diagonal gains folded into the first and last weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lipsrl.actors import Promise
from lipsrl.actors.pipeline import Pipeline
from lipsrl.certificates.bounds._chain import Chain, chain_of
from lipsrl.certificates.bounds._lipsdp import eclipse_fast_bound, lipsdp_bound
from lipsrl.certificates.bounds._verification import EllipsoidBound
from lipsrl.layers.product import product_bound

#: Relative gap of the semidefinite programs for single sensors.
SENSOR_GAP = 1e-2

#: Larger semidefinite programs would take minutes: their size is the number of units and inputs.
LARGEST_PROBLEM = 1200


@dataclass(frozen=True)
class Bound:
    """The smallest of several bounds.

    Attributes:
        value: upper bound.
        method: what gave it.
        chain: the chain that was bounded, or ``None`` where the network is none.
        ellipsoid: of the method that gave one, or ``None``.
    """

    value: float
    method: str
    chain: Chain | None = None
    ellipsoid: EllipsoidBound | None = None


def promising(pipeline: Pipeline, norm: str) -> Promise | None:
    """What the actor promises, if it is in ``norm``."""
    constrained = pipeline.parts.constrained
    return constrained if constrained is not None and constrained.norm == norm else None


def ellipsoid_bound(chain: Chain, name: str | None = None) -> EllipsoidBound | None:
    """Of LipSDP-Neuron, or of ECLipsE-Fast where that would take minutes; ``None`` where it cannot be verified."""
    if name is None:
        name = "eclipse-fast" if chain.size > LARGEST_PROBLEM else "lipsdp"
    return eclipse_fast_bound(chain) if name == "eclipse-fast" else lipsdp_bound(chain)


def upper_bounds(pipeline: Pipeline, method: str, norm: str, unit: Tensor) -> tuple[Bound, Bound]:
    """Bounds of ``raw observation / unit ↦ action`` and of ``observation / input_scale ↦ action``, before the clip.

    Raises:
        ValueError: the method does not fit the network or the norm.
    """
    constrained = promising(pipeline, norm)
    if method == "construction" and constrained is None:
        raise ValueError(
            f"method='construction' needs a Lipschitz policy whose promise is in {norm}, but this policy is not one. "
            "Use 'auto'."
        )
    half = pipeline.parts.half_range
    output = None if half is None else torch.as_tensor(half)
    raw_gain = torch.as_tensor(pipeline.gain) * unit
    own_gain = torch.as_tensor(pipeline.input_scale)
    front = pipeline.front
    chain = chain_of(front.tail) if norm == "l2" else None
    wanted_sdp = method in ("auto", "lipsdp", "eclipse-fast")
    if method in ("lipsdp", "eclipse-fast") and chain is None:
        raise ValueError(
            f"method={method!r} needs the l2 norm and activations that act unit by unit. Use 'auto'."
        )
    if method == "lipsdp" and chain is not None and chain.size > LARGEST_PROBLEM:
        raise ValueError(
            f"method='lipsdp' is for at most {LARGEST_PROBLEM} inputs and units, this network has {chain.size}. Use "
            "'auto' or 'eclipse-fast'."
        )
    # one reading of the live network for both
    built = None
    if constrained is not None and method in ("auto", "construction"):
        built = constrained.lipschitz_bound() * _scale_rounding(constrained, half)
    results: list[Bound] = []
    for gain in (own_gain, raw_gain):
        bounds: list[Bound] = []
        if built is not None:
            largest = float((gain / own_gain).max()) * (1 + 1e-15)
            bounds.append(Bound(built * largest, "construction"))
        if method in ("auto", "product"):
            bounds.append(
                Bound(product_bound(front.tail, output, front.gain(gain, norm), norm=norm), "product")
            )
        folded = None if chain is None else chain.scaled(front.gain(gain, norm), output)
        if folded is not None and wanted_sdp:
            name = "eclipse-fast" if method == "eclipse-fast" or folded.size > LARGEST_PROBLEM else "lipsdp"
            ellipsoid = ellipsoid_bound(folded, name)
            if ellipsoid is not None:
                bounds.append(Bound(ellipsoid.lipschitz, name, folded, ellipsoid))
        if not bounds:
            raise ValueError(
                f"method={method!r} could not be verified in float64 for these weights. Use 'auto'."
            )
        best = min(bounds, key=lambda bound: bound.value)
        ellipsoid_of = next((b.ellipsoid for b in bounds if b.ellipsoid is not None), None)
        results.append(Bound(best.value, best.method, folded if wanted_sdp else None, ellipsoid_of))
    own, raw = results
    # the gains' product with the network's bound is a bound as well
    through = own.value * float((raw_gain / own_gain).max()) * (1 + 1e-15)
    if norm == "l2" and through < raw.value:
        raw = Bound(through, own.method, raw.chain, raw.ellipsoid)
    return raw, own


def quick_bound(pipeline: Pipeline) -> Bound:
    """The smallest l2 bound that takes milliseconds, of ``observation / input_scale ↦ action`` before the clip.

    One method for constrained and stock actors: product of norms, ECLipsE-Fast where the network is small enough, and
    what the layers promise.
    """
    half, front = pipeline.parts.half_range, pipeline.front
    output = None if half is None else torch.as_tensor(half)
    gain = front.gain(torch.as_tensor(pipeline.input_scale), "l2")
    bounds = [Bound(product_bound(front.tail, output, gain), "product")]
    constrained, chain = promising(pipeline, "l2"), chain_of(front.tail)
    if constrained is not None:
        built = constrained.lipschitz_bound() * _scale_rounding(constrained, half)
        bounds.append(Bound(built, "construction"))
    if chain is not None and chain.size <= LARGEST_PROBLEM:
        ellipsoid = eclipse_fast_bound(chain.scaled(gain, output))
        if ellipsoid is not None:
            bounds.append(Bound(ellipsoid.lipschitz, "eclipse-fast"))
    return min(bounds, key=lambda bound: bound.value)


def _scale_rounding(constrained: Promise, half: Any) -> float:
    """What the float32 copy of the action's half range, which the network divides by, is too small by."""
    if half is None or constrained.output_scale is None:
        return 1.0
    ratio = np.asarray(half) / constrained.output_scale
    return float(ratio.max()) * (1 + 1e-15)
