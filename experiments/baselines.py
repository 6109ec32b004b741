"""The agents that a reviewer asks for in one table: clean, under white and coloured noise, bias and attacks; K; time.

    python -m experiments.baselines runs/pendulum/ppo-pendulum-* runs/baselines/*

Runs of the same agent with different training seeds are pooled; the first agent is the one that the others are paired
with, seed by seed in the same episodes, and the one that is shown behind an action filter too. What was measured of a
run is kept in its folder (conditions.json) and not measured again.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
import torch
import tyro
from tqdm import tqdm

from envs import Task, get_task
from experiments._console import fail, open_runs, parse
from experiments._memory_agents import STUDIES
from lipsrl._files import write_text
from lipsrl.attacks import ConstantBiasAttack, MADAttack, MinimumOverAttacks, RandomAttack, worst_attacks
from lipsrl.certificates import Certificate
from lipsrl.disturbances import AutoregressiveNoise, Bias, GaussianNoise
from lipsrl.evaluation import evaluate
from lipsrl.metrics import action_fluctuation, high_frequency_ratio
from lipsrl.statistics import bootstrap_ci, iqm, paired_difference
from lipsrl.tracking import RunFolder

#: What is kept of each run and condition.
MEASURED = ["return", "action_fluctuation", "high_frequency_ratio"]

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


@dataclass
class Args:
    """The agents that a reviewer asks for in one table."""

    run: tyro.conf.Positional[list[Path]]
    """Run folders; the agent of the first one is the baseline."""
    episodes: int = 50
    """Episodes per run and condition; the same ones for every run."""
    seed: int = 0
    """Of the episodes and the noise (not of the training)."""
    smoothing: float = 0.5
    """Weight of the newest action in the filter behind the baseline."""
    output: Path | None = None
    """Write the means per run there (.csv)."""


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
    args: Args,
    make: Callable[[], gym.Env[Any, Any]],
    attacked: bool = True,
) -> pd.DataFrame:
    """Means over the episodes of one agent under every condition: ``disturbance, strength`` and :data:`MEASURED`.

    Args:
        label: name and training seed.
        model: what plays.
        statistics: its VecNormalize.
        task: that it was trained on.
        args: number and seed of the episodes.
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
            n_episodes=args.episodes,
            seed=args.seed,
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
            ConstantBiasAttack(None, 1.0, env=task.make),
        ]
        frame = played(MinimumOverAttacks(attacks), conditions.epsilons)
        by_attack = means(frame)
        found.append(by_attack[by_attack["disturbance"] == "mad"])
        found.append(worst_attacks(frame)[["strength", "return"]].assign(disturbance=WORST))
    return pd.concat(found, ignore_index=True)


def kept(file: Path, args: Args, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """What ``file`` holds of the same episodes; else what ``make`` measures, which is left there."""
    episodes = {"episodes": args.episodes, "seed": args.seed}
    if file.is_file():
        found = json.loads(file.read_text())
        if found["of"] == episodes:
            return pd.DataFrame(found["means"])
    means = make()
    write_text(file, json.dumps({"of": episodes, "means": json.loads(means.to_json(orient="records"))}))
    return means


def of_run(folder: RunFolder, task: Task, args: Args) -> pd.DataFrame:
    """One run under every condition, with its name and seed."""
    config = folder.read_config()
    label = (config["agent"], config["seed"])

    def play() -> pd.DataFrame:
        model, statistics = folder.load()
        return measure(label, model, statistics, task, args, task.make, folder.certificate_file.is_file())

    means = kept(folder.path / "conditions.json", args, play)
    return means.assign(agent=label[0], seed=label[1])


def filtered(folder: RunFolder, task: Task, args: Args) -> pd.DataFrame:
    """The baseline behind the filter: its fluctuation is that of what the motor receives."""
    config = folder.read_config()
    label = (f"{config['agent']} + EMA", config["seed"])

    def play() -> pd.DataFrame:
        model, statistics = folder.load()
        means = measure(
            label, model, statistics, task, args, lambda: ActionFilter(task.make(), args.smoothing, [])
        )
        received: list[np.ndarray] = []
        evaluate(
            {label: model},
            lambda: ActionFilter(task.make(), args.smoothing, received),
            disturbances=GaussianNoise(1.0),
            strengths=(task.chatter_strength,),
            n_episodes=args.episodes,
            seed=args.seed,
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

    means = kept(folder.path / f"conditions-ema-{args.smoothing:g}.json", args, play)
    return means.assign(agent=label[0], seed=label[1])


def described(folder: RunFolder) -> dict[str, Any]:
    """What is known of a run without playing: the constant that is certified per raw unit, and how long it took."""
    config, bound = folder.read_config(), math.nan
    if folder.certificate_file.is_file():
        bound = Certificate.load(folder.certificate_file).upper_bound
    return {
        "agent": config["agent"],
        "seed": config["seed"],
        "K": bound,
        "train_seconds": float(config.get("train_seconds", math.nan)),
    }


def table(means: pd.DataFrame, task: Task, runs: pd.DataFrame) -> str:
    """Markdown: IQM over training seeds with 95 % bootstrap intervals, paired differences with the first agent.

    Args:
        means: of each run and condition.
        task: of all runs.
        runs: :func:`described`, one row per run.
    """

    def by_seed(agent: str, disturbance: str, strength: float, column: str) -> pd.Series:
        rows = means[
            (means["agent"] == agent)
            & (means["disturbance"] == disturbance)
            & (means["strength"] == strength)
        ]
        return rows.set_index("seed")[column].sort_index()

    agents = list(dict.fromkeys(means["agent"]))
    columns = Conditions.of(task).columns
    titles = ["agent", "seeds", *columns.values()]
    titles += [
        f"mean \\|Δa\\|, white noise σ={task.chatter_strength:g}",
        "power above a quarter of the sampling rate, likewise",
        "certified K, raw units",
        "training, s",
    ]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for agent in agents:
        cells = [agent, str(means[means["agent"] == agent]["seed"].nunique())]
        for disturbance, strength in columns:
            own = by_seed(agent, disturbance, strength, "return")
            if own.empty:
                cells.append("–")
                continue
            low, high = bootstrap_ci(own.to_numpy(), iqm)[1:]
            cell = f"{float(iqm(own.to_numpy())):.0f} [{low:.0f}, {high:.0f}]"
            if agent != agents[0]:
                base = by_seed(agents[0], disturbance, strength, "return")
                shared = own.index.intersection(base.index)
                gap, down, up = paired_difference(own[shared].to_numpy(), base[shared].to_numpy())
                cell += f"; {gap:+.0f} [{down:+.0f}, {up:+.0f}]"
            cells.append(cell)
        for column in MEASURED[1:]:
            found = by_seed(agent, "gaussian", task.chatter_strength, column).to_numpy()
            low, high = bootstrap_ci(found, iqm)[1:]
            cells.append(f"{float(iqm(found)):.2f} [{low:.2f}, {high:.2f}]")
        own = runs[runs["agent"] == agent]
        for column in ("K", "train_seconds"):
            known = own[column].dropna()
            cells.append(f"{known.median():.3g}" if len(known) else "none")
        lines.append("| " + " | ".join([agent, *(cell.replace("-", "−") for cell in cells[1:])]) + " |")
    return "\n".join(lines)


def of_runs(paths: list[Path], args: Args) -> str:
    """The table of run folders of one task.

    Raises:
        ValueError: runs of several tasks.
    """
    folders = open_runs(paths)
    configs = [folder.read_config() for folder in folders]
    task = get_task(configs[0]["task"])
    if {config["task"] for config in configs} != {task.name}:
        raise ValueError("The runs are of different tasks; give runs of one.")
    frames = []
    for folder, config in zip(tqdm(folders, unit="run", disable=None), configs, strict=True):
        frames.append(of_run(folder, task, args))
        if config["agent"] == configs[0]["agent"]:
            frames.append(filtered(folder, task, args))
    runs = pd.DataFrame([described(folder) for folder in folders])
    means = pd.concat(frames)[["agent", "seed", "disturbance", "strength", *MEASURED]]
    if args.output is not None:
        write_text(args.output, means.to_csv(index=False))
    return table(means, task, runs)


def main() -> None:
    """Command line."""
    args = parse(Args, __doc__)
    torch.set_num_threads(1)
    with fail():
        print(of_runs(args.run, args))


if __name__ == "__main__":
    sys.exit(main())
