"""How long a certificate takes and how tight it is: random networks of three sizes, and trained runs if given.

python -m benchmarks.certificates runs/pendulum/ppo-*
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from benchmarks._timing import as_time, machine
from experiments._console import fail, open_runs
from lipsrl.certificates import certify, product_bound
from lipsrl.certificates.bounds._chain import chain_of
from lipsrl.certificates.bounds._lipsdp import eclipse_fast_bound, lipsdp_bound
from lipsrl.certificates.bounds._verification import EllipsoidBound
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


def timed(bound: Callable[[], float]) -> tuple[float, float, float]:
    """Value, processor seconds and wall-clock seconds of the second of two calls."""
    bound()
    begun = time.process_time(), time.perf_counter()
    value = bound()
    return value, time.process_time() - begun[0], time.perf_counter() - begun[1]


def lipschitz(found: EllipsoidBound | None) -> float:
    """Of a bound that must exist."""
    assert found is not None
    return found.lipschitz


def methods(net: nn.Sequential) -> dict[str, Callable[[], float]]:
    """Each method's bound; the last also bounds the network behind an input normaliser, as a certificate does."""
    chain = chain_of(net)
    assert chain is not None
    gain = torch.logspace(-1, 1, chain.weights[0].shape[1], dtype=torch.float64)
    return {
        "product": lambda: product_bound(net),
        "ECLipsE-Fast": lambda: lipschitz(eclipse_fast_bound(chain)),
        "LipSDP-Neuron": lambda: lipschitz(lipsdp_bound(chain)),
        "both units": lambda: (
            lipschitz(lipsdp_bound(chain)) + lipschitz(lipsdp_bound(chain.scaled(gain, None)))
        ),
    }


def random_networks(repeats: int) -> Table:
    """Bound and seconds of each method."""
    table = Table(title="Random ReLU networks: bound (processor seconds; wall clock), medians")
    names = ("product", "ECLipsE-Fast", "LipSDP-Neuron", "both units")
    for name in ("", *names):
        table.add_column(name, justify="right")
    for sizes in SIZES:
        found = [
            {name: timed(bound) for name, bound in methods(network(sizes, seed)).items()}
            for seed in range(repeats)
        ]
        cells = []
        for name in names:
            value, busy, wall = (
                statistics.median(column) for column in zip(*(f[name] for f in found), strict=True)
            )
            bound = "" if name == "both units" else f"{value:.3f} "
            cells.append(f"{bound}({as_time(busy)}; {as_time(wall)})")
        table.add_row("-".join(map(str, sizes)), *cells)
    return table


def trained_runs(runs: list[tuple[RunFolder, BaseAlgorithm, VecNormalize | None]]) -> Table:
    """Bounds and tightness of trained agents, in policy units and in raw units through VecNormalize."""
    groups: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for folder, model, normalization in runs:
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
    with fail():  # before the minutes that the random networks take
        if args.repeats < 0:
            raise ValueError(f"repeats must be 0 (no random networks) or more, received {args.repeats}.")
        runs = [(folder, *folder.load()) for folder in (open_runs(args.run) if args.run else [])]
    if args.repeats:
        console.print(random_networks(args.repeats))
        console.print(machine())
    if runs:
        console.print(trained_runs(runs))


if __name__ == "__main__":
    main()
