"""The tables of docs/memory.md: IQM over seeds with 95 % bootstrap intervals."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from envs import Task
from experiments._distill_tables import markdown, spread
from lipsrl.attacks import worst_attacks
from lipsrl.evaluation import Evaluation
from lipsrl.metrics import normalized_auc
from lipsrl.tracking import RunFolder

CHATTER = "action_fluctuation"


@dataclass(frozen=True)
class Measured:
    """One agent of one seed.

    Attributes:
        frames: evaluation table by family, those that there are.
        tightness: of its network; nan without a certificate.
    """

    task: Task
    frames: Mapping[str, pd.DataFrame]
    tightness: float

    @classmethod
    def of(cls, folder: RunFolder, task: Task) -> Measured:
        """Read what `experiments.memory` left."""
        files = {name: folder.path / f"{name}.parquet" for name in ("noise", "faults", "attacks")}
        frames = {name: Evaluation.load(file).frame for name, file in files.items() if file.is_file()}
        tightness = float("nan")
        if folder.certificate_file.is_file():
            network = json.loads(folder.certificate_file.read_text())["network"]
            tightness = network["lower_bound"] / network["upper_bound"]
        return cls(task, frames, tightness)

    def mean(self, disturbance: str, strength: float, column: str = "return", family: str = "noise") -> float:
        """Over the episodes."""
        frame = self.frames[family]
        rows = frame[(frame["disturbance"] == disturbance) & (frame["strength"] == strength)]
        return float(rows[column].mean())

    def auc(self, disturbance: str) -> float:
        """Area under the return curve above the floor, in units of the clean return times the range: not divided by the
        agent's own clean return, so that agents compare."""
        returns = [self.mean(disturbance, strength) for strength in self.task.strengths]
        share = float(normalized_auc(self.task.strengths, returns, floor=self.task.floor))
        return share * (returns[0] - self.task.floor)

    def worst(self, epsilon: float) -> float:
        """Mean return under the attack that harms most."""
        found = worst_attacks(self.frames["attacks"])
        return float(found.loc[found["strength"] == epsilon, "return"].iloc[0])

    def worst_name(self, epsilon: float) -> str:
        """That attack."""
        found = worst_attacks(self.frames["attacks"])
        return str(found.loc[found["strength"] == epsilon, "attack"].iloc[0])


def tables(task: Task, folders: Mapping[str, Sequence[RunFolder]]) -> str:
    """Return and chatter under noise; faults and attacks; and each agent beside the teachers."""
    measured = {
        agent: [Measured.of(folder, task) for folder in found if (folder.path / "noise.parquet").is_file()]
        for agent, found in folders.items()
    }
    measured = {agent: found for agent, found in measured.items() if found}
    strengths = task.strengths
    return "\n\n".join(
        [
            f"**{task.env_id}**, return under white noise",
            _table(
                measured,
                {("clean" if s == 0 else f"σ = {s:g}"): _mean("white", s) for s in strengths}
                | {_chatter(task): _mean("white", task.chatter_strength, CHATTER)}
                | {"tightness": lambda m: m.tightness},
            ),
            "return under other faults, and under the worst attack",
            _table(
                measured,
                {f"{kind} {strengths[-2]:g}": _mean(kind, strengths[-2]) for kind in ("ar1", "bias")}
                | {"dropout and delay": _mean("dropout and delay", 1.0, family="faults")}
                | {f"worst attack, ε = {e:g}": _worst(e) for e in _epsilons(measured)},
            ),
            _beside_teachers(measured),
        ]
    )  # fmt: skip


def _chatter(task: Task) -> str:
    return f"mean \\|Δa\\| at σ = {task.chatter_strength:g}"


def _mean(
    disturbance: str, strength: float, column: str = "return", family: str = "noise"
) -> Callable[[Measured], float]:
    return lambda measured: measured.mean(disturbance, strength, column, family)


def _worst(epsilon: float) -> Callable[[Measured], float]:
    return lambda measured: measured.worst(epsilon)


def _epsilons(measured: Mapping[str, Sequence[Measured]]) -> list[float]:
    found = {e for runs in measured.values() for m in runs if "attacks" in m.frames
             for e in m.frames["attacks"]["strength"].unique()}  # fmt: skip
    return sorted(e for e in found if e > 0)


def _table(
    measured: Mapping[str, Sequence[Measured]], columns: Mapping[str, Callable[[Measured], float]]
) -> str:
    rows: list[list[str]] = [["agent", "seeds", *columns]]
    for agent, runs in measured.items():
        rows.append([agent, str(len(runs)), *(_cell(runs, column) for column in columns.values())])
    return markdown(rows)


def _cell(runs: Sequence[Measured], column: Callable[[Measured], float]) -> str:
    try:
        values = [column(run) for run in runs]
    except KeyError:  # attacks are not aimed at a filter
        return "–"
    return spread(values) if np.isfinite(values).all() else "–"


def _beside_teachers(measured: Mapping[str, Sequence[Measured]]) -> str:
    """Ratios, seed by seed."""
    teachers: Any = measured.get("teacher")
    if not teachers:
        return ""
    task = teachers[0].task
    columns: dict[str, Callable[[Measured], float]] = {
        "area under white noise": lambda m: m.auc("white"),
        "area under AR(1)": lambda m: m.auc("ar1"),
        "area under bias": lambda m: m.auc("bias"),
        _chatter(task): _mean("white", task.chatter_strength, CHATTER),
    }
    rows = [["agent / teacher", "clean return, above the floor", *columns]]
    for agent, runs in measured.items():
        if agent == "teacher" or len(runs) != len(teachers):
            continue
        pairs = list(zip(runs, teachers, strict=True))
        floor = task.floor
        cells = [
            [(own.mean("white", 0.0) - floor) / (theirs.mean("white", 0.0) - floor) for own, theirs in pairs]
        ]
        cells += [[column(own) / column(theirs) for own, theirs in pairs] for column in columns.values()]
        # an agent below the floor has no area
        rows.append([agent, *(spread(values) if np.isfinite(values).all() else "–" for values in cells)])
    return markdown(rows)
