"""The second table: each agent against the first one, on the same seeds and episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lipsrl.evaluation import Evaluation
from lipsrl.reporting.context import agents_of, definition_of
from lipsrl.reporting.rows import Cell, estimate_cell
from lipsrl.reporting.wording import at_strength


@dataclass(frozen=True)
class PairedRow:
    """One strength: differences (agent − reference) with their intervals, and what was paired."""

    label: str
    return_difference: Cell
    fluctuation_difference: Cell
    fluctuation_ratio: Cell
    pairs: str


@dataclass(frozen=True)
class PairedTable:
    """One agent against the reference under one disturbance."""

    agent: str
    reference: str
    disturbance: str
    rows: list[PairedRow]


def paired_tables(evaluation: Evaluation, agents: Sequence[str] | None = None) -> list[PairedTable]:
    """One table per further agent and disturbance, from `Evaluation.compare`.

    Agents that share no episode with the first are left out, and those that are not among ``agents``.
    """
    reference, *others = agents_of(evaluation)
    tables = []
    for agent in others if agents is None else [a for a in others if a in agents]:
        try:
            returns = evaluation.compare(agent, reference, "return")
            fluctuations = evaluation.compare(agent, reference, "action_fluctuation")
        except ValueError:  # nothing in common, so nothing that could be paired
            continue
        key = ["disturbance", "strength"]
        merged = returns.merge(fluctuations, on=key, suffixes=("_r", "_f")).sort_values("strength")
        for disturbance, rows in merged.groupby("disturbance", sort=False):
            definition = definition_of(evaluation, str(disturbance))
            paired = [_row(row, definition) for _, row in rows.iterrows()]
            tables.append(PairedTable(agent, reference, str(disturbance), paired))
    return tables


def _row(row: pd.Series, definition: Mapping[str, Any] | None) -> PairedRow:
    def interval(name: str) -> tuple[float, float, float]:
        end = name[-2:]
        return row[name], row[f"{name[:-2]}_low{end}"], row[f"{name[:-2]}_high{end}"]

    return PairedRow(
        at_strength(float(row["strength"]), definition),
        _difference(*interval("difference_r")),
        _difference(*interval("difference_f")),
        _difference(*interval("ratio_f"), none=1.0),
        f"{row['n_pairs_r']} {row['resampled_r']}{_broken(row['n_nonfinite_r'])}",
    )


def _broken(pairs: int) -> str:
    return f", {pairs} not finite" if pairs else ""


def _difference(estimate: float, low: float, high: float, *, none: float = 0.0) -> Cell:
    """``none`` is the value that means "no difference"; differences carry their sign, ratios do not."""
    cell = estimate_cell(estimate, low, high)
    sign = "+" if none == 0.0 and estimate > 0 else ""
    return Cell(cell.value, f"{sign}{cell.text}", cell.detail, decisive=low > none or high < none)
