"""How long a certificate takes and how tight it is: random networks of three sizes, and trained runs if given.

python -m benchmarks.certificates runs/pendulum/*
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import nn

from lipsrl.certificates import certify, product_bound
from lipsrl.certificates._chain import chain_of
from lipsrl.certificates._lipsdp import eclipse_fast_bound, lipsdp_bound
from lipsrl.tracking import RunFolder

SIZES = ((17, 64, 64, 6), (17, 256, 256, 6), (17, 256, 256, 256, 6))


@dataclass
class Args:
    """Time and tightness of certificates."""

    run: tyro.conf.Positional[list[Path]] = field(default_factory=list)
    """Run folders to certify, pooled by agent."""
    repeats: int = 3
    """Random networks of each size; medians are quoted."""


def network(sizes: tuple[int, ...], seed: int) -> nn.Sequential:
    """Gaussian weights, ReLU."""
    torch.manual_seed(seed)
    modules: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(sizes):
        linear = nn.Linear(n_in, n_out)
        nn.init.normal_(linear.weight, std=1 / math.sqrt(n_in))
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1]).double().requires_grad_(False)


def random_networks(repeats: int) -> Table:
    """Bound and seconds of each method."""
    table = Table(title="Random ReLU networks, one thread: bound (seconds), medians")
    for name in ("", "product", "ECLipsE-Fast", "LipSDP-Neuron"):
        table.add_column(name, justify="right")
    for sizes in SIZES:
        found: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for seed in range(repeats):
            net = network(sizes, seed)
            chain = chain_of(net)
            assert chain is not None
            for name in ("product", "eclipse-fast", "lipsdp"):
                begun = time.perf_counter()
                if name == "product":
                    value = product_bound(net)
                else:
                    bound = (eclipse_fast_bound if name == "eclipse-fast" else lipsdp_bound)(chain)
                    assert bound is not None
                    value = bound.lipschitz
                found[name].append((value, time.perf_counter() - begun))
        cells = [
            f"{statistics.median(v for v, _ in pairs):.3f} ({statistics.median(t for _, t in pairs):.3f} s)"
            for pairs in found.values()
        ]
        table.add_row("-".join(map(str, sizes)), *cells)
    return table


def trained_runs(paths: list[Path]) -> Table:
    """Bounds and tightness of trained agents, in policy units and in raw units through VecNormalize."""
    groups: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for path in paths:
        folder = RunFolder.open(path)
        model, normalization = folder.load()
        begun = time.perf_counter()
        c = certify(model, vec_normalize=normalization)
        seconds = time.perf_counter() - begun
        product = certify(model, vec_normalize=normalization, method="product", n_starts=64)
        config = folder.read_config()
        bound = config["lipschitz_bound"]
        name = config["agent"] if bound is None else f"{config['agent']} K={bound:g}"
        groups[name].append(
            (
                c.network.upper_bound,
                c.network.tightness,
                product.upper_bound,
                c.upper_bound,
                c.tightness,
                seconds,
            )
        )
    table = Table(title="Trained agents: medians over runs [range of the tightness]")
    for name in (
        "agent",
        "runs",
        "network ≤",
        "tightness",
        "raw, product ≤",
        "raw, auto ≤",
        "tightness",
        "certify",
    ):
        table.add_column(name, justify="right")
    for agent, rows in groups.items():
        columns = list(zip(*rows, strict=True))
        middle = [statistics.median(column) for column in columns]
        table.add_row(
            agent, str(len(rows)), f"{middle[0]:.2f}", f"{middle[1]:.0%} [{min(columns[1]):.0%}–{max(columns[1]):.0%}]",
            f"{middle[2]:.1f}", f"{middle[3]:.1f}",
            f"{middle[4]:.0%} [{min(columns[4]):.0%}–{max(columns[4]):.0%}]", f"{middle[5]:.1f} s",
        )  # fmt: skip
    return table


def main() -> None:
    """Command line."""
    args = tyro.cli(Args, description=__doc__)
    torch.set_num_threads(1)
    console = Console(width=130)
    if args.repeats:
        console.print(random_networks(args.repeats))
    if args.run:
        console.print(trained_runs(args.run))


if __name__ == "__main__":
    main()
