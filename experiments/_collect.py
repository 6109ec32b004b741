"""From the run folders of `experiments.memory` to a small study."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from agents import AGENTS as RECIPES
from envs import get_task
from experiments._memory_agents import AGENTS, FILTERED
from experiments._pooling import refuse_mixtures
from experiments._study import COLUMNS, MEASURED, Run, Setting, Study, read_parquet
from lipsrl.tracking import RunFolder

#: The agent that others are compared with.
PLAIN = "teacher"
#: Not networks that answer one observation at a time: neither attacked nor certified.
UNATTACKED = (*FILTERED, "recurrent")


def collect(root: Path, name: str, tasks: Sequence[str] = ()) -> tuple[Study, list[str]]:
    """The study called ``name``, of all agents under ``root`` that are finished, and words on the others.

    Args:
        root: folder of TASK-SEED/AGENT, as `experiments.memory` leaves them.
        name: of the study.
        tasks: only these; all where none is given.

    Raises:
        ValueError: nothing there, a file that cannot be read, an agent that is there twice, or runs of one agent that
            differ in more than their seed.
    """
    if not root.is_dir():
        raise ValueError(f"collect={str(root)!r} is no folder; expected one of run folders TASK-SEED/AGENT.")
    settings: dict[str, Setting] = {}
    runs: list[Run] = []
    frames: list[pd.DataFrame] = []
    skipped: list[str] = []
    versions: dict[str, set[str]] = {}
    places: dict[tuple[str, str], dict[int, Path]] = {}
    for seed_folder in sorted(path for path in root.iterdir() if path.is_dir()):
        configs = {path.name: _config(path) for path in sorted(seed_folder.iterdir()) if path.is_dir()}
        plain = _plain_of(seed_folder.name, configs)
        if plain is None:
            skipped.append(f"{seed_folder.name}: no config.json of an agent that names a task")
            continue
        if tasks and plain["task"] not in tasks:
            continue
        setting = plain["task"] if plain["agent"] == "ppo" else f"{plain['task']} ({plain['agent']})"
        for agent in (agent for agent in AGENTS if agent in configs):
            folder = seed_folder / agent
            lacks = _lacks(folder, agent)
            if lacks:
                skipped.append(f"{seed_folder.name}/{agent}: unfinished, no {', '.join(lacks)}")
                continue
            _refuse_misplaced(folder, configs[agent], plain)
            one = _run(folder, configs[agent], setting, agent, int(plain["seed"]))
            twin = places.setdefault((setting, agent), {}).setdefault(int(plain["seed"]), folder)
            if twin != folder:
                raise ValueError(f"{twin} and {folder} are both {one.name!r}: one run would count twice.")
            runs.append(one)
            frames.append(_means(folder, setting, agent, int(plain["seed"])))
            _add_setting(settings, setting, plain, folder)
            for package, version in configs[agent].get("versions", {}).items():
                versions.setdefault(package, set()).add(version)
    if not runs:
        words = f" ({'; '.join(skipped[:3])})" if skipped else ""
        raise ValueError(f"No finished agent under {root}{words}; expected TASK-SEED/AGENT/noise.parquet.")
    for (_, agent), found in places.items():
        own = [RunFolder(folder) for folder in found.values()]
        refuse_mixtures(own, [{**_config(one.path), "agent": agent} for one in own])
    _refuse_other_bounds(runs)
    chosen = ["--tasks", *tasks] if tasks else []
    return _study(name, settings, runs, pd.concat(frames, ignore_index=True), versions, chosen), skipped


def joined(stored: Study, fresh: Study) -> tuple[Study, list[Run]]:
    """The stored study with those fresh runs that it does not have, and the runs that it had already (they stay).

    For machines that lose their run folders, and for seeds that were measured on another machine.

    Raises:
        ValueError: both were measured under other conditions.
    """
    settings = dict(stored.settings)
    for name, setting in fresh.settings.items():
        known = settings.setdefault(name, setting)
        if not _alike(known, setting):
            raise ValueError(
                f"{name!r} was measured at other strengths, radii or episodes, or from another floor than in the "
                f"study {stored.name!r}. Give the runs another --study, or measure them again."
            )
        if not known.epsilons:
            settings[name] = setting
    have = {run.name for run in stored.runs}
    new = [run for run in fresh.runs if run.name not in have]
    which = pd.DataFrame([(run.setting, run.agent, run.seed) for run in new], columns=COLUMNS[:3])
    rows = fresh.conditions.merge(which.astype(fresh.conditions.dtypes[COLUMNS[:3]]), on=COLUMNS[:3])
    versions = {
        package: {*stored.versions.get(package, ()), *fresh.versions.get(package, ())}
        for package in (*stored.versions, *fresh.versions)
    }
    conditions = pd.concat([stored.conditions, rows], ignore_index=True) if new else stored.conditions
    _refuse_other_bounds([*stored.runs, *new])
    both = _study(stored.name, settings, [*stored.runs, *new], conditions, versions, ["--add"])
    return both, [run for run in fresh.runs if run.name in have]


def _study(
    name: str,
    settings: Mapping[str, Setting],
    runs: Sequence[Run],
    conditions: pd.DataFrame,
    versions: Mapping[str, Iterable[str]],
    options: Sequence[str],
) -> Study:
    """Everything in its order, with the commands that make it."""
    _refuse_other_episodes(conditions)
    order = {agent: place for place, agent in enumerate(AGENTS)}
    runs = sorted(runs, key=lambda run: (run.setting, order[run.agent], run.seed))
    conditions = conditions.assign(order=conditions["agent"].map(order))
    conditions = conditions.sort_values(["setting", "order", "seed"], kind="stable", ignore_index=True)
    agents = {agent: AGENTS[agent] for agent in AGENTS if any(run.agent == agent for run in runs)}
    commands = [
        command for setting in sorted(settings) for command in _made_by(setting, settings[setting], runs)
    ]
    collected = ["python", "-m", "experiments.results", "--collect", "RUNS", "--study", name, *options]
    return Study(
        name, PLAIN, agents, [*commands, shlex.join(collected)], dict(sorted(settings.items())), runs,
        conditions[COLUMNS], {package: sorted(found) for package, found in sorted(versions.items())},
    )  # fmt: skip


def _refuse_misplaced(folder: Path, config: Mapping[str, Any], plain: Mapping[str, Any]) -> None:
    """Refuse a run that says itself that it is of another task or seed than the folder that it lies in."""
    other = {key: config[key] for key in ("task", "seed") if config.get(key, plain[key]) != plain[key]}
    if other:
        raise ValueError(
            f"{folder} says that it is of {other}, and lies beside agents of "
            f"{ {key: plain[key] for key in other} }. Move it to TASK-SEED of its own."
        )


def _refuse_other_bounds(runs: Sequence[Run]) -> None:
    """Refuse runs of one agent that were made under different K; those of an older study do not say theirs."""
    known: dict[tuple[str, str], Run] = {}
    for run in (run for run in runs if run.promise is not None):
        first = known.setdefault((run.setting, run.agent), run)
        if first.promise != run.promise:
            raise ValueError(
                f"{first.name}, was made under K = {first.promise:g}, and {run.name}, under K = {run.promise:g}: one "
                "cell would be of both. Collect them as studies of their own."
            )


def _refuse_other_episodes(conditions: pd.DataFrame) -> None:
    """Refuse runs of one setting whose means are over different numbers of episodes: others, for differences."""
    for (setting, family), own in conditions.groupby(["setting", "family"], sort=True, observed=True):
        numbers = sorted(int(number) for number in own["episodes"].unique())
        if len(numbers) > 1:
            raise ValueError(
                f"{setting!r} was measured over {' and '.join(map(str, numbers))} episodes ({family}); differences "
                "are of the same episodes. Measure the runs again with one number."
            )


def _plain_of(name: str, configs: Mapping[str, dict[str, Any]]) -> dict[str, Any] | None:
    """Task, seed and recipe of the plain agent, which may be on another machine: TASK-SEED or RECIPE-TASK-SEED."""
    if "task" in configs.get(PLAIN, {}):
        return configs[PLAIN]
    for agent in (agent for agent in AGENTS if "task" in configs.get(agent, {})):
        task, seed = configs[agent]["task"], configs[agent]["seed"]
        recipe = "ppo" if name == f"{task}-{seed}" else name.removesuffix(f"-{task}-{seed}")
        if recipe not in RECIPES:
            raise ValueError(
                f"{name} has agents of {task}, seed {seed}, and no plain one: it must be called {task}-{seed}, or "
                f"RECIPE-{task}-{seed} after the recipe of the plain agent (a copy would count twice)."
            )
        return {"task": task, "seed": seed, "agent": recipe}
    return None


def _config(folder: Path) -> dict[str, Any]:
    return _json(folder / "config.json")


def _lacks(folder: Path, agent: str) -> list[str]:
    needed = ["noise.parquet", "faults.parquet"]
    if agent not in UNATTACKED:
        needed += ["attacks.parquet", "certificate.json"]
    return [name for name in needed if not (folder / name).is_file()]


def _run(folder: Path, config: dict[str, Any], setting: str, agent: str, seed: int) -> Run:
    seconds = config.get("train_seconds", config.get("seconds"))
    file = RunFolder(folder).certificate_file
    if not file.is_file():
        return Run(setting, agent, seed, seconds)
    certificate = _json(file)
    window = certificate.get("window") or {}
    return Run(
        setting, agent, seed, seconds, certificate["upper_bound"], certificate["lower_bound"],
        window.get("newest"), certificate["network"]["tightness"], certificate.get("promise"),
    )  # fmt: skip


def _means(folder: Path, setting: str, agent: str, seed: int) -> pd.DataFrame:
    """Over the episodes; a mean is ``nan`` where an episode has no return."""
    parts = []
    for family in ("noise", "faults", "attacks"):
        file = folder / f"{family}.parquet"
        if not file.is_file():
            continue
        groups = read_parquet(file).groupby(["disturbance", "strength"], sort=False, observed=True)[MEASURED]
        # pandas' own mean of a group leaves nan out
        means = groups.mean().where(groups.count().eq(groups.size(), axis=0)).astype("float32")
        parts.append(means.assign(episodes=groups.size(), family=family).reset_index())
    return pd.concat(parts, ignore_index=True).assign(setting=setting, agent=agent, seed=seed)


def _add_setting(settings: dict[str, Setting], name: str, plain: dict[str, Any], folder: Path) -> None:
    """What the evaluations say they were measured with."""
    noise = _json(folder / "noise.json")
    attacks = _json(folder / "attacks.json")
    task = get_task(plain["task"])
    found = Setting(
        task.name, task.env_id, plain["agent"], noise.get("floor"), noise["strengths"], task.chatter_strength,
        sorted(e for e in attacks.get("strengths", []) if e > 0), noise.get("seed", 0),
    )  # fmt: skip
    known = settings.get(name)
    if known is None or not known.epsilons:
        settings[name] = found
    if known is not None and not _alike(known, found):
        raise ValueError(
            f"{folder} was measured at other strengths, radii or episodes, or from another floor than the runs of "
            f"{name!r} before it; collect them as studies of their own, or measure it again."
        )


def _alike(one: Setting, other: Setting) -> bool:
    """Whether runs of both may be compared; some agents are not attacked, and know no radii."""
    radii_clash = one.epsilons and other.epsilons and one.epsilons != other.epsilons
    return not radii_clash and one == replace(other, epsilons=one.epsilons)


def _json(file: Path) -> dict[str, Any]:
    """What the file says; nothing, if there is none."""
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} cannot be read as JSON ({error}). Make it again.") from error
    return dict(found)


def _made_by(name: str, setting: Setting, runs: Iterable[Run]) -> list[str]:
    """The commands that make the runs of one setting, one for all agents that have the same seeds."""
    seeds: dict[str, list[str]] = {}
    for run in (run for run in runs if run.setting == name):
        seeds.setdefault(run.agent, []).append(str(run.seed))
    agents: dict[tuple[str, ...], list[str]] = {}
    for agent, found in seeds.items():
        agents.setdefault(tuple(found), []).append(agent)
    teacher = [] if setting.plain_recipe == "ppo" else ["--teacher", setting.plain_recipe]
    return [
        shlex.join(
            ["python", "-m", "experiments.memory", "--task", setting.task, *teacher, "--seeds", *found, "--agents",
             *those, "--output", "RUNS"]
        )
        for found, those in agents.items()
    ]  # fmt: skip
