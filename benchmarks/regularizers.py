"""What each soft regulariser costs: processor time of ``learn``, against the same agent without.

``python -m benchmarks.regularizers [--rounds N] [--output FILE]``: PPO and SAC on Pendulum, 2×64, one thread;
rounds are interleaved and shuffled, ratios are of the same round. Processor time, because others use the machine.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import torch
from stable_baselines3 import PPO, SAC
from torch import nn

from benchmarks._timing import machine, paired_ratio
from lipsrl._files import write_text
from lipsrl.regularizers import METHODS, Regularizer, SmoothPolicy, regularize

#: algorithm → class, steps, arguments, activation.
CASES: dict[str, tuple[Any, int, dict[str, Any]]] = {
    "PPO": (PPO, 1024, {"n_steps": 512, "batch_size": 128, "n_epochs": 10}),
    "SAC": (SAC, 400, {"learning_starts": 100, "batch_size": 256, "buffer_size": 10_000}),
}


def methods(algorithm: str) -> dict[str, tuple[Regularizer, ...]]:
    """Name → what is added; each at its default weights."""
    found: dict[str, tuple[Regularizer, ...]] = {"none": ()}
    for name, cls in METHODS.items():
        if name == "PAVE" and algorithm == "PPO":
            continue
        weight = {"temporal": (0.1, 0.1)} if name == "CATS" else {}  # CATS starts from nothing
        found[name] = (cls(**weight),)
    found["SmoothPolicy, 10 steps of SGLD"] = (SmoothPolicy(divergence="kl", solver="sgld", steps=10),)
    return found


def seconds(algorithm: str, added: tuple[Regularizer, ...]) -> float:
    """Processor seconds of one ``learn``."""
    cls, steps, arguments = CASES[algorithm]
    kwargs = {"net_arch": [64, 64], "activation_fn": nn.SiLU}
    model = cls("MlpPolicy", "Pendulum-v1", policy_kwargs=kwargs, device="cpu", seed=0, **arguments)
    if added:
        regularize(model, *added)
    begun = time.process_time()
    model.learn(steps)
    return time.process_time() - begun


def measure(algorithm: str, rounds: int) -> dict[str, list[float]]:
    """Name → processor seconds, one per round."""
    order = random.Random(0)
    cases = methods(algorithm)
    seconds(algorithm, ())  # warm
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name in order.sample(list(cases), len(cases)):
            times[name].append(seconds(algorithm, cases[name]))
    return times


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {"machine": machine()}
    print("| method | " + " | ".join(CASES) + " |\n|---|" + "---|" * len(CASES))
    for algorithm in CASES:
        times = measure(algorithm, args.rounds)
        results[algorithm] = {
            name: {"seconds": values, "ratio": list(paired_ratio(values, times["none"]))}
            for name, values in times.items()
        }
    for name in methods("SAC"):
        cells = []
        for algorithm in CASES:
            found = results[algorithm].get(name)
            cells.append("–" if found is None else "{:.2f} [{:.2f}, {:.2f}]".format(*found["ratio"]))
        print(f"| {name} | " + " | ".join(cells) + " |")
    if args.output is not None:
        write_text(args.output, json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
