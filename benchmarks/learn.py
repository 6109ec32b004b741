"""What ``learn`` of every algorithm costs with a Lipschitz policy against SB3's own, at SB3's default sizes.

    python -m benchmarks.learn --output learn.json

PPO, A2C, SAC, TD3, TQC and DQN as SB3 builds them where nothing is said (Pendulum-v1, CartPole-v1 for DQN), stock and
each fast layer. All models of an algorithm are built and warmed up first, then each learns on for a few hundred steps
per round, in an order that is shuffled anew each round. Processor and wall time, one thread; medians, and ratios to
stock of the same round with their 95 % intervals.
"""

from __future__ import annotations

import datetime
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sb3_contrib import TQC
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.envs import FakeImageEnv
from tqdm import tqdm

import lipsrl  # noqa: F401  (registers the policies)
from benchmarks._timing import as_time, interleave, machine, paired_ratio
from experiments._console import command_line, fail, parse
from lipsrl._files import write_text
from lipsrl._validation import lookup, positive_finite, positive_int
from lipsrl.layers import LAYERS
from lipsrl.tracking.config import versions

STOCK = "stock"


@dataclass(frozen=True)
class Case:
    """An algorithm with the sizes of its networks.

    Attributes:
        algorithm: SB3's class, with its own defaults.
        steps: environment steps per round.
        net_arch: widths; ``None`` leaves SB3's own.
        image: height and width of a grey image as observation (``FakeImageEnv``); ``None``: a vector.
        n_steps: of an on-policy rollout; ``None`` leaves SB3's own.
    """

    algorithm: type[BaseAlgorithm]
    steps: int
    net_arch: tuple[int, ...] | None = None
    image: int | None = None
    n_steps: int | None = None

    def env(self) -> gym.Env[Any, Any]:
        """The task: its own price is small."""
        buttons = self.algorithm is DQN
        if self.image is not None:
            return FakeImageEnv(screen_height=self.image, screen_width=self.image, discrete=buttons)
        return gym.make("CartPole-v1" if buttons else "Pendulum-v1")

    def build(self, layer: str, bound: float) -> BaseAlgorithm:
        """The model, trained for long enough that nothing happens for the first time any more."""
        policy: dict[str, Any] = {} if self.net_arch is None else {"net_arch": list(self.net_arch)}
        options: dict[str, Any] = {}
        if self.n_steps is not None:
            options |= {"n_steps": self.n_steps, "batch_size": min(64, self.n_steps)}
        if self.algorithm not in (PPO, A2C):
            options["buffer_size"] = 10_000
        if layer != STOCK:
            policy |= {"lipschitz_bound": bound, "layer": layer, "norm": LAYERS[layer].norm}
        kind = "MlpPolicy" if self.image is None else "CnnPolicy"
        name = kind if layer == STOCK else f"Lipschitz{kind}"
        model = self.algorithm(name, self.env(), policy_kwargs=policy, device="cpu", seed=0, **options)
        return model.learn(100 + self.steps)


#: name → case. Rounds of on-policy algorithms are whole rollouts with their updates.
CASES = {
    "PPO": Case(PPO, 2048),
    "A2C": Case(A2C, 2000),
    "SAC": Case(SAC, 200),
    "SAC 2×64": Case(SAC, 300, (64, 64)),
    "TD3": Case(TD3, 200),
    "TD3 2×64": Case(TD3, 300, (64, 64)),
    "TQC": Case(TQC, 200),
    "DQN": Case(DQN, 2000),
    "SAC 84×84": Case(SAC, 20, image=84),
    "PPO 84×84": Case(PPO, 128, image=84, n_steps=128),
    "DQN 84×84": Case(DQN, 100, image=84),
}


@dataclass
class Args:
    """``learn`` of every algorithm, stock and each fast layer, interleaved."""

    cases: tuple[str, ...] = tuple(CASES)
    """Which of them."""
    layers: tuple[str, ...] = ("spectral", "orthogonal", "sandwich")
    """Keys of lipsrl.layers.LAYERS."""
    bound: float = 8.0
    """K."""
    repeats: int = 7
    """Interleaved rounds."""
    output: Path | None = None
    """Write everything there too (.json): each round's times, machine, versions."""

    def check(self) -> None:
        """Raise ``ValueError`` for what cannot be run."""
        positive_int("repeats", self.repeats)
        positive_finite("bound", self.bound)
        for name in self.cases:
            lookup("cases", name, CASES)
        for name in self.layers:
            lookup("layers", name, LAYERS)
        if self.output is not None and self.output.suffix != ".json":
            raise ValueError(f"output must end in .json, received {str(self.output)!r}.")


def learn_on(model: BaseAlgorithm, steps: int, cpu: list[float]) -> Callable[[], None]:
    """``learn`` for ``steps`` more; its processor seconds are appended to ``cpu``."""

    def learn() -> None:
        begun = time.process_time()
        model.learn(steps, reset_num_timesteps=False)
        cpu.append(time.process_time() - begun)

    return learn


def measure(name: str, args: Args) -> list[dict[str, Any]]:
    """One row per layer, stock first."""
    case = CASES[name]
    models = {layer: case.build(layer, args.bound) for layer in (STOCK, *args.layers)}
    cpu: dict[str, list[float]] = {layer: [] for layer in models}
    functions = {layer: learn_on(model, case.steps, cpu[layer]) for layer, model in models.items()}
    wall = interleave(functions, dict.fromkeys(functions, 1), args.repeats)
    rows = []
    for layer, model in models.items():
        network = getattr(model.policy, "lipschitz_network", None)
        if network is not None:
            model.policy.set_training_mode(False)
        rows.append(
            {
                "case": name,
                "layer": layer,
                "steps": case.steps,
                "cpu_seconds": cpu[layer],
                "wall_seconds": wall[layer],
                "cpu_ratio": list(paired_ratio(cpu[layer], cpu[STOCK])),
                "wall_ratio": list(paired_ratio(wall[layer], wall[STOCK])),
                # near 1 the constraint binds; above 1 it would be broken
                "bound_over_K": None if network is None else network.lipschitz_bound() / args.bound,
            }
        )
    return rows


def table(rows: list[dict[str, Any]], layers: tuple[str, ...]) -> Table:
    """Stock's processor time per environment step, and the layers' ratios to it."""
    shown = Table(title="learn, processor time (wall time in brackets)")
    for column in ("", STOCK, *layers):
        shown.add_column(column, justify="left" if not column else "right")
    for name in dict.fromkeys(row["case"] for row in rows):
        cells = [name]
        for row in (row for row in rows if row["case"] == name):
            if row["layer"] == STOCK:
                cells.append(f"{as_time(float(np.median(row['cpu_seconds'])) / row['steps'])} per step")
            else:
                ratio, low, high = row["cpu_ratio"]
                cells.append(f"{ratio:.2f} [{low:.2f}, {high:.2f}] ({row['wall_ratio'][0]:.2f})")
        shown.add_row(*cells)
    return shown


def main() -> None:
    """Command line."""
    with fail():
        args = parse(Args, __doc__)
        args.check()
        torch.set_num_threads(1)
        before, rows = machine(), []
        for name in tqdm(args.cases, disable=None):
            rows += measure(name, args)
        record = {
            "benchmark": "learn",
            "command": command_line("benchmarks.learn"),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": {**before, "load_average_after": machine()["load_average"]},
            "versions": versions(),
            "arguments": {**asdict(args), "output": None if args.output is None else str(args.output)},
            "rows": rows,
        }
        if args.output is not None:
            write_text(args.output, json.dumps(record, indent=1) + "\n")
    Console(width=None if sys.stdout.isatty() else 120).print(table(rows, args.layers))


if __name__ == "__main__":
    main()
