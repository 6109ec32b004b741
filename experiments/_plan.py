"""A sweep as a flat list of frozen configs, each with an id that never changes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from agents import get_agent
from envs import get_task
from experiments._checkpoint import Unfinished, is_finished
from experiments._parallel import module_command
from experiments._setup import hyperparameters, policy_options, refuse_fixed_end
from experiments.launchers import Job
from lipsrl._files import write_text
from lipsrl._validation import lookup, positive_finite, positive_int
from lipsrl.layers import BUDGETS, LAYERS
from lipsrl.tracking import Mode, RunFolder


@dataclass(frozen=True)
class RunConfig:
    """One training. What is None is as the recipe says, and not in the id.

    Attributes:
        agent, task, seed: what is trained.
        timesteps: environment steps, resolved.
        lipschitz_bound, layer, history, budget, regularizer_scale: as of ``experiments.train``.
    """

    agent: str
    task: str
    seed: int
    timesteps: int
    lipschitz_bound: float | Literal["auto"] | None = None
    layer: str | None = None
    history: int | None = None
    budget: str | None = None
    regularizer_scale: float | None = None

    @property
    def label(self) -> str:
        """What tables call the agent: the recipe, and what was chosen instead of its own."""
        parts = [self.agent, self.layer, self.budget]
        bound = self.lipschitz_bound
        parts += [None if bound is None else "Kauto" if bound == "auto" else f"K{bound:g}"]
        parts += [None if self.history is None else f"h{self.history}"]
        parts += [None if self.regularizer_scale is None else f"x{self.regularizer_scale:g}"]
        return "-".join(part for part in parts if part is not None)

    @property
    def name(self) -> str:
        """The id: AGENT-TASK-SEED with what was chosen, as ``ppo-sandwich-K6-pendulum-3``."""
        return f"{self.label}-{self.task}-{self.seed}"

    def command(self, folder: Path, track: Mode | None, checkpoint_every: int | None) -> list[str]:
        """The training that goes on where it was, and ends at once where it is finished."""
        options: list[object] = ["--agent", self.agent, "--task", self.task, "--seed", self.seed]
        options += ["--timesteps", self.timesteps, "--output", folder, "--resume"]
        for key in ("lipschitz_bound", "layer", "history", "budget", "regularizer_scale"):
            value = getattr(self, key)
            if value is not None:
                options += [f"--{key.replace('_', '-')}", value]
        if self.label != self.agent:
            options += ["--label", self.label]
        if checkpoint_every is not None:
            options += ["--checkpoint-every", checkpoint_every]
        if track is not None:
            options += ["--track", track]
        return module_command("experiments.train", *options)


def plan(
    agents: Sequence[str],
    tasks: Sequence[str],
    seeds: Sequence[int],
    *,
    timesteps: int | None = None,
    lipschitz_bound: Sequence[float | Literal["auto"]] = (),
    layer: Sequence[str] = (),
    history: Sequence[int] = (),
    budget: str | None = None,
) -> list[RunConfig]:
    """All combinations, seed by seed, so that a comparison is possible before the sweep has ended.

    A bound, a layer and a budget are of Lipschitz agents: a plain one is trained once beside them.

    Raises:
        ValueError: a name that does not exist, a number out of range, the same thing twice, nothing at all; a bound, a
            layer or a budget, and no agent that has one; a bound of an agent whose own moves while it learns.
    """
    for name, values in (("agents", agents), ("tasks", tasks), ("seeds", seeds)):
        if not values:
            raise ValueError(f"{name} is empty: a sweep needs at least one.")
    lists = {
        "agents": agents,
        "tasks": tasks,
        "lipschitz_bound": lipschitz_bound,
        "layer": layer,
        "history": history,
    }
    for name, values in lists.items():
        twice = {value for value in values if list(values).count(value) > 1}
        if twice:
            raise ValueError(f"{name} has {sorted(twice, key=str)} more than once.")
    if timesteps is not None:
        positive_int("timesteps", timesteps)
    for bound in lipschitz_bound:
        if bound != "auto":
            positive_finite("lipschitz_bound", bound)
    for name in layer:
        lookup("layer", name, LAYERS)
    if budget is not None:
        lookup("budget", budget, BUDGETS)
    if min(seeds) < 0:
        raise ValueError(f"seeds must be integers >= 0, received {min(seeds)}.")
    _refuse_unused(agents, tasks, lipschitz_bound=lipschitz_bound, layer=layer, budget=budget)
    found: dict[str, RunConfig] = {}
    for seed, task, agent in itertools.product(seeds, tasks, agents):
        recipe, length = get_agent(agent), timesteps
        if length is None:
            length = recipe.for_task(get_task(task).name).timesteps
        free = recipe.layer is None
        bounds, layers = ((), ()) if free else (lipschitz_bound, layer)
        axes = (bounds or (None,), layers or (None,), history or (None,))
        for bound, chosen, window in itertools.product(*axes):
            recipe.for_task(task)
            recipe.with_layer(chosen).with_history(window)
            config = RunConfig(
                agent, task, seed, length, bound if bound in (None, "auto") else float(bound), chosen, window,
                None if free else budget,
            )  # fmt: skip
            if found.setdefault(config.name, config) != config:
                raise ValueError(
                    f"{found[config.name]} and {config} have one id, {config.name}: an id holds six digits of K. Leave "
                    "one of them out."
                )
    return list(found.values())


def _refuse_unused(agents: Sequence[str], tasks: Sequence[str], **chosen: Any) -> None:
    """Refuse what no agent would heed."""
    given = {name: value for name, value in chosen.items() if value}
    if given and all(get_agent(agent).layer is None for agent in agents):
        raise ValueError(
            f"{_listed(given)} is of Lipschitz agents, and none of {', '.join(agents)} is one. Leave it out, or add "
            "such an agent (python -m experiments.train --list)."
        )
    for agent in agents if chosen["lipschitz_bound"] else ():
        for task in tasks:
            refuse_fixed_end(get_agent(agent), task, chosen["lipschitz_bound"][0])


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
        return Job(
            config.name, tuple(config.command(folder, track, checkpoint_every)), folder,
            f"{config.label}/{config.task}", config.timesteps, lambda: is_finished(RunFolder(folder)),
            lambda: _config(folder).get("train_seconds"),
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
            f"{folder} is of another sweep, with {_listed(different)}, not "
            f"{_listed({key: asked[key] for key in different})}. Give another --output."
        )


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items())


def _check_run(folder: Path, config: RunConfig) -> None:
    """Refuse a finished training that is not this one: of a folder without sweep.json, or trained by hand.

    What the config leaves to the recipe must be the recipe's own; what an older run does not say contradicts nothing.
    """
    found = _config(folder)
    if found.get("status") != "finished":
        return
    recipe = get_agent(config.agent).with_layer(config.layer).with_history(config.history)
    scale = 1.0 if config.regularizer_scale is None else config.regularizer_scale
    task = get_task(config.task)
    options = policy_options(recipe, task, config.lipschitz_bound, config.budget, scale)
    learned = json.loads(json.dumps(hyperparameters(recipe, task, options)))
    own = learned.pop("policy_kwargs")
    bounds = {"lipschitz_bound": own.get("lipschitz_bound"), "budget": own.get("budget")}
    if config.lipschitz_bound == "auto":
        bounds["lipschitz_bound"] = "auto"
    asked = {
        "recipe": config.agent, "task": config.task, "seed": config.seed, "timesteps": config.timesteps,
        "layer": recipe.layer, "history": recipe.frames, "disturbance": recipe.disturbance.get(config.task),
        "env_kwargs": task.env_kwargs, **learned, **own, **bounds,
        "regularizers": own.get("regularizers", []),
    }  # fmt: skip
    there = found | _of_learning(found)
    chosen = {field.name for field in fields(config) if getattr(config, field.name) is not None}
    different = {
        key: there.get(key)
        for key in asked
        if (key in there or key in chosen) and there.get(key) != asked[key]
    }
    if different:
        wanted = _listed({key: asked[key] for key in different})
        raise ValueError(
            f"{folder} is finished with {_listed(different)}, not {wanted}. Give another --output, or remove it."
        )


def _of_learning(found: dict[str, Any]) -> dict[str, Any]:
    """What a run folder says of the options of its algorithm and its policy."""
    there = dict(found.get("hyperparameters", {}))
    if "policy_kwargs" not in there:
        return there
    there |= {"regularizers": [], **there.pop("policy_kwargs")}
    if "lipschitz_search" in found:
        there["lipschitz_bound"] = "auto"
    return there
