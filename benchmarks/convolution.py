"""What a Lipschitz CNN costs off-policy: one gradient step and one ``predict`` against SB3's CnnPolicy.

python -m benchmarks.convolution --algorithm sac --sizes 40 64 84
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import tyro
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.envs import FakeImageEnv

import lipsrl  # noqa: F401  (registers the policies)
from benchmarks._timing import as_time, paired_ratio

ALGORITHMS = {"sac": SAC, "td3": TD3}


@dataclass
class Args:
    """CPU time of train(1) and predict, one thread, rounds interleaved; medians over rounds, means in brackets."""

    algorithm: Literal["sac", "td3"] = "sac"
    """SB3's class."""
    sizes: tuple[int, ...] = (40, 64, 84)
    """Height and width of the grey image."""
    warm_up: int = 100
    """Rounds that are not counted: Adam's first steps are its longest."""
    rounds: int = 30
    """Rounds that are counted."""


def build(algorithm: str, policy: str, size: int) -> SAC | TD3:
    """A model with a filled buffer; batches of 64."""
    env = FakeImageEnv(screen_height=size, screen_width=size, discrete=False)
    bound = {} if policy == "CnnPolicy" else {"lipschitz_bound": 1.0}
    model: SAC | TD3 = ALGORITHMS[algorithm](
        policy, env, buffer_size=500, learning_starts=200, policy_kwargs=bound, seed=0, device="cpu"
    )
    model.learn(200)
    return model


def cpu_seconds(model: SAC | TD3, observation: np.ndarray) -> tuple[float, float]:
    """Of a gradient step, and of the ``predict`` after it."""
    begun = time.process_time()
    model.train(1, batch_size=64)
    trained = time.process_time()
    model.predict(observation)
    return trained - begun, time.process_time() - trained


def main(args: Args) -> None:
    torch.set_num_threads(1)
    for size in args.sizes:
        models = [build(args.algorithm, policy, size) for policy in ("CnnPolicy", "LipschitzCnnPolicy")]
        rounds = [
            [cpu_seconds(model, model.observation_space.sample()) for model in models]
            for _ in range(args.warm_up + args.rounds)
        ]
        times = np.asarray(rounds[args.warm_up :])  # (rounds, models, 2)
        total = times.sum(axis=2)
        ratio = paired_ratio(total[:, 1], total[:, 0])
        for i, name in enumerate(("stock", "Lipschitz")):
            parts = " + ".join(
                f"{as_time(float(np.median(t)))} ({as_time(float(t.mean()))})" for t in times[:, i].T
            )
            print(f"{args.algorithm} {size}×{size} {name}: train + predict {parts}")
        mean = total[:, 1].mean() / total[:, 0].mean()
        print(
            f"ratio: median {ratio.estimate:.2f} [{ratio.low:.2f}, {ratio.high:.2f}], of means {mean:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main(tyro.cli(Args))
