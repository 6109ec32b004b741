"""The whole pipeline against a plant whose answers are known: the linear-quadratic task and its theory.

    python -m experiments.sweep --agents ppo ppo-sandwich --task linear-quadratic --seeds 3 --output runs/lq
    python -m experiments.theory runs/lq/*-linear-quadratic-*

In the same episodes, under the same white noise: the controllers that theory gives (the Riccati regulator, the best
gain without memory at each noise level, the regulator behind a Kalman filter), the agents of the run folders, and with
``--history`` a window student of each plain agent. Two comparisons:

- gain: each agent's Jacobian at the equilibrium beside the Riccati gain; its certified K beside the smallest gain
  that stabilises.
- cost: what the episodes cost with what theory says of that gain at that noise (`expected_cost`). Agents are not linear
  away from the equilibrium, so theirs agree as far as they stay near it.
- memory: a student's cost with that of its teacher's gain behind the Kalman filter, which is the best that a student
  who does what his teacher would do can come to. The regulator behind the filter is the best of all.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import tyro
from numpy.typing import NDArray
from scipy.optimize import minimize
from stable_baselines3.common.base_class import BaseAlgorithm

import lipsrl
from envs import get_task
from envs.linear_quadratic import LIMIT, PLANT, START, STEPS
from envs.linear_quadratic_theory import (
    expected_cost,
    kalman_filter,
    optimal_gain,
    smallest_stabilising_gain,
)
from experiments._console import command_line, fail, open_runs, parse
from experiments._filters import task_of
from experiments._pooling import refuse_twins
from lipsrl._files import write_text
from lipsrl._validation import positive_finite, positive_int
from lipsrl.actors.frames import attached_frames
from lipsrl.actors.pipeline import Pipeline
from lipsrl.disturbances import GaussianNoise

Array = NDArray[np.float64]
TASK = get_task("linear-quadratic")
WIDE = START**2 * np.eye(2)


@dataclass
class Args:
    """Compare trained agents of the linear-quadratic task with its theory."""

    run: tyro.conf.Positional[list[Path]]
    """Run folders of the task linear-quadratic."""
    noise: list[float] = field(default_factory=lambda: [0.02, 0.1])
    """Standard deviations of the white noise on both sensors."""
    episodes: int = 200
    """Per agent and noise level."""
    history: int = 8
    """Observations in the window of the students; 0: no students."""
    lipschitz_bound: float = 12.0
    """K of the students, of the whole window, in units of what the policy receives."""
    output: Path | None = None
    """Write the table there too (.csv)."""


class Linear:
    """``u = -k o``."""

    def __init__(self, gain: Array) -> None:
        self.gain = np.atleast_2d(gain)

    def __call__(self, observation: Array) -> Array:
        """(n, 2) → (n, 1)."""
        return np.clip(-np.asarray(observation) @ self.gain.T, -LIMIT, LIMIT)


class KalmanRegulator:
    """A gain on the estimate of the time-varying Kalman filter, which knows the start's spread and the noise.

    With the Riccati gain (the default) it is the best controller with any memory (separation theorem; Bertsekas I,
    5.2), as long as no wall is met.
    """

    def __init__(self, noise: float, gain: Array | None = None) -> None:
        self.regulator = optimal_gain(PLANT)[0] if gain is None else np.atleast_2d(gain)
        self.gains, before = [], WIDE
        for _ in range(STEPS):
            gain = before @ np.linalg.inv(before + noise**2 * np.eye(2))
            self.gains.append(gain)
            before = PLANT.a @ (np.eye(2) - gain) @ before @ PLANT.a.T
        self.steady = kalman_filter(PLANT, noise)[0]

    def predict(
        self, observation: Array, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Array, tuple[Array, Array]]:
        """As SB3's recurrent policies: the state (prediction, step) is handed back at the next step."""
        measured = np.asarray(observation, dtype=float)
        predicted = np.zeros_like(measured) if state is None else np.array(state[0])
        step = np.zeros(len(measured), dtype=int) if state is None else np.array(state[1])
        if episode_start is not None:
            fresh = np.asarray(episode_start, dtype=bool)
            predicted[fresh], step[fresh] = 0.0, 0
        gains = np.stack([self.gains[i] if i < STEPS else self.steady for i in step])
        estimate = predicted + np.einsum("nij,nj->ni", gains, measured - predicted)
        action = np.clip(-estimate @ self.regulator.T, -LIMIT, LIMIT)
        return action, (estimate @ PLANT.a.T + action @ PLANT.b.T, step + 1)


@functools.cache
def best_static_gain(noise: float) -> Array:
    """(2,) the gain of ``u = -k o`` with the least cost of an episode at that noise."""

    def cost(k: Array) -> float:
        # what does not stabilise has a cost too, of a finite number of steps
        return math.log(expected_cost(PLANT, np.atleast_2d(k), steps=STEPS, start=WIDE, noise=noise))

    return np.asarray(
        minimize(
            cost, optimal_gain(PLANT)[0][0], method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-7}
        ).x
    )


def gain_at_rest(model: BaseAlgorithm, statistics: Any) -> Array:
    """(2,) k of ``u ≈ -k o`` around the equilibrium: minus the Jacobian of the raw pipeline at 0, for one frame."""
    pipeline = Pipeline.of(model, statistics)
    jacobian = torch.func.jacrev(lambda x: pipeline.act(x[None])[0])(torch.zeros(2, dtype=torch.float64))
    return -jacobian[0].detach().numpy()


def played(
    name: str, controller: Any, noise: float, args: Args, statistics: Any = None
) -> tuple[float, float]:
    """Mean cost of an episode, and its standard error."""
    frame = lipsrl.evaluate(
        {(name, 0): controller}, TASK.make, disturbances=GaussianNoise(1.0), strengths=[noise],
        n_episodes=args.episodes, seed=0, vec_normalize=statistics,
    ).frame  # fmt: skip
    costs = -frame[frame["strength"] == noise]["return"]
    return float(costs.mean()), float(costs.std() / math.sqrt(len(costs)))


def of_theory(args: Args) -> list[dict[str, Any]]:
    """Rows of the controllers that are known to be best."""
    rows = []
    riccati = optimal_gain(PLANT)[0][0]
    for noise in args.noise:
        known = {
            "Riccati regulator": (Linear(riccati), riccati),
            "best gain without memory": (Linear(best_static_gain(noise)), best_static_gain(noise)),
            "Kalman filter and regulator": (KalmanRegulator(noise), None),
        }
        for name, (controller, gain) in known.items():
            rows.append(row(name, "", noise, played(name, controller, noise, args), gain))
    return rows


def row(
    name: str,
    seed: Any,
    noise: float,
    cost: tuple[float, float],
    gain: Array | None,
    certified: float = math.nan,
    theory: float = math.nan,
) -> dict[str, Any]:
    """One line of the table; with a ``gain`` theory is what that gain costs."""
    if gain is not None:
        theory = expected_cost(PLANT, np.atleast_2d(gain), steps=STEPS, start=WIDE, noise=noise)
    k = (math.nan, math.nan) if gain is None else gain
    return {
        "agent": name, "seed": seed, "noise": noise, "cost": cost[0], "error": cost[1], "theory": theory,
        "k_x": k[0], "k_v": k[1], "gain": float(np.linalg.norm(k)), "certified": certified,
    }  # fmt: skip


def of_agents(args: Args) -> list[dict[str, Any]]:
    """Rows of the run folders and of their window students.

    Raises:
        ValueError: a run of another task, or one training twice.
    """
    rows = []
    folders = open_runs(args.run)
    refuse_twins(folders, [folder.read_config() for folder in folders])
    for folder in folders:
        config = folder.read_config()
        if config["task"] != TASK.name:
            raise ValueError(f"{folder.path} is of task={config['task']!r}; give runs of {TASK.name}.")
        if task_of(config).smoothing is not None:
            raise ValueError(
                f"{folder.path} averages its actions: it has no gain that theory could speak of."
            )
        model, statistics = folder.load()
        name, seed = config["agent"], config["seed"]
        gain = gain_at_rest(model, statistics) if attached_frames(model) == 1 else None  # a window is no gain
        certified = lipsrl.certify(model, vec_normalize=statistics).upper_bound
        for noise in args.noise:
            cost = played(name, model, noise, args, statistics)
            rows.append(row(name, seed, noise, cost, gain, certified))
        if args.history and gain is not None:
            found = lipsrl.distill(
                model, TASK.make, lipschitz_bound=args.lipschitz_bound, vec_normalize=statistics, seed=seed,
                history=args.history, disturbance=GaussianNoise(max(args.noise)), strength=(0.0, 1.0),
            )  # fmt: skip
            certified = lipsrl.certify(found).upper_bound
            for noise in args.noise:
                cost = played("window", found, noise, args)
                filtered = played("filter", KalmanRegulator(noise, gain), noise, args)[0]
                rows.append(row(f"window of {name}", seed, noise, cost, None, certified, filtered))
    return rows


def table(frame: pd.DataFrame) -> str:
    """Markdown."""
    least = smallest_stabilising_gain(PLANT)[0]
    lines = [
        "| agent | seed | σ | cost of an episode | theory | gain (x, ẋ) | norm | certified K |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for entry in frame.itertuples():
        cells = [
            entry.agent, str(entry.seed), f"{entry.noise:g}", f"{entry.cost:.4g} ± {entry.error:.2g}",
            "" if math.isnan(entry.theory) else f"{entry.theory:.4g}",
            "" if math.isnan(entry.k_x) else f"{entry.k_x:.2f}, {entry.k_v:.2f}",
            "" if math.isnan(entry.gain) else f"{entry.gain:.2f}",
            "" if math.isnan(entry.certified) else f"{entry.certified:.2f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        f"Smallest gain that stabilises: {least:.3f}. Costs: mean ± standard error. Costs without noise: "
        f"{expected_cost(PLANT, optimal_gain(PLANT)[0], steps=STEPS, start=WIDE):.3g} (Riccati).",
    ]
    return "\n".join(lines)


def study(args: Args) -> pd.DataFrame:
    """Play, compare, print.

    Raises:
        ValueError: numbers out of range, or runs of another task.
    """
    positive_int("episodes", args.episodes)
    if not args.noise:
        raise ValueError("--noise needs at least one standard deviation.")
    for noise in args.noise:
        positive_finite("noise", noise)
    if args.history < 0:
        raise ValueError(f"history must be an integer >= 0, received {args.history}.")
    positive_finite("lipschitz_bound", args.lipschitz_bound)
    agents = of_agents(args)
    frame = pd.DataFrame([*of_theory(args), *agents])
    if args.output is not None:
        write_text(args.output, f"# {command_line('experiments.theory')}\n" + frame.to_csv(index=False))
    print(table(frame))
    return frame


def main() -> None:
    """Command line."""
    args = parse(Args, __doc__)
    torch.set_num_threads(1)
    with fail():
        study(args)


if __name__ == "__main__":
    main()
