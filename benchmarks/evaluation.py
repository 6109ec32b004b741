"""Steps per second of `lipsrl.evaluate` against a loop of SB3's `evaluate_policy`, and its memory.

    python -m benchmarks.evaluation --output evaluation.json

Both run the same noise sweep. SB3's way steps one environment behind a Gymnasium wrapper that adds the noise, and
returns nothing but returns and lengths; lipsrl also measures smoothness, saturation and sensitivity. Rounds are
interleaved; the ratio is the median over rounds of steps per second against those of the same round.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from gymnasium.wrappers import TransformObservation
from rich.console import Console
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

import lipsrl
from benchmarks._timing import machine
from lipsrl.disturbances import GaussianNoise
from lipsrl.statistics import Interval, bootstrap_ci

STRENGTHS = (0.0, 0.05, 0.1, 0.2)


@dataclass
class Args:
    """Compare `lipsrl.evaluate` with a loop of SB3's `evaluate_policy`."""

    env: list[str] = field(default_factory=lambda: ["Pendulum-v1", "Hopper-v5"])
    """Gymnasium ids."""
    workers: list[int] = field(default_factory=lambda: [1, 2])
    """Numbers of worker processes."""
    episodes: int = 64
    """Episodes per strength of lipsrl; SB3's loop, which has nothing to gain from more, runs an eighth of them."""
    rounds: int = 7
    """Of each, interleaved."""
    memory: bool = True
    """Measure memory too."""
    output: Path | None = None
    """Write all numbers there (JSON)."""


def make_model(env: str) -> PPO:
    """Untrained: what it costs does not depend on what it has learned."""
    options = {"lipschitz_bound": 8.0}
    return PPO("LipschitzMlpPolicy", env, policy_kwargs=options, seed=0, device="cpu")


def with_sb3(model: PPO, env: str, episodes: int) -> float:
    """Steps per second of the loop that people write."""
    generator = np.random.default_rng(0)
    steps, begun = 0, time.perf_counter()
    for strength in STRENGTHS:

        def noisy(observation: np.ndarray, strength: float = strength) -> np.ndarray:
            return (observation + generator.normal(0.0, strength, observation.shape)).astype(
                observation.dtype
            )

        def make(noisy: Any = noisy) -> gym.Env[Any, Any]:
            inner = gym.make(env)
            return Monitor(TransformObservation(inner, noisy, inner.observation_space))

        venv = DummyVecEnv([make])
        venv.seed(0)
        _, lengths = evaluate_policy(model, venv, n_eval_episodes=episodes, return_episode_rewards=True)
        steps += int(np.sum(lengths))
    return steps / (time.perf_counter() - begun)


def with_lipsrl(model: PPO, env: str, episodes: int, workers: int) -> float:
    """Steps per second of the same sweep."""
    begun = time.perf_counter()
    evaluation = lipsrl.evaluate(
        model,
        env,
        disturbances=GaussianNoise(1.0),
        strengths=STRENGTHS,
        n_episodes=episodes,
        n_workers=workers,
    )
    return float(evaluation.metadata["env_steps"]) / (time.perf_counter() - begun)


def speed(args: Args, env: str) -> dict[str, Any]:
    """Steps per second of each, and the ratio to SB3's loop."""
    model = make_model(env)
    few = max(1, args.episodes // 8)
    with_sb3(model, env, 1), with_lipsrl(model, env, 2, 1)
    sb3: list[float] = []
    ours: dict[int, list[float]] = {workers: [] for workers in args.workers}
    for _ in range(args.rounds):
        sb3.append(with_sb3(model, env, few))
        for workers, rates in ours.items():
            rates.append(with_lipsrl(model, env, args.episodes, workers))
    return {
        "sb3": float(np.median(sb3)),
        **{
            f"lipsrl, {workers} worker{'s' if workers > 1 else ''}": {
                "steps_per_second": float(np.median(rates)),
                "ratio": bootstrap_ci(np.array(rates) / np.array(sb3), np.median)._asdict(),
            }
            for workers, rates in ours.items()
        },
    }


def resident_growth(env: str, episodes: int) -> float:
    """How much the memory of a fresh process grows over an evaluation, in MiB, at its peak."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_grow, args=(env, episodes, sender))
    process.start()
    grown: float = receiver.recv()
    process.join()
    return grown


def _grow(env: str, episodes: int, sender: Any) -> None:
    torch.set_num_threads(1)
    model = make_model(env)
    with_lipsrl(model, env, 2, 1)
    before = _peak()
    with_lipsrl(model, env, episodes, 1)
    sender.send(_peak() - before)


def _peak() -> float:
    """Most memory that this process has held so far, in MiB."""
    status = Path(f"/proc/{os.getpid()}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Command line."""
    args = tyro.cli(Args, description=__doc__)
    torch.set_num_threads(1)
    console = Console()
    results: dict[str, Any] = {"machine": machine(), "strengths": STRENGTHS, "episodes": args.episodes}
    for env in args.env:
        results[env] = speed(args, env)
        console.print(f"{env}: SB3's evaluate_policy {results[env]['sb3']:,.0f} steps/s")
        for name, numbers in results[env].items():
            if name != "sb3":
                ratio = Interval(**numbers["ratio"])
                console.print(
                    f"  {name}: {numbers['steps_per_second']:,.0f} steps/s, {ratio.estimate:.1f}× "
                    f"({ratio.low:.1f} to {ratio.high:.1f})",
                    highlight=False,
                )
        if args.memory:
            grown = {str(n): resident_growth(env, n) for n in (50, 500)}
            results[env]["peak_memory_growth_mib"] = grown
            console.print(f"  memory: +{grown['50']:.1f} MiB at 50 episodes, +{grown['500']:.1f} MiB at 500")
    if args.output is not None:
        args.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
