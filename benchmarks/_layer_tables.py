"""The record of `benchmarks.layers` as tables, and the targets that it is held against."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks._timing import as_time
from lipsrl.layers import LAYERS

PLAIN = "plain"

#: case → what is timed.
CASES = {
    "rollout": "inference at batch 1, eval mode: lipsrl as its policies act; peers inside one parametrize.cached() "
    "held open (torch's own caching, which stock SB3 does not open)",
    "uncached": "the same, nothing cached: a copy or target network of lipsrl, a peer in stock SB3",
    "train": "Adam step at batch 256, projection included",
    "transition": "the same, then eval mode, one inference at batch 1, and training mode again, as SAC does every step",
    "learn": "PPO.learn on Pendulum-v1, 4 environments, the critic plain",
}

#: Up to here (relative) a bound above 1 is called float32 rounding of an exact map, not an estimate that is too low.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Row:
    """Times of one entry in one case: seconds per call, and the paired ratio to plain with its interval."""

    width: int
    case: str
    entry: str
    median_seconds: float
    ratio: float
    ratio_low: float
    ratio_high: float
    seconds: list[float]


@dataclass(frozen=True)
class Target:
    """The largest ratio to plain that is aimed at."""

    case: str
    width: int | None  # None: every width
    entry: str
    at_most: float


#: DESIGN, "Numbers to reach".
TARGETS = (
    *(Target("rollout", None, name, 1.02) for name in LAYERS),
    Target("train", 64, "spectral", 1.2),
    Target("train", 64, "orthogonal", 1.25),
    Target("train", 64, "sandwich", 1.8),
    Target("train", 256, "spectral", 1.15),
    Target("train", 256, "orthogonal", 1.5),
    Target("train", 256, "sandwich", 4.0),
    Target("learn", 64, "spectral", 1.1),
    Target("learn", 64, "orthogonal", 1.1),
    Target("learn", 64, "sandwich", 1.2),
)


def against_targets(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Every target that was measured: met or not by the median ratio, and by how much it is missed."""
    return [
        {
            **asdict(target),
            "width": row.width,
            "ratio": row.ratio,
            "ratio_low": row.ratio_low,
            "ratio_high": row.ratio_high,
            "met": row.ratio <= target.at_most,
            "missed_by": max(0.0, row.ratio - target.at_most),
        }
        for row in rows
        for target in TARGETS
        if (row.case, row.entry) == (target.case, target.entry) and target.width in (None, row.width)
    ]


def as_bound(value: float) -> str:
    """A bound in units of its claim; what is above 1 shows by how much."""
    if value <= 1:
        return f"{value:.6f}"
    text = f"{value:.3f}" if value > 1.01 else f"1 + {value - 1:.1e}"
    return f"{text} ABOVE" if value > 1 + ROUNDING else text


def as_ratio(row: dict[str, Any]) -> str:
    """``1.20× [1.15, 1.26]``."""
    return f"{row['ratio']:.2f}× [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"


def case_table(record: dict[str, Any], width: int, cases: tuple[str, ...], *, bounds: bool = False) -> Table:
    """Entries down, cases across: median and ratio to plain."""
    found = {(row["case"], row["entry"]): row for row in record["rows"] if row["width"] == width}
    above = {b["entry"]: b for b in record["bounds"] if b["width"] == width}
    table = Table(title=f"17 → {width} → {width} → 6: median, ratio to plain [95 %]", title_justify="left")
    table.add_column("")
    for case in cases:
        table.add_column(case, justify="right")
        table.add_column("", justify="right")
    if bounds:
        table.add_column("true bound / claimed", justify="right")
    group = PLAIN
    for name, entry in record["entries"].items():
        if not any((case, name) in found for case in cases):
            continue
        if entry["group"] != group:
            table.add_section()
            group = entry["group"]
        cells = [name if entry["norm"] == "l2" else f"{name} ({entry['norm']})"]
        for case in cases:
            row = found.get((case, name))
            cells += ["–", "–"] if row is None else [as_time(row["median_seconds"]), as_ratio(row)]
        if bounds:
            bound = above.get(name)
            mark = "*" if bound is not None and bound["how"] == "construction" else " "
            cells.append("no claim " if bound is None else as_bound(bound["bound_over_claim"]) + mark)
        table.add_row(*cells)
    return table


def target_table(record: dict[str, Any]) -> Table:
    """Each target, what was measured, and by how much it is missed."""
    table = Table(title="Targets (ratio to plain)", title_justify="left")
    for name in ("case", "layer", "at most", "measured", ""):
        table.add_column(name, justify="right" if name in ("at most", "measured") else "left")
    for t in record["targets"]:
        verdict = "met" if t["met"] else f"missed by {t['missed_by']:.2f}×"
        if t["ratio_low"] <= t["at_most"] < t["ratio_high"]:
            verdict += " (the interval holds both answers)"
        table.add_row(f"2×{t['width']} {t['case']}", t["entry"], f"{t['at_most']:.2f}×", as_ratio(t), verdict)
    return table


def print_tables(record: dict[str, Any], console: Console) -> None:
    """Everything that a reader needs of the record."""
    cases = {(row["width"], row["case"]) for row in record["rows"]}
    for width in record["arguments"]["widths"]:
        console.print(case_table(record, width, ("rollout", "uncached")))
        console.print(case_table(record, width, ("train", "transition"), bounds=True))
        if (width, "learn") in cases:
            console.print(case_table(record, width, ("learn",)))
    if record["targets"]:
        console.print(target_table(record))
    for case, text in record["cases"].items():
        console.print(f"{case}: {text}", highlight=False)
    console.print(
        "true bound / claimed: largest after any round of training, in eval mode: product of the float64 norms of the "
        "layers (* float64 construction bound, where that product says nothing); up to 1 + 1e-05 is float32 rounding",
        highlight=False,
    )
    for name, entry in record["entries"].items():
        if entry["group"] == "peer":
            version = record["versions"][f"peer {name}"]
            console.print(f"{name} ({version}): {entry['note']}", highlight=False, markup=False)
    for name, reason in record["skipped"].items():
        console.print(f"skipped {name}: {reason}", highlight=False, markup=False)
    m, v = record["machine"], record["versions"]
    console.print(
        f"{m['cpu']}, {m['cores']} cores, {m['torch_threads']} thread; load {m['load_average']} → "
        f"{m['load_average_after']}, {m['cpu_share']:.0%} of the time had by this process; torch {v['torch']}, "
        f"SB3 {v['stable-baselines3']}; {record['date']}",
        highlight=False,
        markup=False,
    )
