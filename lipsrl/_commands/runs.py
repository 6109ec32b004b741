"""``lipsrl runs``."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import tyro
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lipsrl.actors.run_folder import RunFolder
from lipsrl.evaluation import Evaluation
from lipsrl.reporting import read_progress
from lipsrl.reporting.numbers import MISSING, number, percent

#: folders below the one that is given
_DEPTH = 3
#: what makes a folder one of a run, whole or not
_SIGNS = ("config.json", "model.zip", "progress.csv", "certificate.json", "evaluation.parquet")


@dataclass(frozen=True)
class Run:
    """One run folder in a line; ``state`` says what is wrong with it, if anything is."""

    name: str
    agent: str = MISSING
    task: str = MISSING
    seed: str = MISSING
    bound: str = MISSING
    earned: str = MISSING
    kept: str = MISSING
    tightness: str = MISSING
    state: str = ""


@dataclass
class Runs:
    """List run folders: agent, task, K, return, area under the return curve (AUC), tightness and state."""

    folder: tyro.conf.Positional[Path]
    """Folder that contains run folders, or one run folder."""

    def run(self, console: Console) -> None:
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"{str(self.folder)!r} is no folder. Give the one that the run folders are in."
            )
        found = [read_run(path, self.folder) for path in sorted(run_folders(self.folder))]
        if not found:
            raise ValueError(
                f"{str(self.folder)!r} holds no run folder: none with {', '.join(_SIGNS[:2])} or other parts of one, "
                f"down to {_DEPTH} folders below it."
            )
        # a pipe has no width: every line whole
        wide = console if console.is_terminal else Console(file=console.file, width=10_000)
        wide.print(runs_table(found, terminal=console.is_terminal))


def runs_table(runs: list[Run], *, terminal: bool = True) -> Table:
    """One row per run."""
    table = Table(box=box.SIMPLE_HEAD if terminal else None, pad_edge=terminal)
    for name in ("run", "agent", "task", "seed", "K", "return", "AUC", "tightness", "state"):
        table.add_column(
            name, justify="right" if name in ("seed", "K", "return", "AUC", "tightness") else "left"
        )
    for r in runs:
        cells = (r.name, r.agent, r.task, r.seed, r.bound, r.earned, r.kept, r.tightness, r.state)
        table.add_row(*(Text(" ".join(str(cell).split())) for cell in cells))
    return table


def run_folders(top: Path) -> Iterator[Path]:
    """All folders with a part of a run, and those directly below ``top`` with nothing of one in or under them."""
    found: list[Path] = []
    for here, below, files in os.walk(top):
        path = Path(here)
        depth = len(path.relative_to(top).parts)
        below[:] = [name for name in below if not name.startswith(".")] if depth < _DEPTH else []
        if any(name in files for name in _SIGNS):
            found.append(path)
            below[:] = [name for name in below if name not in ("wandb", "tensorboard")]
    yield from found
    for path in sorted(top.iterdir()) if top not in found else []:
        hidden = path.name.startswith(".") or not path.is_dir()
        if not hidden and not any(path == run or path in run.parents for run in found):
            yield path


def read_run(path: Path, top: Path) -> Run:
    """What the files of a run say, without opening the model; never an error."""
    name = str(path.relative_to(top)) if path != top else path.name
    folder = RunFolder(path)
    if not any((path / sign).exists() for sign in _SIGNS):
        return Run(name, state="no run folder")
    config, state = _config(folder)
    evaluation, broken = _evaluation(folder)
    trouble = [state, broken, _missing(folder, config)]
    if evaluation is None and not broken:
        trouble.append("not evaluated")
    earned, kept = _returns(evaluation)
    if earned is None:
        last = _last_return(path)
        earned = MISSING if last is None else f"{last} (training)"
    certificate = _certificate(folder)
    return Run(
        name,
        _word(config.get("agent")),
        _word(config.get("task") or config.get("env_id")),
        _word(config.get("seed")),
        _bound(config.get("lipschitz_bound", certificate.get("promise"))),
        earned,
        kept,
        _tightness(certificate),
        ", ".join(part for part in trouble if part),
    )


def _config(folder: RunFolder) -> tuple[dict[str, Any], str]:
    if not folder.config_file.is_file():
        steps = read_progress(folder.path)
        done = "" if steps is None or "time/total_timesteps" not in steps else (
            f", {int(pd.to_numeric(steps['time/total_timesteps'], errors='coerce').max()):,} steps so far"
        )  # fmt: skip
        return {}, f"training, or broken off{done}: no config.json"
    try:
        config = folder.read_config()
        if not isinstance(config, dict):
            raise ValueError("no object")
    except (ValueError, OSError):
        return {}, "broken: config.json cannot be read"
    return config, str(config.get("status") or "finished")


def _missing(folder: RunFolder, config: dict[str, Any]) -> str:
    if config and not folder.model_file.is_file():
        return "broken: no model.zip"
    if config.get("vec_normalize") and not folder.normalization_file.is_file():
        return "broken: no vecnormalize.pkl"
    return ""


def _evaluation(folder: RunFolder) -> tuple[Evaluation | None, str]:
    if not folder.evaluation_file.is_file():
        return None, ""
    try:
        evaluation = Evaluation.load(folder.evaluation_file)
    except (ValueError, OSError):
        return None, "broken: evaluation.parquet cannot be read"
    return (evaluation, "") if len(evaluation.frame) else (None, "evaluation is empty")


def _returns(evaluation: Evaluation | None) -> tuple[str | None, str]:
    """Clean return and share kept under the first disturbance, as `Evaluation` has them."""
    if evaluation is None:
        return None, MISSING
    frame = evaluation.frame
    here = frame[frame["disturbance"] == frame["disturbance"].iloc[0]]
    clean = here[here["strength"] == 0.0]
    earned = number(float(Evaluation(clean).summary(["return"])["return"].iloc[0])) if len(clean) else MISSING
    try:
        area = float(Evaluation(here, evaluation.metadata).normalized_auc()["normalized_auc"].iloc[0])
    except ValueError:  # no floor, or strengths without 0
        return earned, MISSING
    return earned, number(area, 3)


def _last_return(path: Path) -> str | None:
    progress = read_progress(path)
    if progress is None or "rollout/ep_rew_mean" not in progress:
        return None
    values = pd.to_numeric(progress["rollout/ep_rew_mean"], errors="coerce").dropna()
    return number(float(values.iloc[-1])) if len(values) else None


def _certificate(folder: RunFolder) -> dict[str, Any]:
    try:
        found = json.loads(folder.certificate_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _tightness(certificate: dict[str, Any]) -> str:
    found = certificate.get("tightness")
    return percent(found, rounding="down") if isinstance(found, float) else MISSING


def _bound(value: Any) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "∞" if math.isinf(value) else f"{value:g}"
    return MISSING


def _word(value: Any) -> str:
    return MISSING if value is None else str(value)
