"""The tables of a report: quantities as columns, one row per agent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lipsrl.reporting.certificate_table import certificate_rows
from lipsrl.reporting.context import definition_of
from lipsrl.reporting.degradation import Spread
from lipsrl.reporting.figures.worst import worst_case
from lipsrl.reporting.findings import Findings
from lipsrl.reporting.headline import headline_rows
from lipsrl.reporting.numbers import interval, number
from lipsrl.reporting.rows import Cell, Row, estimate_cell
from lipsrl.reporting.wording import describe_disturbance, spoken

_KEPT = (
    "Share of the clean return, counted from the floor, that is left on average over all strengths (normalised area "
    "under the curve); 100 %: nothing is lost."
)


def disturbance_tables(findings: Findings) -> list[tuple[str, str, list[Row]]]:
    """(disturbance, its description, the quantities) for each disturbance."""
    return [
        (
            name,
            describe_disturbance(name, definition_of(findings.evaluation, name)),
            headline_rows(findings.evaluation, name, findings.floor),
        )
        for name in findings.disturbances
    ]


def overview(findings: Findings, tables: Sequence[tuple[str, str, list[Row]]]) -> list[Row]:
    """What matters of all tables in one: clean return, what is kept, chatter, and what is proven."""
    first = {row.key: row for row in tables[0][2]}
    columns = [replace(first["return@0"], label="Clean return")] if "return@0" in first else []
    for name, _, rows in tables:
        found = {row.key: row for row in rows}
        if "auc" in found:
            word = spoken(name, definition_of(findings.evaluation, name))
            note = "" if any(c.note is _KEPT for c in columns) else _KEPT
            cells = {
                agent: _percent(cell, findings.degradation.kept.get((agent, name)))
                for agent, cell in found["auc"].cells.items()
            }
            columns.append(Row(f"auc:{name}", f"Kept under {word}", "estimate", cells, note))
    columns += [replace(first[key], note="") for key in ("fluctuation", "fluctuation_ratio") if key in first]
    proven = {row.key: row for row in certificate_rows(findings.certificates, findings.evaluation)}
    labels = {"promise": "Promised K", "upper_bound": "Certified bound", "tightness": "Tightness"}
    columns += [replace(proven[key], label=label, note="") for key, label in labels.items() if key in proven]
    return columns


def worst_rows(findings: Findings) -> list[Row]:
    """Return without attack and under the worst one, one quantity per radius."""
    if findings.attacks is None:
        return []
    rows = []
    for strength, here in worst_case(findings.attacks).groupby("strength", sort=True):
        cells = {
            str(row["agent"]): estimate_cell(row["return"], row["return_low"], row["return_high"])
            for _, row in here.iterrows()
        }
        label = "Return, no attack" if strength == 0 else f"Return, ε = {strength:g}"
        rows.append(Row(f"worst@{strength:g}", label, "estimate", cells))
    return rows


def _percent(cell: Cell, spread: Spread | None) -> Cell:
    if spread is None:
        return cell
    return replace(
        cell, text=f"{number(100 * cell.value, 0)} %", detail=interval(100 * spread.low, 100 * spread.high, 0)
    )
