"""Upper bounds taken apart: into the gains that they are the product of, and by sensor."""

from __future__ import annotations

import numpy as np
import torch

from lipsrl.certificates.bounds._lipsdp import lipsdp_bound
from lipsrl.certificates.bounds._upper import SENSOR_GAP, Bound
from lipsrl.certificates.deterministic._reading import Reading
from lipsrl.certificates.deterministic._statement import Factor

#: Each sensor alone gets a semidefinite program of its own where there are at most so many, of at most this size.
MOST_SENSORS, LARGEST_SENSOR_PROBLEM = 32, 300

_WORDS = {
    "construction": "bound of the constrained layers, float64, with the rounding of the merged weights",
    "product": "product of float64 operator norms and activation slopes",
    "lipsdp": "LipSDP-Neuron, verified by a float64 Cholesky factorisation",
    "eclipse-fast": "ECLipsE-Fast, verified by a float64 Cholesky factorisation",
}


def factors(reading: Reading, raw: Bound, own: Bound) -> list[Factor]:
    """From sensor to action; the product is the upper bound.

    Args:
        raw, own: bounds of the whole pipeline per unit, and of the network in its own units.
    """
    pipeline, unit, stacked = reading.pipeline, reading.unit, reading.stacked
    found = []
    steepest = int((pipeline.gain / pipeline.input_scale * unit).argmax())
    sensor = pipeline.names[pipeline.sensors[steepest]]
    gain = float(pipeline.gain[steepest])
    if not (unit == 1).all():
        found.append(Factor("sensor_scale", float(unit[steepest]), f"unit of {sensor}"))
    if pipeline.chain.inner is not None:
        inner = pipeline.chain.inner[1]
        inside = float(np.tile(inner, pipeline.chain.frames)[steepest])
        found.append(
            Factor("normalize_observation", inside, f"1/sqrt(var + ε) of {sensor}, inside the environment")
        )
        gain /= inside
    if pipeline.normalised:
        clip = float(pipeline.limit[steepest])
        found.append(
            Factor(
                "vec_normalize",
                gain,
                f"1/sqrt(var + ε) of {sensor}, the steepest; the clip at ±{clip:g} adds nothing",
            )
        )
    if pipeline.chain.frames > 1:
        frames = pipeline.chain.frames
        found.append(
            Factor(
                "frame_stack", stacked,
                f"each of the {frames} stacked frames may be off by a unit at once; one frame alone: divide by this",
            )
        )  # fmt: skip
    if not (pipeline.input_scale == 1).all():
        found.append(
            Factor(
                "observation_scale",
                float(1 / pipeline.input_scale[steepest]),
                f"1/observation_scale of {sensor}, inside the policy",
            )
        )
    action = pipeline.action_gain
    found.append(Factor("network", own.value / action, _WORDS[own.method]))
    if pipeline.parts.discrete:
        found.append(Factor("action", 1.0, "discrete: the bound is on the vector of logits or Q-values"))
    elif pipeline.parts.half_range is not None:
        squash = "tanh (slope ≤ 1) and " if pipeline.parts.squash else ""
        found.append(Factor("action", action, f"{squash}rescaling by (high - low)/2"))
    else:
        found.append(Factor("action", 1.0, "clip to the action space"))
    product = float(np.prod([factor.gain for factor in found]))
    bound = raw.value * stacked
    if product > 0 and bound < product * (1 - 1e-12):
        found.append(
            Factor(
                "folding",
                bound / product,
                f"the gains folded into the first and last weights ({_WORDS[raw.method]}): the steepest sensor is "
                "not the network's steepest direction",
            )
        )
    return found


def per_sensor(reading: Reading, raw: Bound, own: Bound) -> list[float]:
    """For each sensor alone (in all frames), the smallest bound at hand; arguments as :func:`factors`."""
    pipeline = reading.pipeline
    gain = pipeline.gain / pipeline.input_scale * reading.unit
    n = len(pipeline.names)
    steepest = [float(gain[pipeline.sensors == i].max()) for i in range(n)]
    bounds = [min(raw.value, g * own.value * (1 + 1e-15)) for g in steepest]
    owners = pipeline.front.owners(torch.as_tensor(pipeline.sensors))
    columns = [torch.nonzero(owners == i).reshape(-1) for i in range(n)]
    # an image's pixels and a sensor's frames act together
    if raw.ellipsoid is not None and not bool((owners < 0).any()):
        each = torch.tensor(raw.ellipsoid.per_input, dtype=torch.float64)
        bounds = [min(b, float(each[c].norm()) * (1 + 1e-14)) for b, c in zip(bounds, columns, strict=True)]
    chain = raw.chain
    fits = chain is not None and n <= MOST_SENSORS and chain.size <= LARGEST_SENSOR_PROBLEM
    if chain is not None and fits and not bool((owners < 0).any()):
        for i, column in enumerate(columns):
            alone = lipsdp_bound(chain.of_inputs(column), gap=SENSOR_GAP)
            if alone is not None:
                bounds[i] = min(bounds[i], alone.lipschitz)
    return [bound * reading.stacked for bound in bounds]
