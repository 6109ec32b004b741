"""Lower bounds: the steepest pairs that a search finds, of the whole pipeline and of the network alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lipsrl.actors.pipeline import Pipeline
from lipsrl.certificates.bounds._search import Pair, steepest_pair
from lipsrl.certificates.deterministic._reading import Reading

#: Coordinates times starts, and times ascended pairs, of one search.
STARTS, ASCENDED = 2_000_000, 20_000


@dataclass(frozen=True, eq=False)
class Found:
    """What the search found.

    Attributes:
        slope: of ``pair``, action per unit, each stacked frame off at once.
        network_slope: of the network, in its own units.
        pair: two raw observations over the unit, and their actions.
    """

    slope: float
    network_slope: float
    pair: Pair


def steepest_pairs(reading: Reading, seed: int, n_starts: int) -> Found:
    """Search both; see :func:`lipsrl.certify`."""
    pipeline, norm, units = reading.pipeline, reading.norm, reading.units
    starts, scale = _starts(pipeline, n_starts, seed)
    effort = _effort(len(scale))
    pair = steepest_pair(
        lambda x: pipeline.act(x * units), starts / units, scale / units, seed=seed, norm=norm, **effort,
        # twice: x * unit is rounded as well
        rounding=lambda x: 2 * pipeline.raw_rounding(x * units),
    )  # fmt: skip
    policy_scale = scale * torch.as_tensor(pipeline.gain)
    promised = torch.as_tensor(pipeline.input_scale)
    network_pair = steepest_pair(
        _in_promised_units(pipeline), pipeline.normalise(starts) / promised, policy_scale / promised,
        seed=seed, norm=norm, **effort,
        rounding=lambda x: pipeline.rounding(x * promised, 2e-16 * (x * promised).abs()),
    )  # fmt: skip
    slope = pair.ratio * stack_share(pipeline, (pair.x - pair.x_prime).numpy(), norm)
    return Found(slope, network_pair.ratio, pair)


def stack_share(pipeline: Pipeline, change: np.ndarray, norm: str) -> float:
    """How much longer ``change`` is as one vector than as a stack of frames that are off side by side."""
    if pipeline.chain.frames == 1:
        return 1.0
    order = {"l2": 2, "linf": np.inf, "l1": 1}[norm]
    return float(np.linalg.norm(change, ord=order)) / pipeline.frame_sizes(change, norm) * (1 - 1e-12)


def _effort(dim: int) -> dict[str, int]:
    """Smaller searches where each evaluation is that of an image."""
    if dim <= 1000:
        return {}
    return {"keep": max(4, ASCENDED // dim), "rounds": 6, "steps": 40}


def _in_promised_units(pipeline: Pipeline) -> Callable[[Tensor], Tensor]:
    """The network as the promise speaks of it: observation / input_scale ↦ action, before the clip."""
    scale = torch.as_tensor(pipeline.input_scale)
    half = None if pipeline.parts.half_range is None else torch.as_tensor(pipeline.parts.half_range)

    def function(x: Tensor) -> Tensor:
        out: Tensor = pipeline.network(x * scale)
        if pipeline.parts.squash:
            out = torch.tanh(out)
        return out if half is None else out * half

    return function


def _starts(pipeline: Pipeline, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """(n, obs) raw observations to search from, and the (obs,) scale of each coordinate.

    Half spread over the Box (where it is finite), half around the mean by the standard deviation that the
    normalisation knows; steep places of an agent lie where it was trained.
    """
    n = max(32, min(n, STARTS // len(pipeline.gain)))
    rng = np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=(1,)))
    deviation = 1.0 / pipeline.gain if pipeline.normalised else pipeline.input_scale
    # gymnasium marks "unbounded" by infinity or by the largest float
    finite = (pipeline.high - pipeline.low) < 1e6
    low = np.where(finite, pipeline.low, pipeline.mean - 3 * deviation)
    high = np.where(finite, pipeline.high, pipeline.mean + 3 * deviation)
    dim = len(low)
    uniform = rng.uniform(low, high, (n // 2, dim))
    normal = pipeline.mean + deviation * rng.standard_normal((n - n // 2, dim)) * rng.uniform(
        0.0, 2.0, (n - n // 2, 1)
    )
    scale = np.minimum((high - low) / 2, 3 * deviation) if pipeline.normalised else (high - low) / 2
    return torch.as_tensor(np.concatenate([uniform, normal])), torch.as_tensor(np.maximum(scale, 1e-6))
