"""What an evaluation says, in the words and tables of a W&B report: its panels cannot show our intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from lipsrl._digits import rounded_up
from lipsrl.tracking._labels import cell

if TYPE_CHECKING:
    from lipsrl.evaluation import Evaluation

Row = Mapping[str, Any]


def answer(evaluation: Evaluation, certificates: Iterable[Row] = ()) -> str:
    """Who keeps most of its return under each disturbance, and a table of all agents, in Markdown.

    Args:
        evaluation: of one or several agents and disturbances.
        certificates: ``Certificate.to_dict()`` with ``agent``; of several seeds the largest bound counts.

    Agents that hardly beat random actions (`lipsrl.reporting.doubts`) are named first, and keep most of nothing.
    """
    from lipsrl.reporting.doubts import untrained  # brings Jinja

    summary = evaluation.summary(("return", "action_fluctuation"))
    doubtful = untrained(evaluation, evaluation.metadata.get("floor"))
    proven = _proven(certificates)
    try:
        curves = evaluation.normalized_auc()
        missing = ""
    except ValueError as error:  # no floor, one strength only, an agent without some of them
        curves, missing = None, f"No AUC: {cell(str(error))}"
    parts = []
    for disturbance, of in summary.groupby("disturbance", sort=False):
        rows = _rows(of)
        if curves is not None:
            of_curves = _records(curves[curves["disturbance"] == disturbance])
            rows = [row | curve for row, curve in zip(rows, of_curves, strict=True)]
        parts += [
            f"**{cell(str(disturbance))}.** {_best([row for row in rows if row['agent'] not in doubtful])}".rstrip(),
            _table(rows, proven),
            _note(rows, evaluation.metadata),
        ]
    warnings = [cell(text) for text in doubtful.values()]
    return "\n\n".join(part for part in [*warnings, *parts, missing] if part)


def _proven(certificates: Iterable[Row]) -> dict[str, float]:
    bounds: dict[str, float] = {}
    for certificate in certificates:
        agent, bound = str(certificate["agent"]), float(certificate["upper_bound"])
        if bound == bound:
            bounds[agent] = max(bounds.get(agent, 0.0), bound)
    return bounds


def _rows(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per agent: its least strength as ``clean``, its greatest as ``strongest``."""
    rows = []
    for agent, of in summary.groupby("agent", sort=False):
        ordered = _records(of.sort_values("strength"))
        last = ordered[-1]
        whose = {key: last[key] for key in ("n_seeds", "resampled")}
        rows.append({"agent": str(agent), "clean": ordered[0], "strongest": last, **whose})
    return rows


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _best(rows: list[dict[str, Any]]) -> str:
    """One sentence; it says that one is above all others only where their intervals are apart."""
    known = [row for row in rows if not pd.isna(row.get("normalized_auc", float("nan")))]
    if not known:
        return ""
    first, *others = sorted(known, key=lambda row: -row["normalized_auc"])
    says = f"{cell(first['agent'])} keeps most of its return: AUC {_interval(first, 'normalized_auc', '.2f')}"
    if not others:
        return f"AUC {_interval(first, 'normalized_auc', '.2f')}."
    apart = first["normalized_auc_low"] > max(row["normalized_auc_high"] for row in others)
    return f"{says}, {'above all others' if apart else 'but its interval meets that of another'}."


def _table(rows: list[dict[str, Any]], proven: Mapping[str, float]) -> str:
    head = ["agent", "seeds", "return, least strength", "return, greatest", "AUC", "half is lost at"]
    head += ["mean ‖Δa‖ per step, greatest", "proven ‖Δa‖/‖Δo‖"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for row in rows:
        bound = proven.get(row["agent"])
        lines.append(
            [
                cell(row["agent"]),
                str(row["n_seeds"]),
                f"{_interval(row['clean'], 'return', '.1f')} at {row['clean']['strength']:g}",
                f"{_interval(row['strongest'], 'return', '.1f')} at {row['strongest']['strength']:g}",
                _interval(row, "normalized_auc", ".2f"),
                _interval(row, "breakdown_strength", ".3g"),
                _interval(row["strongest"], "action_fluctuation", ".3g"),
                "–" if bound is None else f"≤ {rounded_up(bound, 4)}",
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _note(rows: list[dict[str, Any]], metadata: Row) -> str:
    floors = {f"{row['floor']:.1f}" for row in rows if "floor" in row}
    note = f"95 % bootstrap intervals over {' or '.join(sorted({row['resampled'] for row in rows}))}"
    note += f"; the AUC is 0 at a return of {', '.join(sorted(floors))}." if floors else "."
    episodes = metadata.get("n_episodes")
    return (
        note
        if episodes is None
        else f"{note} {episodes} episodes per run and strength, the same for every agent."
    )


def _interval(row: Row, name: str, digits: str) -> str:
    if name not in row:
        return "–"
    if pd.isna(row[name]):
        return "not finite"
    if pd.isna(row[f"{name}_low"]) or pd.isna(row[f"{name}_high"]):
        return f"{row[name]:{digits}}"
    return f"{row[name]:{digits}} [{row[f'{name}_low']:{digits}}, {row[f'{name}_high']:{digits}}]"
