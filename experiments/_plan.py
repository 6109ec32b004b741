"""A sweep as a flat list of frozen configs, each with an id that never changes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agents import get_agent
from envs import get_task
from experiments._parallel import module_command
from experiments._setup import refuse_fixed_end
from experiments._student import lesson_of
from lipsrl._validation import lookup, positive_finite, positive_int
from lipsrl.layers import BUDGETS, LAYERS
from lipsrl.tracking import Mode


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
            if recipe.teacher is not None:
                lesson_of(recipe, task, bound, budget, None)
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
            f"{listed(given)} is of Lipschitz agents, and none of {', '.join(agents)} is one. Leave it out, or add "
            "such an agent (python -m experiments.train --list)."
        )
    for agent in agents if chosen["lipschitz_bound"] else ():
        for task in tasks:
            refuse_fixed_end(get_agent(agent), task, chosen["lipschitz_bound"][0])


def listed(values: dict[str, Any]) -> str:
    """``a=1, b=2``."""
    return ", ".join(f"{key}={value}" for key, value in values.items())
