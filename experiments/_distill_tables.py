"""The tables of docs/distillation.md: students against their targets, and kinds of agents side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs import Task, get_task
from experiments.evaluate import certify_run, evaluate_run, white_noise
from lipsrl.evaluation import Evaluation
from lipsrl.reporting.numbers import interval, number
from lipsrl.statistics import bootstrap_ci, iqm
from lipsrl.tracking import RunFolder


@dataclass(frozen=True)
class Measured:
    """One run, evaluated and certified."""

    config: dict[str, Any]
    evaluation: Evaluation
    slope: float
    tightness: float

    @classmethod
    def of(cls, folder: RunFolder, episodes: int, seed: int) -> Measured:
        """Evaluate and certify, or read what is there."""
        network = certify_run(folder).network
        evaluation = white_noise(evaluate_run(folder, episodes=episodes, seed=seed))
        return cls(folder.read_config(), evaluation, network.lower_bound, network.tightness)

    @property
    def task(self) -> Task:
        """That it was trained on."""
        return get_task(self.config["task"])

    def mean(self, column: str, strength: float) -> float:
        """Over the episodes at one noise level."""
        frame = self.evaluation.frame
        return float(frame.loc[frame["strength"] == strength, column].mean())

    @property
    def chatter(self) -> float:
        """Action fluctuation at the task's small noise."""
        return self.mean("action_fluctuation", self.task.chatter_strength)


def spread(values: Sequence[float], places: int | None = None) -> str:
    """IQM over runs with its 95 % interval."""
    found = bootstrap_ci(np.asarray(values), iqm)
    return f"{number(found.estimate, places)} {interval(found.low, found.high, places)}"


def span(values: Sequence[float], form: Callable[[float], str] = number) -> str:
    """Median and range over runs."""
    low, high = form(min(values)), form(max(values))
    return form(statistics.median(values)) + (f" ({low}–{high})" if low != high else "")


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row is its head."""
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def target_line(teachers: Sequence[Measured], students: Sequence[Measured]) -> list[str]:
    """One agent and task against the targets."""
    pairs = list(zip(teachers, students, strict=True))
    clean = [(t.mean("return", 0.0), s.mean("return", 0.0)) for t, s in pairs]
    loss = [100 * (t - s) / abs(t) for t, s in clean]
    first = teachers[0]
    return [
        f"{first.config['agent']}, {first.task.env_id}",
        str(len(pairs)),
        span([t.slope for t in teachers]),
        span([s.config["lipschitz_bound"] for s in students]),
        spread([t for t, _ in clean]),
        spread([s for _, s in clean]),
        f"{spread(loss, 1)} %",
        f"{sum(one <= 3 for one in loss)} of {len(loss)}",
        f"{first.task.chatter_strength:g}",
        spread([s.chatter / t.chatter for t, s in pairs], 2),
        span([s.tightness for s in students], lambda value: f"{value:.1%}"),
        span([s.config["seconds"] for s in students], lambda value: f"{value:.0f} s"),
    ]


TARGET_HEAD = [
    "teacher", "runs", "its steepest slope", "K", "clean return", "student\'s", "loss", "loss ≤ 3 %", "σ",
    "mean \\|Δa\\| at σ, × teacher\'s", "tightness", "time",
]  # fmt: skip


def kind_line(kind: str, runs: Sequence[Measured]) -> list[str]:
    """One kind of agent: what it earns at every noise level."""
    task = runs[0].task
    bounds = [b for b in (run.config["lipschitz_bound"] for run in runs) if b is not None]
    places = 0 if abs(task.reference_return) >= 100 else 2
    return [
        kind,
        str(len(runs)),
        span(bounds) if bounds else "none",
        *(spread([run.mean("return", strength) for run in runs], places) for strength in task.strengths),
        spread([run.chatter for run in runs], 3),
        span([run.tightness for run in runs], lambda value: f"{value:.1%}"),
    ]


def kind_head(task: Task) -> list[str]:
    """Of the table whose rows are :func:`kind_line`."""
    returns = [f"return σ={strength:g}" if strength else "return clean" for strength in task.strengths]
    return ["agent", "runs", "K", *returns, f"mean \\|Δa\\| σ={task.chatter_strength:g}", "tightness"]


def side_by_side(groups: Mapping[tuple[str, str], Mapping[str, Sequence[Measured]]]) -> str:
    """Both Markdown tables: students against the targets, and kinds of agents side by side per task.

    Args:
        groups: (teacher's agent, task) → kind of agent → its runs; ``"teacher"`` and ``"student"`` are in pairs.
    """
    targets = markdown([TARGET_HEAD, *(target_line(g["teacher"], g["student"]) for g in groups.values())])
    parts = [targets]
    for (agent, task), group in groups.items():
        lines = [kind_line(kind, runs) for kind, runs in group.items()]
        parts.append(f"{agent} on {task}\n\n" + markdown([kind_head(get_task(task)), *lines]))
    return "\n\n".join(parts)
