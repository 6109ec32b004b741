"""What each constrained layer costs against plain SB3, beside its peers, and which of them keep their bound.

    python -m benchmarks.layers --output layers.json

One network for all: 17 → h → h → 6, ReLU, Lipschitz bound 1, one thread. Everything is interleaved in one run; medians
are quoted, and ratios to the plain twin of the same round with their 95 % intervals. Peers that are not installed
are skipped (`pip install -e '.[peers]'`). Nothing else should run on the machine.
"""

from __future__ import annotations

import datetime
import json
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn
from torch.nn.utils import parametrize

from benchmarks._layer_cases import Entry, choose, inference, ppo_learn, step_and_act, train_step, true_bound
from benchmarks._layer_tables import CASES, PLAIN, ROUNDING, Row, against_targets, print_tables
from benchmarks._peers import PEERS
from benchmarks._timing import calls_within, interleave, machine, paired_ratio
from experiments._console import command_line, fail, parse
from lipsrl._files import write_text
from lipsrl._validation import lookup, positive_finite, positive_int
from lipsrl.layers import LAYERS
from lipsrl.tracking.config import versions


@dataclass
class Args:
    """Cost and soundness of every constrained layer, beside plain SB3 and the peers."""

    widths: tuple[int, ...] = (64, 256)
    """Units of each of the two hidden layers; PPO.learn runs at the first width."""
    families: tuple[str, ...] = tuple(LAYERS)
    """Keys of lipsrl.layers.LAYERS."""
    peers: tuple[str, ...] = tuple(PEERS)
    """Layers of other libraries; none after the flag leaves them out."""
    repeats: int = 15
    """Interleaved rounds."""
    seconds: float = 0.1
    """How long one layer is timed for in each round."""
    learn_steps: int = 8192
    """Environment steps of each PPO.learn."""
    learn_repeats: int = 5
    """Interleaved rounds of PPO.learn; 0 leaves it out."""
    device: str = "cpu"
    """Where the networks live, such as cuda. Times are of finished work: the clock waits for the device."""
    output: Path | None = None
    """Write everything there too (.json): each round's times, machine, versions, targets."""

    def check(self) -> None:
        """Raise ``ValueError`` for what cannot be run, before the first minute is spent."""
        for argument in ("repeats", "learn_steps", *(("learn_repeats",) if self.learn_repeats else ())):
            positive_int(argument, getattr(self, argument))
        positive_finite("seconds", self.seconds)
        if not self.widths:
            raise ValueError("widths is empty: give at least one, such as --widths 64.")
        for width in self.widths:
            positive_int("widths", width)
        for name in self.families:
            lookup("families", name, LAYERS)
        for name in self.peers:
            lookup("peers", name, PEERS)
        try:
            torch.zeros(1, device=self.device)
        except (RuntimeError, AssertionError) as error:  # torch says it in many ways
            raise ValueError(f"device={self.device!r} is not here: {str(error).splitlines()[0]}") from error
        if self.output is not None and self.output.suffix != ".json":
            raise ValueError(f"output must end in .json, received {str(self.output)!r}.")


def rows_of(width: int, case: str, times: dict[str, list[float]]) -> list[Row]:
    """One row per entry, against plain."""
    return [
        Row(width, case, name, float(np.median(own)), *paired_ratio(own, times[PLAIN]), own)
        for name, own in times.items()
    ]


def measure_inference(entries: dict[str, Entry], width: int, args: Args) -> list[Row]:
    """The two inference cases.

    A peer's rollout happens inside one ``parametrize.cached()``, the caching that torch offers; SB3 does not open
    that, so without a change to SB3 the peer costs what the uncached case says.
    """
    rows = []
    for case, cached in (("rollout", True), ("uncached", False)):
        torch.manual_seed(0)
        functions = {
            name: inference(entry.build(width).to(args.device), cached=cached)
            for name, entry in entries.items()
        }
        calls = {name: calls_within(args.seconds, function) for name, function in functions.items()}
        if cached:  # how often an action is computed must not depend on what it costs uncached
            calls = dict.fromkeys(calls, calls[PLAIN])
            times = interleave(functions, calls, args.repeats, within=parametrize.cached)
        else:
            times = interleave(functions, calls, args.repeats)
        rows += rows_of(width, case, times)
    return rows


class Worst:
    """The largest true bound of each entry, in units of its claim, over all looks."""

    def __init__(self, entries: dict[str, Entry]) -> None:
        self.claims = {name: (e.claim, e.norm) for name, e in entries.items() if e.claim is not None}
        self.bounds: dict[str, tuple[float, str]] = {}
        self.steps = dict.fromkeys(entries, 0)

    def look(self, nets: dict[str, nn.Module], calls: dict[str, int]) -> None:
        """Take in the networks after a round of ``calls`` steps each."""
        for name, (claim, norm) in self.claims.items():
            bound, how = true_bound(nets[name], norm)
            self.bounds[name] = max(self.bounds.get(name, (0.0, how)), (bound / claim, how))
            self.steps[name] += calls[name]

    def rows(self, width: int) -> list[dict[str, Any]]:
        """For the record."""
        return [
            {
                "width": width,
                "entry": name,
                "bound_over_claim": value,
                "how": how,
                "above": value > 1 + ROUNDING,
                "steps": self.steps[name],
            }
            for name, (value, how) in self.bounds.items()
        ]


def measure_training(
    entries: dict[str, Entry], width: int, args: Args
) -> tuple[list[Row], list[dict[str, Any]]]:
    """The two training cases, and the bounds that were seen after their rounds."""
    rows: list[Row] = []
    worst = Worst(entries)
    for case, make in (("train", train_step), ("transition", step_and_act)):
        torch.manual_seed(0)
        nets = {name: entry.build(width).to(args.device) for name, entry in entries.items()}
        functions = {name: make(net) for name, net in nets.items()}
        calls = {
            name: calls_within(args.seconds, function, entries[name].period)
            for name, function in functions.items()
        }
        times = interleave(functions, calls, args.repeats, after_round=partial(worst.look, nets, calls))
        rows += rows_of(width, case, times)
    return rows, worst.rows(width)


def measure_learning(entries: dict[str, Entry], width: int, args: Args) -> list[Row]:
    """``PPO.learn`` of those that SB3 can train by name."""
    functions = {
        name: ppo_learn(entry.policy_kwargs, width, args.learn_steps, args.device)
        for name, entry in entries.items()
        if entry.policy_kwargs is not None
    }
    return rows_of(width, "learn", interleave(functions, dict.fromkeys(functions, 1), args.learn_repeats))


def run(args: Args) -> dict[str, Any]:
    """Measure everything; the record is what ``--output`` writes."""
    args.check()
    torch.set_num_threads(1)
    status = Console(stderr=True)
    before, wall, cpu = machine(), time.perf_counter(), time.process_time()
    entries, skipped = choose(args.families, args.peers)
    for name, reason in skipped.items():
        status.print(f"skipped {name}: {reason}")
    rows: list[Row] = []
    bounds: list[dict[str, Any]] = []
    for width in args.widths:
        status.print(f"2×{width}: inference")
        rows += measure_inference(entries, width, args)
        status.print(f"2×{width}: training")
        new_rows, new_bounds = measure_training(entries, width, args)
        rows, bounds = rows + new_rows, bounds + new_bounds
    if args.learn_repeats:
        status.print(f"2×{args.widths[0]}: PPO.learn")
        rows += measure_learning(entries, args.widths[0], args)
    peers = {name: PEERS[name].version() for name, entry in entries.items() if entry.group == "peer"}
    return {
        "benchmark": "layers",
        "command": command_line("benchmarks.layers"),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {
            **before,
            "load_average_after": machine()["load_average"],
            # of the wall-clock time; well below 1 others were in the way, and the times are too long
            "cpu_share": (time.process_time() - cpu) / (time.perf_counter() - wall),
        },
        "versions": {**versions(), **{f"peer {name}": version for name, version in peers.items()}},
        "arguments": {**asdict(args), "output": None if args.output is None else str(args.output)},
        "cases": CASES,
        "entries": {
            name: {"group": e.group, "claim": e.claim, "norm": e.norm, "note": e.note}
            for name, e in entries.items()
        },
        "skipped": skipped,
        "rows": [asdict(row) for row in rows],
        "bounds": bounds,
        "targets": against_targets(rows),
    }


def main() -> None:
    """Command line."""
    with fail():
        args = parse(Args, __doc__)
        record = run(args)
        if args.output is not None:
            write_text(args.output, json.dumps(record, indent=1) + "\n")
    print_tables(record, Console(width=None if sys.stdout.isatty() else 120))


if __name__ == "__main__":
    main()
