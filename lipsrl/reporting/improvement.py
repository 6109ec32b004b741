"""How often one agent beats another: P(X > Y) of a run of each, drawn at random."""

from __future__ import annotations

from dataclasses import dataclass

from lipsrl.reporting.context import definition_of
from lipsrl.reporting.figures.profile import run_returns
from lipsrl.reporting.findings import Findings
from lipsrl.reporting.numbers import interval, number
from lipsrl.reporting.rows import Cell, Row
from lipsrl.reporting.wording import at_strength, spoken
from lipsrl.statistics import probability_of_improvement


@dataclass(frozen=True)
class Condition:
    """A disturbance at a strength."""

    disturbance: str
    strength: float


def improvement_rows(findings: Findings, conditions: list[Condition]) -> list[Row]:
    """One row per condition: `probability_of_improvement` of each agent over the reference."""
    rows = []
    for condition in conditions:
        runs = run_returns(findings.evaluation, condition.disturbance, condition.strength)
        reference = runs.get(findings.reference)
        if reference is None:
            continue
        cells = {}
        for agent, values in runs.items():
            if agent != findings.reference:
                found = probability_of_improvement(values, reference)
                cells[agent] = Cell(
                    found.estimate,
                    number(found.estimate, 2),
                    interval(found.low, found.high, 2),
                    decisive=found.low > 0.5 or found.high < 0.5,
                )
        definition = definition_of(findings.evaluation, condition.disturbance)
        where = "no disturbance"
        if condition.strength:
            where = (
                f"{spoken(condition.disturbance, definition)}, {at_strength(condition.strength, definition)}"
            )
        if cells:
            rows.append(
                Row(
                    f"{condition.disturbance}@{condition.strength:g}",
                    f"P(better), {where}",
                    "estimate",
                    cells,
                )
            )
    return rows
