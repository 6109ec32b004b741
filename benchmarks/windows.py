"""Try to break ``Certificate.window``: gradient ascent over windows and over whole sequences of observations.

    python -m benchmarks.windows

For every constraint family × activation (and stock policies) in turn: another algorithm, number of frames, place of
the normalisation (inside the stack, outside, none), width of its clip, sensor scale and norm; weights as a careless
optimizer leaves them; the certificate; and for each of its constants pairs that climb, every step of which is counted.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecNormalize

from benchmarks._window_search import QUESTIONS, Windows, steepest_window
from benchmarks.soundness import ALGORITHMS, BOUND, Plant, combinations
from lipsrl.actors.normalization import observation_chain
from lipsrl.actors.pipeline import Pipeline
from lipsrl.certificates import certify
from lipsrl.layers import LAYERS

FRAMES = (2, 3, 5, 8, 14)
PLACES = ("inside", "outside", "none")
CLIPS = (10.0, 1.0, 0.2)
#: From policy to policy; prime to all that rotates.
STRIDE = 13
SCALES: tuple[Any, ...] = (None, (0.01, 1.0, 3.0), None, (1e-6, 1.0, 1e6))


@dataclass
class Args:
    """Gradient ascent of the gain over windows and sequences."""

    first: int = 0
    """Policy to begin with."""
    turns: int = 60
    """Policies to look at."""
    pairs: int = 256
    """Pairs of each constant that climb at the same time."""
    steps: int = 80
    """Steps that each of them takes."""
    results: Path | None = None
    """Where to write what was found so far after each policy, as JSON."""


def build(turn: int) -> tuple[BaseAlgorithm, str, Any, str]:
    """Model, place of the normalisation, sensor scale, norm; all of them change from turn to turn."""
    rng = np.random.default_rng(turn)
    cases = [*combinations(), ("plain", "tanh"), ("plain", "relu")]
    family, activation = cases[turn % len(cases)]
    algorithm = ALGORITHMS[turn % len(ALGORITHMS)]
    place, frames = PLACES[turn % 3], FRAMES[turn % 5]
    buttons = algorithm.__name__ in ("DQN", "QRDQN")
    venv: VecEnv = DummyVecEnv([lambda: Plant(buttons)])
    clip = CLIPS[int(rng.integers(3))]
    if place == "inside":
        venv = VecFrameStack(VecNormalize(venv, clip_obs=clip), frames)
    else:
        venv = VecFrameStack(venv, frames)
        venv = VecNormalize(venv, clip_obs=clip) if place == "outside" else venv
    venv.seed(turn)
    venv.reset()
    for _ in range(50):
        venv.step(np.zeros(1, int) if buttons else np.zeros((1, 2), np.float32))
    options: dict[str, Any] = {"buffer_size": 10} if issubclass(algorithm, OffPolicyAlgorithm) else {}
    policy: dict[str, Any] = {"net_arch": [12, 12]}
    if algorithm.__name__ == "QRDQN":
        policy["n_quantiles"] = 5
    norm = "l2"
    if family == "plain":
        policy["activation_fn"] = torch.nn.Tanh if activation == "tanh" else torch.nn.ReLU
        name = "MlpPolicy"
    else:
        name, norm = "LipschitzMlpPolicy", LAYERS[family].norm
        policy |= {"lipschitz_bound": BOUND, "layer": family, "norm": norm, "activation": activation}
        if turn % 5 == 0:
            policy["observation_scale"] = [0.1, 1.0, 5.0] * frames
    if norm == "l2" and turn % 11 == 0 and activation != "householder":
        norm = "l1"
    model = algorithm(name, venv, seed=turn, device="cpu", policy_kwargs=policy, **options)
    model.policy.set_training_mode(True)
    generator = torch.Generator().manual_seed(turn)
    network = model.policy if family == "plain" else model.policy.lipschitz_network
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 10.0 ** ((turn % 4) - 2))
    _colour(model, turn, frames)
    return model, place, SCALES[turn % 4], norm


def _colour(model: BaseAlgorithm, turn: int, frames: int) -> None:
    """Give first layers frames that alternate in sign, agree, or fade, so that other frequencies are the worst."""
    wave = [np.ones(frames), (-1.0) ** np.arange(frames), np.linspace(0.0, 1.0, frames)][turn % 3]
    factor = torch.as_tensor(np.repeat(wave, 3), dtype=torch.float32)
    with torch.no_grad():
        for module in model.policy.modules():
            if isinstance(module, torch.nn.Linear) and module.in_features == len(factor):
                module.weight.copy_(module.weight.abs() * factor if turn % 2 else module.weight * factor)


def main() -> None:
    """Command line."""
    args = tyro.cli(Args, description=__doc__)
    torch.set_num_threads(1)
    looked: Counter[str] = Counter()
    violations, seen = 0, set()
    tightness: dict[str, list[float]] = {}
    for number in range(args.first, args.first + args.turns):
        turn = number * STRIDE
        model, place, scale, norm = build(turn)
        certificate = certify(model, norm=norm, sensor_scale=scale, n_starts=64, seed=turn)
        window = certificate.window
        assert window is not None
        seen.add((type(model).__name__, place, window.frames))
        pipeline = Pipeline.of(model, observation_chain(model))
        policy = Windows.of(pipeline, place == "inside", 1.0 if scale is None else scale, norm)
        for question, sensor in itertools.product(QUESTIONS, (None, turn % 3)):
            stated: Any = window if sensor is None else window.per_sensor[sensor]
            bound = getattr(stated, question, None)
            if bound is None:  # signals outside of l2, the whole window of one sensor
                continue
            found = steepest_window(
                policy, question, sensor=sensor, n=args.pairs, steps=args.steps, seed=turn,
                length=window.frames + 6,
            )  # fmt: skip
            name = question if sensor is None else f"{question}, one sensor"
            looked[name] += found.pairs
            tightness.setdefault(name, []).append(
                found.ratio / bound if bound > 0 else float(found.ratio > 0)
            )
            if found.ratio > bound:
                violations += 1
                print(
                    f"VIOLATION: turn {turn} {name} {place} {norm}: {found.ratio!r} > {bound!r}", flush=True
                )
        if args.results is not None:
            done = {
                "policies": number + 1 - args.first,
                "violations": violations,
                "pairs": looked,
                "ratios": tightness,
            }
            args.results.write_text(json.dumps(done))
    for name, ratios in tightness.items():
        print(
            f"{name:26} {looked[name]:>12,} pairs, found / bound: "
            f"median {np.median(ratios):.2f}, largest {max(ratios):.4f}"
        )
    print(f"{args.turns} policies, {len(seen)} of algorithm × place × frames: {violations} violations")


if __name__ == "__main__":
    main()
