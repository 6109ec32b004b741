"""Try to break the certificates: gradient ascent of ‖Δaction‖/‖Δobservation‖ over millions of pairs.

    python -m benchmarks.soundness

For every constraint family × activation, algorithm, observation scale and pipeline (VecNormalize, NormalizeObservation,
frame stacks, Dict, one-hot) in turn: weights as a careless optimizer leaves them, the certificate, and a search whose
pairs are all counted. A violation is a pair above the bound after its float64 rounding error was subtracted, or a
target network above its promise.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from gymnasium import spaces
from gymnasium.wrappers import NormalizeObservation
from rich.console import Console
from sb3_contrib import QRDQN, TQC, TRPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecNormalize
from tqdm import tqdm

from lipsrl.actors.normalization import observation_chain
from lipsrl.actors.pipeline import Pipeline
from lipsrl.certificates import certify, steepest_pair
from lipsrl.certificates.deterministic._pairs import stack_share
from lipsrl.layers import ACTIVATIONS, LAYERS
from lipsrl.networks import LipschitzMLP

ALGORITHMS: tuple[type[BaseAlgorithm], ...] = (PPO, A2C, SAC, TD3, DDPG, DQN, TRPO, TQC, QRDQN)
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


class Plant(gym.Env[Any, Any]):
    """Sensors of very different size, actuators of unequal and shifted range (or four buttons)."""

    observation_space: spaces.Space[Any] = spaces.Box(-np.inf, np.inf, (3,))
    spread = np.array([0.1, 1.0, 20.0])

    def __init__(self, buttons: bool) -> None:
        box = spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([3.0, 10.0], np.float32))
        self.action_space = spaces.Discrete(4) if buttons else box

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._draw(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._draw(), 0.0, False, False, {}

    def _draw(self) -> Any:
        return (3 + self.spread * self.np_random.normal(size=3)).astype(np.float32)


class MixedPlant(Plant):
    """A Dict of a vector, a discrete value and switches."""

    observation_space = spaces.Dict(
        {"mode": spaces.Discrete(3), "sensors": Plant.observation_space, "switches": spaces.MultiBinary(2)}
    )

    def _draw(self) -> Any:
        own = {"mode": self.np_random.integers(3), "switches": self.np_random.integers(2, size=2)}
        return {"sensors": super()._draw(), **own}


class Roulette(Plant):
    """One discrete value."""

    observation_space = spaces.Discrete(5)

    def _draw(self) -> Any:
        return self.np_random.integers(5)


def _venv(plant: type[Plant], buttons: bool, wrapper: Any = None) -> DummyVecEnv:
    return DummyVecEnv([lambda: plant(buttons) if wrapper is None else wrapper(plant(buttons))])


#: name → environment for continuous (False) or discrete actions.
PIPELINES: dict[str, Callable[[bool], VecEnv]] = {
    "raw": lambda buttons: _venv(Plant, buttons),
    "VecNormalize": lambda buttons: VecNormalize(_venv(Plant, buttons)),
    "NormalizeObservation": lambda buttons: _venv(Plant, buttons, NormalizeObservation),
    "stack of normalised": lambda buttons: VecFrameStack(VecNormalize(_venv(Plant, buttons)), 3),
    "normalised stack": lambda buttons: VecNormalize(VecFrameStack(_venv(Plant, buttons), 3)),
    "Dict": lambda buttons: VecNormalize(_venv(MixedPlant, buttons), norm_obs_keys=["sensors"]),
    "one-hot": lambda buttons: _venv(Roulette, buttons),
}


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


def build(family: str, activation: str, pipeline: str, turn: int, seed: int) -> BaseAlgorithm:
    """A policy with disturbed weights; the algorithm changes from turn to turn."""
    algorithm = ALGORITHMS[turn % len(ALGORITHMS)]
    if pipeline == "one-hot" and algorithm in (SAC, TD3, DDPG, TQC):
        algorithm = PPO
    buttons = algorithm in (DQN, QRDQN)
    venv = PIPELINES[pipeline](buttons)
    venv.seed(seed)
    venv.reset()
    for _ in range(50):
        venv.step(np.zeros(1, int) if buttons else np.zeros((1, 2), np.float32))
    options: dict[str, Any] = {"buffer_size": 10} if issubclass(algorithm, OffPolicyAlgorithm) else {}
    size = venv.observation_space.shape
    policy: dict[str, Any] = {
        "lipschitz_bound": BOUND, "layer": family, "norm": LAYERS[family].norm, "activation": activation,
        "net_arch": [12, 12],
        "observation_scale": [0.1, 1.0, 5.0] * (size[0] // 3) if turn % 5 == 0 and size and size[0] % 3 == 0 else None,
    }  # fmt: skip
    if algorithm is QRDQN:
        policy["n_quantiles"] = 5
    name = "LipschitzMultiInputPolicy" if pipeline == "Dict" else "LipschitzMlpPolicy"
    model = algorithm(name, venv, seed=seed, device="cpu", policy_kwargs=policy, **options)
    model.policy.set_training_mode(True)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.policy.lipschitz_network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 10.0 ** ((turn % 4) - 2))
    return model


def targets_keep_their_promise(model: BaseAlgorithm) -> bool:
    """Whether the average of the online network and an older one (polyak) is still inside the bound."""
    networks = {name: m for name, m in model.policy.named_modules() if isinstance(m, LipschitzMLP)}
    online: Any = model.policy.lipschitz_network
    others = [m for m in networks.values() if m is not online and m.out_features == online.out_features]
    for other in others:
        for target, source in zip(other.parameters(), online.parameters(), strict=True):
            target.data.mul_(0.5).add_(0.5 * source.data)
    return all(other.lipschitz_bound() <= other.bound for other in others)


def main() -> None:
    """Command line."""
    args = tyro.cli(Args, description=__doc__)
    torch.set_num_threads(1)
    cases = combinations()
    looked, models, violations = 0, 0, 0
    tightness: dict[str, list[float]] = {family: [] for family in LAYERS}
    methods: Counter[str] = Counter()
    seen: Counter[tuple[str, str]] = Counter()
    with tqdm(total=args.pairs, unit="pair", unit_scale=True, disable=None) as progress:
        for turn in itertools.count():
            if looked >= args.pairs and turn >= len(cases):
                break
            family, activation = cases[turn % len(cases)]
            name = list(PIPELINES)[turn % len(PIPELINES)]
            norm = LAYERS[family].norm
            model = build(family, activation, name, turn, args.seed + turn)
            seen[type(model).__name__, name] += 1
            certificate = certify(model, norm=norm, n_starts=args.keep, seed=turn)
            pipeline = Pipeline.of(model, observation_chain(model))
            spread = 1 / pipeline.gain
            draws = np.random.default_rng(turn).normal(size=(2 * args.keep, len(spread)))
            pair = steepest_pair(
                pipeline.act, torch.as_tensor(pipeline.mean + 2 * spread * draws), torch.as_tensor(spread),
                keep=args.keep, rounds=8, steps=args.steps, seed=turn, norm=norm, rounding=pipeline.raw_rounding,
            )  # fmt: skip
            found = pair.ratio * stack_share(pipeline, (pair.x - pair.x_prime).numpy(), norm)
            new = args.keep * args.steps
            looked, models = looked + new, models + 1
            progress.update(new)
            slope = max(found, certificate.lower_bound)
            network = certificate.network
            promised = certificate.promise is not None and network.upper_bound > certificate.promise
            broken = slope > certificate.upper_bound or network.lower_bound > network.upper_bound or promised
            if broken or not targets_keep_their_promise(model):
                violations += 1
                print(
                    f"VIOLATION: {type(model).__name__} {name} {family} {activation} turn {turn}: {slope!r}, "
                    f"bound {certificate.upper_bound!r}, or a target"
                )
            tightness[family].append(slope / certificate.upper_bound)
            methods[certificate.method] += 1
    console = Console()
    console.print(
        f"{looked:,} pairs climbed in {models} policies ({len(cases)} combinations of family and activation, "
        f"{len(seen)} of algorithm and pipeline): {violations} violations"
    )
    console.print(f"certified by {dict(methods)}")
    for family, values in tightness.items():
        console.print(
            f"  {family:16} slope found / bound: median {np.median(values):.2f}, largest {max(values):.4f}"
        )


if __name__ == "__main__":
    main()
