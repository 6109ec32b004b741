"""The first table: what each agent earns, and how it chatters, as the noise grows."""

from __future__ import annotations

import dataclasses
import math

import pandas as pd

from lipsrl.evaluation import Evaluation
from lipsrl.reporting.context import agents_of, definition_of
from lipsrl.reporting.rows import Cell, Row, estimate_cell
from lipsrl.reporting.wording import at_strength

_RETURN = "Sum of the task's own rewards over an episode; higher is better."
_FLUCTUATION = (
    "Mean size of the change of the action from one step to the next (l2, action units); lower is calmer."
)
_AUC = (
    "Share of the noise-free return, counted from the floor, that is left on average over all strengths; "
    "1: nothing is lost."
)


def smallest_noise(strengths: pd.Series) -> float:
    """The smallest strength above zero; zero if there is none."""
    noisy = strengths[strengths > 0.0]
    return 0.0 if noisy.empty else float(noisy.min())


def headline_rows(evaluation: Evaluation, disturbance: str, floor: float | None = None) -> list[Row]:
    """Return at each strength, fluctuation at the smallest noise and its ratio to the first agent's.

    Args:
        evaluation: the table.
        disturbance: one of its disturbances.
        floor: the return that counts as nothing; adds the normalised area under the return curve.

    Returns:
        Rows in reading order. Every estimate and interval is that of `Evaluation.summary`,
        `Evaluation.compare` and `Evaluation.normalized_auc` with their defaults.
    """
    frame = evaluation.frame
    evaluation = Evaluation(frame[frame["disturbance"] == disturbance], evaluation.metadata)
    summary = evaluation.summary()
    definition = definition_of(evaluation, disturbance)
    rows: list[Row] = []
    for strength in sorted(summary["strength"].unique()):
        here = summary[summary["strength"] == strength]
        label = f"Return, {at_strength(float(strength), definition)}"
        rows.append(
            Row(f"return@{strength:g}", label, "estimate", _cells(here, "return"), "" if rows else _RETURN)
        )
    strength = smallest_noise(summary["strength"])
    label = f"Action fluctuation, {at_strength(strength, definition)}"
    here = summary[summary["strength"] == strength]
    rows.append(Row("fluctuation", label, "estimate", _cells(here, "action_fluctuation"), _FLUCTUATION))
    rows.append(_ratio(evaluation, strength))
    if floor is not None:
        rows.append(Row("auc", "Normalised return area (AUC)", "estimate", _auc(evaluation, floor), _AUC))
    return [row for row in rows if row.cells]


def _cells(rows: pd.DataFrame, column: str) -> dict[str, Cell]:
    cells = {}
    for _, row in rows.iterrows():
        cell = estimate_cell(row[column], row[f"{column}_low"], row[f"{column}_high"])
        if row["n_nonfinite"]:
            cell = dataclasses.replace(cell, detail=f"{row['n_nonfinite']} of {row['n_episodes']} not finite")
        cells[str(row["agent"])] = cell
    return cells


def _ratio(evaluation: Evaluation, strength: float) -> Row:
    reference, *others = agents_of(evaluation)
    disturbance = str(evaluation.frame["disturbance"].iloc[0])
    ratios = {agent: fluctuation_ratio(evaluation, disturbance, agent, strength) for agent in others}
    cells = {agent: cell for agent, cell in ratios.items() if cell is not None}
    if cells:
        cells[reference] = Cell(1.0, "1", "reference")
    note = f"Fluctuation divided by that of {reference} in the same seeds and episodes; below 1 is calmer."
    return Row("fluctuation_ratio", f"… relative to {reference}", "estimate", cells, note)


def fluctuation_ratio(evaluation: Evaluation, disturbance: str, agent: str, strength: float) -> Cell | None:
    """`Evaluation.compare`'s ratio of the agent's fluctuation to the reference's; None without a common episode."""
    frame = evaluation.frame
    here = Evaluation(frame[(frame["disturbance"] == disturbance) & (frame["strength"] == strength)])
    try:
        row = here.compare(agent, agents_of(evaluation)[0], "action_fluctuation").iloc[0]
    except ValueError:
        return None
    return estimate_cell(row["ratio"], row["ratio_low"], row["ratio_high"])


def _auc(evaluation: Evaluation, floor: float) -> dict[str, Cell]:
    cells = {}
    for agent in agents_of(evaluation):
        rows = evaluation.frame[evaluation.frame["agent"] == agent]
        try:
            table = Evaluation(rows).normalized_auc(floor)
        except ValueError:  # a strength is missing, or there is but one: the others are still worth showing
            continue
        row = table.iloc[0]
        if not math.isnan(row["normalized_auc"]):  # a clean return below the floor
            cells[agent] = estimate_cell(
                row["normalized_auc"], row["normalized_auc_low"], row["normalized_auc_high"]
            )
    return cells
