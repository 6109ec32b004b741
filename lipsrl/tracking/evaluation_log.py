"""An evaluation and its certificates in a W&B run: tables, curves over strength, numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from lipsrl._validation import unknown_name
from lipsrl.evaluation import Evaluation
from lipsrl.tracking._tables import (
    MINIMUM,
    Certificates,
    certificate_numbers,
    certificate_rows,
    certificate_table,
    numbers,
    robustness_table,
    sensor_table,
    with_minimum,
)
from lipsrl.tracking.define import define_metrics
from lipsrl.tracking.names import key_parts


def log_evaluation(
    evaluation: Evaluation, certificates: Certificates = None, run: Any = None, *, agent: str | None = None
) -> None:
    """Log what was measured to a W&B run, under the names of docs/tracking.md.

    Tables of all agents; a chart of return over strength per disturbance, one line per agent; and, where the run is of
    one agent, its curves over strength (``robustness/<disturbance>/…``), its AUC, breakdown, clean and noisy return,
    worst attack and certificate as numbers in the summary. Of several agents one run could hold the numbers of one
    only: give each a run of its own, as the commands do, and W&B groups them.

    Args:
        evaluation: of one agent or several.
        certificates: a :class:`lipsrl.Certificate` of the only agent, a dict of them by agent or (agent, training
            seed), or a list of their ``to_dict()`` with ``"agent"`` and ``"seed"`` beside it.
        run: a W&B run; None: the active one.
        agent: whose numbers and curves the run gets, if not those of the only one.

    Raises:
        ValueError: no run is active, or ``agent`` is not in the evaluation.

    Example:
        >>> import wandb
        >>> from lipsrl.evaluation import evaluate
        >>> from lipsrl.tracking import log_evaluation
        >>> rest = evaluate({"rest": lambda o: 0 * o[:, :1]}, "Pendulum-v1", n_episodes=2)
        >>> with wandb.init(mode="disabled") as run:
        ...     log_evaluation(rest, run=run)
    """
    import wandb

    run = run or wandb.run
    if run is None:
        raise ValueError(
            "no W&B run is active. Start one first (wandb.init(project=…, mode='offline')), or give run=."
        )
    evaluation, attacks = with_minimum(evaluation)
    frame = evaluation.frame
    agents = [str(name) for name in frame["agent"].unique()]
    if agent is not None and agent not in agents:
        raise unknown_name("agent", agent, agents)
    mine = agent or (agents[0] if len(agents) == 1 else None)
    parts = key_parts(frame["disturbance"].unique(), [*attacks, MINIMUM])
    rows = certificate_rows(certificates, agents)
    summary = evaluation.summary(["return", "action_fluctuation"])
    robustness = robustness_table(evaluation)

    define_metrics(run, parts.values())
    tables = {"degradation": summary, "robustness": robustness}
    if rows:
        tables |= {"certificate": certificate_table(rows), "sensors": sensor_table(rows)}
    logged: dict[str, Any] = {f"tables/{key}": table_of(t) for key, t in tables.items() if t is not None}
    for disturbance, part in parts.items():
        chart = _lines(summary[summary["disturbance"] == disturbance], str(disturbance))
        if chart is not None:
            logged[f"curves/{part}"] = chart
    run.log(logged)
    if mine is None:
        return
    own = Evaluation(frame[frame["agent"] == mine], evaluation.metadata)
    own_summary = summary[summary["agent"] == mine]
    own_robustness = None if robustness is None else robustness[robustness["agent"] == mine]
    for disturbance, part in parts.items():
        _curve(run, part, own_summary[own_summary["disturbance"] == disturbance])
    found = numbers(own, own_summary, own_robustness, attacks, parts)
    certified = [row for row in rows if row["agent"] == mine]
    if len(certified) == 1:  # of several training seeds the table has each
        found |= certificate_numbers(certified[0])
    run.summary.update(found)


def table_of(frame: pd.DataFrame) -> Any:
    """A W&B table of plain values; what is not finite is empty."""
    import wandb

    rows: list[Any] = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    return wandb.Table(columns=[str(name) for name in frame.columns], data=rows, allow_mixed_types=True)


def _cell(value: Any) -> Any:
    if value is None or value is pd.NA:
        return None
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _curve(run: Any, part: str, rows: pd.DataFrame) -> None:
    for _, row in rows.sort_values("strength").iterrows():
        values = {
            "return": row["return"],
            "return_low": row["return_low"],
            "return_high": row["return_high"],
            "action_fluctuation": row["action_fluctuation"],
        }
        known = {key: float(value) for key, value in values.items() if math.isfinite(value)}
        if known:
            point = {"strength": float(row["strength"]), **known}
            run.log({f"robustness/{part}/{key}": value for key, value in point.items()})


def _lines(rows: pd.DataFrame, disturbance: str) -> Any | None:
    lines = {}
    for agent, own in rows.groupby("agent", sort=False):
        finite = own[own["return"].notna()].sort_values("strength")
        lines[str(agent)] = (finite["strength"].tolist(), finite["return"].tolist())
    return line_chart(lines, f"return over strength, {disturbance}", "strength")


def line_chart(lines: Mapping[str, tuple[list[float], list[float]]], title: str, xname: str) -> Any | None:
    """W&B's own line chart with a line per key; None where no line has a point."""
    import wandb

    drawn = {name: line for name, line in lines.items() if len(line[0])}
    if not drawn:
        return None
    return wandb.plot.line_series(
        xs=[list(map(float, x)) for x, _ in drawn.values()],
        ys=[list(map(float, y)) for _, y in drawn.values()],
        keys=list(drawn),
        title=title,
        xname=xname,
    )
