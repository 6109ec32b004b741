"""The agents that a reviewer asks for in one table: clean, under white and coloured noise, bias and attack; K; time.

    python -m experiments.baselines runs/pendulum/ppo-pendulum-* runs/baselines/*

Runs of the same agent with different training seeds are pooled; the first agent is the one that the others are paired
with, seed by seed in the same episodes, and the one that is shown behind an action filter too.
"""

from __future__ import annotations

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
from lipsrl._files import write_text
from lipsrl.attacks import MADAttack
from lipsrl.certificates import Certificate
from lipsrl.disturbances import AutoregressiveNoise, Bias, GaussianNoise
from lipsrl.evaluation import evaluate
from lipsrl.metrics import action_fluctuation
from lipsrl.statistics import bootstrap_ci, iqm, paired_difference
from lipsrl.tracking import RunFolder

#: (disturbance, strength, title); MAD's budget is in normalised l-inf.
CONDITIONS = (
    ("gaussian", 0.0, "clean"),
    ("gaussian", 0.2, "white noise σ=0.2"),
    ("ar1", 0.2, "AR(1) noise σ=0.2, ρ=0.9"),
    ("bias", 0.2, "bias σ=0.2"),
    ("mad", 0.2, "MAD ε=0.1"),
)

#: What is kept of each run and condition.
MEASURED = ["return", "action_fluctuation", "high_frequency_ratio"]


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
    """Exponential moving average of the actions; keeps what the environment received in the last episode."""

    def __init__(self, env: gym.Env[Any, Any], weight: float, episodes: list[float]) -> None:
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
            self.episodes.append(float(action_fluctuation(np.array(self.applied))))
        return result


def measure(folder: RunFolder, task: Task, args: Args, make: Callable[[], gym.Env[Any, Any]]) -> pd.DataFrame:
    """Episodes of one run under every condition."""
    config = folder.read_config()
    model, statistics = folder.load()
    noises: list[Any] = [GaussianNoise(1.0), AutoregressiveNoise(1.0, 0.9), Bias(1.0)]
    if (
        folder.certificate_file.is_file()
    ):  # a policy that is no plain network has no gradient to be attacked by
        noises.append(MADAttack(None, 0.5))
    return evaluate(
        {(config["agent"], config["seed"]): model},
        make,
        disturbances=noises,
        strengths=(0.0, task.chatter_strength, 0.2),
        n_episodes=args.episodes,
        seed=args.seed,
        vec_normalize=statistics,
        progress=False,
    ).frame


def filtered(folder: RunFolder, task: Task, args: Args) -> pd.DataFrame:
    """The baseline behind the filter, condition by condition: its fluctuation is that of what the motor receives."""
    config = folder.read_config()
    model, statistics = folder.load()
    frames = []
    noises = {
        "gaussian": GaussianNoise(1.0),
        "ar1": AutoregressiveNoise(1.0, 0.9),
        "bias": Bias(1.0),
        "mad": MADAttack(None, 0.5),
    }
    for name, strength in {(d, s) for d, s, _ in CONDITIONS} | {("gaussian", task.chatter_strength)}:
        seen: list[float] = []
        frame = evaluate(
            {(f"{config['agent']} + EMA", config["seed"]): model},
            lambda seen=seen: ActionFilter(task.make(), args.smoothing, seen),
            disturbances=noises[name],
            strengths=(strength,),
            n_episodes=args.episodes,
            seed=args.seed,
            vec_normalize=statistics,
            progress=False,
        ).frame
        frames.append(frame.assign(action_fluctuation=float(np.mean(seen))))
    return pd.concat(frames)


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
    titles = ["agent", "seeds", *(title for _, _, title in CONDITIONS)]
    titles += [
        f"mean \\|Δa\\|, white noise σ={task.chatter_strength:g}",
        "power above a quarter of the sampling rate, likewise",
        "certified K, raw units",
        "training, s",
    ]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for agent in agents:
        cells = [agent, str(means[means["agent"] == agent]["seed"].nunique())]
        for disturbance, strength, _ in CONDITIONS:
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


def main() -> None:
    """Command line."""
    args = parse(Args, __doc__)
    torch.set_num_threads(1)
    with fail():
        folders = open_runs(args.run)
        configs = [folder.read_config() for folder in folders]
        task = get_task(configs[0]["task"])
        if {config["task"] for config in configs} != {task.name}:
            raise ValueError("The runs are of different tasks; give runs of one.")
        frames = []
        for folder, config in zip(tqdm(folders, unit="run", disable=None), configs, strict=True):
            frames.append(measure(folder, task, args, task.make))
            if config["agent"] == configs[0]["agent"]:
                frames.append(filtered(folder, task, args))
        runs = pd.DataFrame([described(folder) for folder in folders])
        keys = ["agent", "seed", "disturbance", "strength"]
        means = pd.concat(frames).groupby(keys, sort=False)[MEASURED].mean().reset_index()
        if args.output is not None:
            write_text(args.output, means.to_csv(index=False))
        print(table(means, task, runs))


if __name__ == "__main__":
    sys.exit(main())
