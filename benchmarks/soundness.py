"""Try to break the certificates: gradient ascent of ‖Δaction‖/‖Δobservation‖ over millions of pairs.

    python -m benchmarks.soundness

For every constraint family × activation, algorithm, observation scale and VecNormalize in turn: weights as a careless
optimizer leaves them, the certificate, and a search whose pairs are all counted. A violation is a pair above the bound
after its float64 rounding error was subtracted.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from gymnasium import spaces
from rich.console import Console
from stable_baselines3 import A2C, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from tqdm import tqdm

from lipsrl.certificates import certify, steepest_pair
from lipsrl.certificates._pipeline import Pipeline
from lipsrl.layers import ACTIVATIONS, LAYERS
from lipsrl.policies.normalization import normalization_of

ALGORITHMS: tuple[type[BaseAlgorithm], ...] = (PPO, A2C, SAC)
BOUND = 3.0


@dataclass
class Args:
    """Gradient ascent of the slope over millions of pairs."""

    pairs: int = 10_000_000
    """Pairs to look at, in all."""
    keep: int = 512
    """Pairs that climb at the same time."""
    steps: int = 100
    """Steps that each of them takes."""
    seed: int = 0
    """Of weights and starts."""


class Plant(gym.Env[np.ndarray, np.ndarray]):
    """Sensors of very different size, actuators of unequal and shifted range."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,))
    action_space = spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([3.0, 10.0], np.float32))
    spread = np.array([0.1, 1.0, 20.0])

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return self._draw(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return self._draw(), 0.0, False, False, {}

    def _draw(self) -> np.ndarray:
        return (3 + self.spread * self.np_random.normal(size=3)).astype(np.float32)


def combinations() -> list[tuple[str, str]]:
    """Every family with every activation that it takes."""
    pairs = []
    for family, activation in itertools.product(LAYERS, ACTIVATIONS):
        try:
            LAYERS[family](3, 2, activation)
        except ValueError:
            continue
        pairs.append((family, activation))
    return pairs


def build(family: str, activation: str, turn: int, seed: int) -> BaseAlgorithm:
    """A policy with disturbed weights; algorithm and pipeline change from turn to turn."""
    venv: Any = DummyVecEnv([Plant])
    if turn % 2:
        venv = VecNormalize(venv)
        venv.seed(seed)
        venv.reset()
        for _ in range(50):
            venv.step(np.zeros((1, 2), np.float32))
    algorithm = ALGORITHMS[turn % 3]
    options: dict[str, Any] = {"buffer_size": 10} if algorithm is SAC else {}
    policy = {
        "lipschitz_bound": BOUND, "layer": family, "norm": LAYERS[family].norm, "activation": activation,
        "net_arch": [12, 12], "observation_scale": [0.1, 1.0, 5.0] if turn % 5 == 0 else None,
    }  # fmt: skip
    model = algorithm("LipschitzMlpPolicy", venv, seed=seed, device="cpu", policy_kwargs=policy, **options)
    model.policy.set_training_mode(True)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.policy.lipschitz_network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 10.0 ** ((turn % 4) - 2))
    return model


def main() -> None:
    """Command line."""
    args = tyro.cli(Args, description=__doc__)
    torch.set_num_threads(1)
    cases = combinations()
    looked, models, violations = 0, 0, 0
    tightness: dict[str, list[float]] = {family: [] for family in LAYERS}
    methods: Counter[str] = Counter()
    with tqdm(total=args.pairs, unit="pair", unit_scale=True, disable=None) as progress:
        for turn in itertools.count():
            if looked >= args.pairs and turn >= len(cases):
                break
            family, activation = cases[turn % len(cases)]
            norm = LAYERS[family].norm
            model = build(family, activation, turn, args.seed + turn)
            certificate = certify(model, norm=norm, n_starts=args.keep, seed=turn)
            pipeline = Pipeline.of(model, normalization_of(model, None))
            starts = torch.as_tensor(
                3 + Plant.spread * np.random.default_rng(turn).normal(size=(2 * args.keep, 3)) * 2
            )
            pair = steepest_pair(
                pipeline.act, starts, torch.as_tensor(Plant.spread), keep=args.keep, rounds=8, steps=args.steps,
                seed=turn, norm=norm, rounding=pipeline.raw_rounding,
            )  # fmt: skip
            new = args.keep * args.steps
            looked, models = looked + new, models + 1
            progress.update(new)
            slope = max(pair.ratio, certificate.lower_bound)
            network = certificate.network
            promised = certificate.promise is not None and network.upper_bound > certificate.promise
            if slope > certificate.upper_bound or network.lower_bound > network.upper_bound or promised:
                violations += 1
                print(
                    f"VIOLATION: {family} {activation} turn {turn}: {slope!r} > {certificate.upper_bound!r}"
                )
            tightness[family].append(slope / certificate.upper_bound)
            methods[certificate.method] += 1
    console = Console()
    console.print(
        f"{looked:,} pairs climbed in {models} policies ({len(cases)} combinations of family and activation): "
        f"{violations} violations"
    )
    console.print(f"certified by {dict(methods)}")
    for family, values in tightness.items():
        console.print(
            f"  {family:16} slope found / bound: median {np.median(values):.2f}, largest {max(values):.4f}"
        )


if __name__ == "__main__":
    main()
