"""Does it cost pace that an orthogonal layer raises all its directions together?

``python -m benchmarks.directions [--task cartpole-a2c] [--bound 31] [--seeds N]``: agents whose layers lie between
orthogonal and spectral ones, beside stock and those two.

- ``squeezed-ρ``: an orthogonal layer whose singular values may be anywhere in [ρ·g, g], where the gain g starts, grows
  and is bounded as before: directions may shrink, but what grows is still the gain.
- ``lifted-ρ``: a spectral layer, which has no gain, whose singular values are kept at ρ times the largest at least:
  what one direction grows, the others have to follow.

Same hyperparameters as `benchmarks.pace`; seeds from 100; one JSON file per training, those that are there are not
trained again.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks import pace
from lipsrl.layers._base import LipschitzLayer
from lipsrl.layers._linalg import MARGIN, shrink_into_ball
from lipsrl.layers.orthogonal import Orthogonal
from lipsrl.layers.spectral import Spectral
from lipsrl.statistics import bootstrap_ci

RESULTS = Path(__file__).parent / "results" / "directions"


def projecting(project: Callable[[Any], bool]) -> dict[str, Any]:
    """Methods of a layer that is put into its set by ``project``, always exactly."""

    def project_cheaply(self: LipschitzLayer) -> float:
        project(self)
        return 0.0

    def project_gradient(self: LipschitzLayer) -> None:
        pass  # the set has an inside: no tangent space

    return {
        "project": project,
        "project_roughly": project,
        "project_cheaply": project_cheaply,
        "project_gradient": project_gradient,
    }


def clamped(layer: Any, lowest: float, of_the_largest: bool) -> bool:
    """Put the singular values between ``lowest`` (of the ceiling, or of the largest value) and the ceiling."""
    with torch.no_grad():
        u, values, v = torch.linalg.svd(layer.weight.double(), full_matrices=False)
        ceiling = layer.radius * (1 - MARGIN)
        floor = lowest * (
            values[0].clamp(max=ceiling) if of_the_largest else torch.full_like(values[0], ceiling)
        )
        inside = (u * values.clamp(max=ceiling).maximum(floor)) @ v
        layer.weight.copy_(shrink_into_ball(inside, layer.radius, layer.weight.dtype))
    return True


#: kind → the layer that is changed, and whether its singular values follow the largest.
KINDS: dict[str, tuple[type[LipschitzLayer], bool]] = {
    "squeezed": (Orthogonal, False),
    "lifted": (Spectral, True),
}
LAYERS = ("stock", "spectral", "lifted-0.5", "lifted-1", "orthogonal", "squeezed-0.5", "squeezed-0")


def train(job: pace.Job) -> dict[str, Any]:
    """`pace.train`, which knows the layers of this module too."""
    kind, _, share = job.layer.partition("-")
    if kind not in KINDS:
        return pace.train(job)
    base, of_the_largest = KINDS[kind]
    changed = projecting(lambda layer: clamped(layer, float(share), of_the_largest))
    with patch.multiple(base, **changed):
        return {**pace.train(replace(job, layer=base.name)), "layer": job.layer}


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: per layer the area relative to stock, its difference from the orthogonal layer's, return, slope."""
    floor = pace.random_return(pace.TASKS[results[0]["task"]].env)
    of = {(r["layer"], r["seed"]): r for r in results}
    layers, seeds = ([*dict.fromkeys(key[i] for key in of)] for i in (0, 1))
    areas = {layer: np.array([pace.area(of[layer, seed]) - floor for seed in seeds]) for layer in layers}
    lines = [
        "| layer | seeds | area relative to stock | minus orthogonal's | return at the end | slope |",
        "|---|---|---|---|---|---|",
    ]
    for layer in layers:
        own, scale = [of[layer, seed] for seed in seeds], areas["stock"].mean()
        gap = bootstrap_ci((areas[layer] - areas["orthogonal"]) / scale, np.mean)
        lines.append(
            f"| {layer} | {len(seeds)} | {areas[layer].mean() / scale:.2f} "
            f"| {gap.estimate:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}] "
            f"| {statistics.mean(map(pace.final, own)):.0f} "
            f"| {statistics.median(r['slopes'][-1][1] for r in own):.3g} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=pace.TASKS, default="cartpole-a2c")
    parser.add_argument("--bound", type=float, default=31.0, help="K; 31 is twice the slope of stock A2C")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    jobs = [
        pace.Job(options.task, layer, seed, bound=0.0 if layer == "stock" else options.bound)
        for seed in range(100, 100 + options.seeds)
        for layer in LAYERS
    ]
    pace.run(jobs, RESULTS, options.workers, train)
    print(table([json.loads((RESULTS / f"{job.name}.json").read_text()) for job in jobs]))


if __name__ == "__main__":
    main()
