"""Does it cost pace that an orthogonal layer raises all its directions together?

``python -m benchmarks.directions [--task cartpole-a2c] [--bound 31] [--shares 0 0.5] [--seeds N]``: agents whose layers
lie between orthogonal and spectral ones. With share ρ the singular values of a layer may be anywhere in [ρ·g, g], where
the gain g starts, grows and is bounded as that of an orthogonal layer: ρ = 1 would be ``layer="orthogonal"``, which
stands beside them, as do stock and ``layer="spectral"`` (whose ceiling does not grow). Same hyperparameters as
`benchmarks.pace`; seeds from 100; one JSON file per training, those that are there are not trained again.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks import pace
from lipsrl.layers._linalg import MARGIN, shrink_into_ball
from lipsrl.layers.orthogonal import Orthogonal
from lipsrl.statistics import bootstrap_ci

RESULTS = Path(__file__).parent / "results" / "directions"


def squeezed(share: float) -> dict[str, Any]:
    """Methods of an orthogonal layer whose singular values may shrink to ``share`` of the largest allowed one."""

    @torch.no_grad()
    def project(self: Orthogonal) -> bool:
        u, values, v = torch.linalg.svd(self.weight.double(), full_matrices=False)
        ceiling = self.radius * (1 - MARGIN)
        inside = (u * values.clamp(share * ceiling, ceiling)) @ v
        self.weight.copy_(shrink_into_ball(inside, self.radius, self.weight.dtype))
        return True

    def project_cheaply(self: Orthogonal) -> float:
        project(self)
        return 0.0

    def project_gradient(self: Orthogonal) -> None:
        pass  # the set has an inside: no tangent space

    return {
        "project": project,
        "project_roughly": project,
        "project_cheaply": project_cheaply,
        "project_gradient": project_gradient,
    }


def layer_of(share: float) -> str:
    """Name of the layer with that share."""
    return f"squeezed-{share:g}"


def train(job: pace.Job) -> dict[str, Any]:
    """`pace.train`, which knows the layers of this module too."""
    if not job.layer.startswith("squeezed-"):
        return pace.train(job)
    with patch.multiple(Orthogonal, **squeezed(float(job.layer.removeprefix("squeezed-")))):
        return {**pace.train(replace(job, layer="orthogonal")), "layer": job.layer}


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
    parser.add_argument("--shares", nargs="+", type=float, default=[0.0, 0.5])
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if not all(0.0 <= share < 1.0 for share in options.shares):
        parser.error("--shares are numbers from 0 to 1, without 1, which is the orthogonal layer.")
    layers = ["stock", "spectral", "orthogonal", *map(layer_of, sorted(options.shares, reverse=True))]
    jobs = [
        pace.Job(options.task, layer, seed, bound=0.0 if layer == "stock" else options.bound)
        for seed in range(100, 100 + options.seeds)
        for layer in layers
    ]
    pace.run(jobs, RESULTS, options.workers, train)
    print(table([json.loads((RESULTS / f"{job.name}.json").read_text()) for job in jobs]))


if __name__ == "__main__":
    main()
