"""Trainings with a scale on their regularisers' weights, and the scale that trials choose for each method."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from agents import get_agent
from agents.regularized import TRIALS, chosen_scale
from envs import Task
from experiments._checkpoint import is_finished
from experiments._conditions import Episodes, kept
from experiments._parallel import module_command, run_all
from lipsrl._files import write_text
from lipsrl.disturbances import GaussianNoise
from lipsrl.evaluation import evaluate
from lipsrl.tracking import RunFolder


@dataclass(frozen=True)
class Trainings:
    """How agents are trained.

    Attributes:
        task: on which task.
        timesteps: of each; None: the agent's own number.
        jobs: at the same time.
    """

    task: Task
    timesteps: int | None
    jobs: int

    def length(self, agent: str) -> int:
        """Environment steps of the agent's training."""
        return self.timesteps or get_agent(agent).for_task(self.task.name).timesteps

    def finished(self, folder: RunFolder, scale: float) -> bool:
        """Whether a training is there.

        Raises:
            ValueError: it is, with another scale or of another length.
        """
        if not is_finished(folder):
            return False
        config = folder.read_config()
        wanted = json.loads(json.dumps(get_agent(config["agent"]).methods(self.task.name, scale)))
        given = config["hyperparameters"]["policy_kwargs"].get("regularizers", [])
        length = self.length(config["agent"])
        if wanted != given or config["timesteps"] != length:
            raise ValueError(
                f"{folder.path} is finished with regularizers={given} and timesteps={config['timesteps']}, not "
                f"{wanted} and {length}. Give another --output, or remove it."
            )
        return True

    def run(self, wanted: Mapping[Path, tuple[str, int, float]]) -> None:
        """Train what is not there: folder → (agent, seed, scale of the weights).

        Raises:
            RuntimeError: a training failed; the others were run.
        """
        commands = []
        for path, (agent, seed, scale) in wanted.items():
            if self.finished(RunFolder(path), scale):
                continue
            options: list[object] = [
                "--agent",
                agent,
                "--task",
                self.task.name,
                "--seed",
                seed,
                "--output",
                path,
            ]
            options += ["--regularizer-scale", scale] if scale != 1.0 else []
            options += ["--timesteps", self.timesteps] if self.timesteps is not None else []
            options += ["--track", "disabled", "--no-progress", "--resume"]
            commands.append(module_command("experiments.train", *options))
        failures = run_all(commands, self.jobs)
        if failures:
            raise RuntimeError(
                "Trainings that failed:\n" + "\n".join(f"  [{f.status}] {f.command}" for f in failures)
            )


def judged(path: Path, task: Task, episodes: int) -> tuple[float, float]:
    """Clean return and mean |Δa| at the task's chatter strength of a trial."""

    def play() -> pd.DataFrame:
        model, statistics = RunFolder(path).load()
        frame = evaluate(
            model,
            task.make,
            disturbances=GaussianNoise(1.0),
            strengths=(0.0, task.chatter_strength),
            n_episodes=episodes,
            seed=1_000_000,  # not the table's episodes
            vec_normalize=statistics,
        ).frame
        return frame.groupby("strength")[["return", "action_fluctuation"]].mean().reset_index()

    means = kept(path / "trial.json", Episodes(episodes, 1_000_000), play)
    means = means.set_index("strength")
    return float(means.loc[0.0, "return"]), float(means.loc[task.chatter_strength, "action_fluctuation"])


def scales(
    trainings: Trainings,
    family: str,
    methods: Sequence[str],
    seeds: Sequence[int],
    episodes: int,
    folder: Path,
    file: Path,
    measured: Collection[str] = (),
) -> dict[str, float]:
    """The scale of each method.

    Args:
        trainings: how the trials are trained.
        family: name of the plain agent.
        methods: agents.
        seeds: of the trials; in no table.
        episodes: by which each is judged.
        folder: of the trials' run folders.
        file: where the choice is, or is left, with what it was made by. Methods in it are not tried again.
        measured: methods of which the table has rows already.

    Raises:
        ValueError: the choice in ``file`` was made by other trials, or is lost while there are rows of it.
    """
    task = trainings.task
    means = ["clean return", f"mean |Δa| at σ={task.chatter_strength:g}"]
    by = {
        "trial_seeds": list(seeds),
        "timesteps": trainings.length(family),
        "episodes": episodes,
        "columns": means,
    }
    record = _chosen_before(file, by)
    trials, chosen = record["trials"], record["chosen"]
    missing = [method for method in methods if method not in chosen]
    lost = sorted(set(missing) & set(measured))
    if lost:
        raise ValueError(
            f"{file} does not have the weights of {', '.join(lost)}, of which the table beside it has rows: another "
            "choice would mix two agents under one name. Put the file back, or give another --results."
        )
    if missing and family not in trials:
        plain = {seed: folder / f"{family}-{task.name}-{seed}" for seed in seeds}
        trainings.run({path: (family, seed, 1.0) for seed, path in plain.items()})
        trials[family] = {"1": _over_seeds(list(plain.values()), task, episodes)}
    for method in missing:  # each is kept as soon as it is chosen
        paths = {(s, seed): folder / f"{method}-{task.name}-{s:g}-{seed}" for seed in seeds for s in TRIALS}
        trainings.run({path: (method, seed, scale) for (scale, seed), path in paths.items()})
        found = {
            scale: _over_seeds([paths[scale, seed] for seed in seeds], task, episodes) for scale in TRIALS
        }
        chosen[method] = chosen_scale(found, trials[family]["1"][0], task.floor)
        trials[method] = {f"{scale:g}": both for scale, both in found.items()}
        write_text(file, json.dumps(by | {"trials": trials, "chosen": chosen}, indent=1) + "\n")
    return {method: chosen[method] for method in methods}


def _over_seeds(paths: Sequence[Path], task: Task, episodes: int) -> tuple[float, float]:
    found = [judged(path, task, episodes) for path in paths]
    clean, chatter = (sum(column) / len(found) for column in zip(*found, strict=True))
    return clean, chatter


def _chosen_before(file: Path, by: Mapping[str, Any]) -> dict[str, Any]:
    if not file.is_file():
        return {"trials": {}, "chosen": {}}
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} cannot be read as JSON ({error}). Remove it, or repair it.") from error
    if not (isinstance(record, dict) and all(isinstance(record.get(k), dict) for k in ("trials", "chosen"))):
        raise ValueError(
            f"{file} is not the choice of an earlier run: expected an object with 'trials' and 'chosen'. Give another "
            "--results, or repair it."
        )
    for key, wanted in by.items():
        if record.get(key) != wanted:
            raise ValueError(
                f"{file} was chosen with {key}={record.get(key)!r}, not {wanted!r}. Give another --results, or the "
                "same settings."
            )
    return record


def method_of(agent: str) -> str:
    """The agent that has the same method, if it has one, and no bound."""
    return agent.replace("-sandwich", "")


def scale_of(agent: str, chosen: Mapping[str, float]) -> float:
    """The scale of an agent's method; agents with a bound take that of the method alone."""
    return chosen.get(method_of(agent), 1.0)
