"""The folder of a sweep: what is swept in it, and whether what lies there already is of this sweep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from agents import get_agent
from envs import get_task
from experiments._checkpoint import Unfinished, is_finished
from experiments._plan import RunConfig, listed
from experiments._setup import hyperparameters, policy_options
from experiments._stored import check_source
from experiments._student import identity, lesson_of
from experiments._teachers import place_of_teacher
from experiments.launchers import Job
from lipsrl._files import write_text
from lipsrl.tracking import Mode, RunFolder


class SweepFolder:
    """``OUTPUT/.sweep/``: what is swept in OUTPUT (``sweep.json``), the logs, Slurm's script, the search's journal."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.path = output / ".sweep"
        self.record = self.path / "sweep.json"

    def runs(self) -> dict[str, dict[str, Any]]:
        """Id → config of what is swept here so far."""
        try:
            found: dict[str, dict[str, Any]] = json.loads(self.record.read_text(encoding="utf-8"))["runs"]
        except FileNotFoundError:
            return {}
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.record} is damaged ({error}). Remove it: it is written again, and what is finished stays."
            ) from error
        return found

    def check(self, configs: Sequence[RunConfig], *, extend: bool = False) -> None:
        """Refuse a folder of another sweep, and runs that were made with other settings.

        A sweep may be asked for again, in part, or with more of everything.

        Raises:
            ValueError: says what differs.
        """
        there, asked = self.runs(), {config.name: asdict(config) for config in configs}
        for name in there.keys() & asked.keys():
            _same(self.output / name, there[name], asked[name])
        part = asked.keys() <= there.keys() or there.keys() <= asked.keys()
        if not (part or extend):
            raise ValueError(
                f"{self.output} is the folder of another sweep: it has {_some(there.keys() - asked.keys())}, which are "
                f"not asked for now, and lacks {_some(asked.keys() - there.keys())}. Give another --output, or pass "
                "--extend to have both there."
            )
        for config in configs:
            _check_run(self.output / config.name, config)

    def write(self, configs: Sequence[RunConfig], command: str) -> None:
        """Remember the sweep."""
        runs = self.runs() | {config.name: asdict(config) for config in configs}
        write_text(
            self.record, json.dumps({"schema_version": 1, "command": command, "runs": runs}, indent=2) + "\n"
        )

    def job(self, config: RunConfig, track: Mode | None, checkpoint_every: int | None) -> Job:
        """The training of ``config``."""
        folder = self.output / config.name
        recipe, learns = get_agent(config.agent), None
        if (
            recipe.teacher is not None
        ):  # whose steps those are; how long they took is known of the teacher alone
            learns = place_of_teacher(RunFolder(folder), recipe, config.task, config.seed).path
        return Job(
            config.name, tuple(config.command(folder, track, checkpoint_every)), folder,
            f"{config.label}/{config.task}", config.timesteps, lambda: is_finished(RunFolder(folder)),
            lambda: _config(folder).get("train_seconds") if learns is None else None, learns,
        )  # fmt: skip


def _some(names: set[str]) -> str:
    shown = sorted(names)[:3]
    return ", ".join(shown) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _config(folder: Path) -> dict[str, Any]:
    """config.json of a training that ended, else nothing."""
    if Unfinished(folder).settings() is not None:
        return {}
    try:
        return RunFolder.open(folder).read_config()
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def _same(folder: Path, there: dict[str, Any], asked: dict[str, Any]) -> None:
    different = {key: there.get(key) for key in asked if there.get(key) != asked[key]}
    if different:
        raise ValueError(
            f"{folder} is of another sweep, with {listed(different)}, not "
            f"{listed({key: asked[key] for key in different})}. Give another --output."
        )


def _check_run(folder: Path, config: RunConfig) -> None:
    """Refuse a finished training that is not this one: of a folder without sweep.json, or trained by hand.

    What the config leaves to the recipe must be the recipe's own; what an older run does not say contradicts nothing.
    """
    found = _config(folder)
    if found.get("status") != "finished":
        return
    asked = _asked(config)
    there = found | _of_learning(found)
    chosen = {field.name for field in fields(config) if getattr(config, field.name) is not None}
    different = {
        key: there.get(key)
        for key in asked
        if (key in there or key in chosen) and there.get(key) != asked[key]
    }
    if different:
        wanted = listed({key: asked[key] for key in different})
        raise ValueError(
            f"{folder} is finished with {listed(different)}, not {wanted}. Give another --output, or remove it."
        )
    if "lesson" in found:
        check_source(RunFolder(folder), RunFolder(folder / found["teacher"]))


def _asked(config: RunConfig) -> dict[str, Any]:
    """What a training says of itself that is the one of ``config``."""
    recipe = get_agent(config.agent).with_layer(config.layer).with_history(config.history)
    scale = 1.0 if config.regularizer_scale is None else config.regularizer_scale
    task = get_task(config.task)
    if recipe.teacher is not None:
        lesson = lesson_of(recipe, task.name, config.lipschitz_bound, config.budget, scale)
        student = identity(recipe, task, config.seed, config.timesteps, lesson)
        student.pop("agent")  # a name that a label may have replaced
        learned = student.pop("hyperparameters")
        own = learned.pop("policy_kwargs")
        return dict(json.loads(json.dumps(student | learned | own)))
    options = policy_options(recipe, task, config.lipschitz_bound, config.budget, scale)
    learned = json.loads(json.dumps(hyperparameters(recipe, task, options)))
    own = learned.pop("policy_kwargs")
    bounds = {"lipschitz_bound": own.get("lipschitz_bound"), "budget": own.get("budget")}
    if config.lipschitz_bound == "auto":
        bounds["lipschitz_bound"] = "auto"
    return {
        "recipe": config.agent, "task": config.task, "seed": config.seed, "timesteps": config.timesteps,
        "layer": recipe.layer, "history": recipe.frames, "disturbance": recipe.disturbance.get(config.task),
        "env_kwargs": task.env_kwargs, **learned, **own, **bounds,
        "regularizers": own.get("regularizers", []),
    }  # fmt: skip


def _of_learning(found: dict[str, Any]) -> dict[str, Any]:
    """What a run folder says of the options of its algorithm and its policy."""
    there = dict(found.get("hyperparameters", {}))
    if "policy_kwargs" not in there:
        return there
    there |= {"regularizers": [], **there.pop("policy_kwargs")}
    if "lipschitz_search" in found:
        there["lipschitz_bound"] = "auto"
    return there
