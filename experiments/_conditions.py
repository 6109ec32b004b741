"""What the agents of one table are put through, and what is kept of each run (`experiments.baselines`)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd

from envs import Task
from experiments._filters import task_of
from experiments._memory_agents import STUDIES
from experiments._stored import files_of
from lipsrl._files import write_text
from lipsrl.attacks import ConstantBiasAttack, MADAttack, MinimumOverAttacks, RandomAttack, worst_attacks
from lipsrl.disturbances import AutoregressiveNoise, Bias, GaussianNoise
from lipsrl.evaluation import evaluate
from lipsrl.metrics import action_fluctuation, high_frequency_ratio
from lipsrl.tracking import RunFolder

#: What is kept of each run and condition.
MEASURED = ["return", "action_fluctuation", "high_frequency_ratio"]

#: Added to the name of an agent behind a filter of its actions.
FILTERED = " + EMA"

#: The least of the mean returns under random, MAD and constant-bias attack.
WORST = "worst attack"


@dataclass(frozen=True)
class Conditions:
    """What the agents of a task are put through; noise in raw sensor units, attacks in the policy's, l-inf."""

    chatter: float
    strong: float
    epsilons: tuple[float, float]

    @classmethod
    def of(cls, task: Task) -> Conditions:
        """The noise before the strongest of the standard evaluation, and the study's first two radii of attacks."""
        if task.name not in STUDIES:
            raise ValueError(
                f"No radii of attacks are set for task={task.name!r}; known: {', '.join(STUDIES)}."
            )
        return cls(task.chatter_strength, task.strengths[-2], STUDIES[task.name].epsilons[:2])

    @property
    def columns(self) -> dict[tuple[str, float], str]:
        """(disturbance, strength) → title of the column of returns."""
        sigma, (small, large) = f"{self.strong:g}", self.epsilons
        return {
            ("gaussian", 0.0): "clean",
            ("gaussian", self.strong): f"white noise σ={sigma}",
            ("ar1", self.strong): f"AR(1) noise σ={sigma}, ρ=0.9",
            ("bias", self.strong): f"bias σ={sigma}",
            ("mad", small): f"MAD ε={small:g}",
            (WORST, large): f"{WORST} ε={large:g}",
        }


@dataclass(frozen=True)
class Episodes:
    """Which episodes: how many per run and condition, and of which seed."""

    number: int
    seed: int = 0


class ActionFilter(gym.Wrapper[Any, Any, Any, Any]):
    """Exponential moving average of the actions; keeps what the environment received, episode by episode."""

    def __init__(self, env: gym.Env[Any, Any], weight: float, episodes: list[np.ndarray]) -> None:
        super().__init__(env)
        self.weight, self.episodes = weight, episodes
        self.applied: list[np.ndarray] = []

    def reset(self, **kwargs: Any) -> Any:
        self.applied = []
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> Any:
        last = self.applied[-1] if self.applied else np.asarray(action, dtype=np.float64)
        self.applied.append(self.weight * np.asarray(action, dtype=np.float64) + (1 - self.weight) * last)
        result = self.env.step(self.applied[-1].astype(np.float32))
        if result[2] or result[3]:
            self.episodes.append(np.array(self.applied))
        return result


def measure(
    label: tuple[str, int],
    model: Any,
    statistics: Any,
    task: Task,
    episodes: Episodes,
    make: Callable[[], gym.Env[Any, Any]],
    attacked: bool = True,
) -> pd.DataFrame:
    """Means over the episodes of one agent under every condition: ``disturbance, strength`` and :data:`MEASURED`.

    Args:
        label: name and training seed.
        model: what plays.
        statistics: its VecNormalize.
        task: that it was trained on.
        episodes: the same ones for all.
        make: the environment that it plays in.
        attacked: a policy that is no plain network has no gradient to be attacked by.
    """
    conditions = Conditions.of(task)

    def played(disturbances: Any, strengths: tuple[float, ...]) -> pd.DataFrame:
        return evaluate(
            {label: model},
            make,
            disturbances=disturbances,
            strengths=strengths,
            n_episodes=episodes.number,
            seed=episodes.seed,
            vec_normalize=statistics,
            progress=False,
        ).frame

    def means(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.groupby(["disturbance", "strength"], sort=False)[MEASURED].mean().reset_index()

    noises: list[Any] = [GaussianNoise(1.0), AutoregressiveNoise(1.0, 0.9), Bias(1.0)]
    found = [means(played(noises, (0.0, conditions.chatter, conditions.strong)))]
    if attacked:
        attacks = [
            RandomAttack(None, 1.0),
            MADAttack(None, 1.0),
            ConstantBiasAttack(None, 1.0, env=make),
        ]
        frame = played(MinimumOverAttacks(attacks), conditions.epsilons)
        by_attack = means(frame)
        found.append(by_attack[by_attack["disturbance"] == "mad"])
        found.append(worst_attacks(frame)[["strength", "return"]].assign(disturbance=WORST))
    return pd.concat(found, ignore_index=True)


def kept(
    file: Path, episodes: Episodes, make: Callable[[], pd.DataFrame], task: Task | None = None
) -> pd.DataFrame:
    """What ``file`` in a run folder holds of the same episodes and model; else what ``make`` measures, left there.

    Args:
        task: whose conditions they are, if they are those of a task; files of before 2026-12 do not say.
    """
    of, files = {"episodes": episodes.number, "seed": episodes.seed}, files_of(file.parent)
    under = None
    if task is not None:
        env = {"env_id": task.env_id, "env_kwargs": dict(task.env_kwargs)}
        under = json.loads(json.dumps({**asdict(Conditions.of(task)), **env}))
    if file.is_file():
        found = json.loads(file.read_text())
        # files of before 0.3 do not say of which model: of one that is no younger
        same = found.get("files", files if _is_younger(file) else None) == files
        if same and found["of"] == of and found.get("under", under) == under:
            return pd.DataFrame(found["means"])
    means = make()
    kept = {"of": of, "under": under, "files": files, "means": json.loads(means.to_json(orient="records"))}
    write_text(file, json.dumps(kept))
    return means


def _is_younger(file: Path) -> bool:
    model = RunFolder(file.parent).model_file
    return not model.is_file() or file.stat().st_mtime >= model.stat().st_mtime


def of_run(folder: RunFolder, task: Task, episodes: Episodes) -> pd.DataFrame:
    """One run under every condition, with its name and seed."""
    config = folder.read_config()
    label = (config["agent"], config["seed"])

    def play() -> pd.DataFrame:
        model, statistics = folder.load()
        make = task_of(config).make
        return measure(label, model, statistics, task, episodes, make, folder.certificate_file.is_file())

    means = kept(folder.path / "conditions.json", episodes, play, task)
    return means.assign(agent=label[0], seed=label[1])


def filtered(folder: RunFolder, task: Task, episodes: Episodes, smoothing: float) -> pd.DataFrame:
    """The baseline behind the filter: its fluctuation is that of what the motor receives."""
    config = folder.read_config()
    if task_of(config).smoothing is not None:
        raise ValueError(
            f"{folder.path} is of an agent that averages its actions, and would be shown behind a second average. Put "
            "another agent first."
        )
    label = (config["agent"] + FILTERED, config["seed"])

    def play() -> pd.DataFrame:
        model, statistics = folder.load()
        means = measure(
            label, model, statistics, task, episodes, lambda: ActionFilter(task.make(), smoothing, [])
        )
        received: list[np.ndarray] = []
        evaluate(
            {label: model},
            lambda: ActionFilter(task.make(), smoothing, received),
            disturbances=GaussianNoise(1.0),
            strengths=(task.chatter_strength,),
            n_episodes=episodes.number,
            seed=episodes.seed,
            vec_normalize=statistics,
            progress=False,
        )
        # of the policy's own actions elsewhere
        means[MEASURED[1:]] = math.nan
        chatter = (means["disturbance"] == "gaussian") & (means["strength"] == task.chatter_strength)
        means.loc[chatter, MEASURED[1:]] = [
            np.mean([action_fluctuation(actions) for actions in received]),
            np.mean([high_frequency_ratio(actions) for actions in received]),
        ]
        return means

    means = kept(folder.path / f"conditions-ema-{smoothing:g}.json", episodes, play, task)
    return means.assign(agent=label[0], seed=label[1])
