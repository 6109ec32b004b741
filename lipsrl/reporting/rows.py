"""A table as the report and the console both show it: quantities down, agents across."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lipsrl.reporting.numbers import MISSING, decimals, interval, number

#: what stands behind a number, said beside every row of the report
Kind = Literal["bound", "search", "estimate", "setting"]

KINDS: dict[Kind, str] = {
    "bound": "proven for every pair of observations, visited or not; the true value is never above it.",
    "search": "a slope that was found between two actual observations; the true value is never below it.",
    "estimate": "measured in the episodes of this evaluation; another evaluation gives another number, "
    "and the brackets say how different it may be.",
    "setting": "chosen before training.",
}


@dataclass(frozen=True)
class Cell:
    """One number of one agent: at full precision, and as text with what stands below it (an interval).

    ``decisive``: a difference whose interval leaves out "no difference".
    """

    value: float
    text: str
    detail: str = ""
    decisive: bool = False


@dataclass(frozen=True)
class Row:
    """One quantity over all agents. ``note`` is the one sentence on how to read it; empty if said above."""

    key: str
    label: str
    kind: Kind
    cells: Mapping[str, Cell] = field(default_factory=dict)
    note: str = ""

    def cell(self, agent: str) -> Cell:
        """The agent's cell; one that says "no value" if it has none."""
        return self.cells.get(agent, NO_CELL)


NO_CELL = Cell(float("nan"), MISSING)


def estimate_cell(estimate: float, low: float, high: float) -> Cell:
    """An estimate above its confidence interval, both with the decimals of the larger of them."""
    places = decimals(max((abs(x) for x in (estimate, low, high) if x == x), default=0.0))
    return Cell(float(estimate), number(estimate, places), interval(low, high, places))
