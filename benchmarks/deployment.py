"""What an exported policy costs per observation, beside ``model.predict``: one observation at a time, side by side.

    OMP_NUM_THREADS=1 python -m benchmarks.deployment

A PPO actor 17 → h → h → 6 on normalised observations, exported to both formats and both forms. Every competitor but
"predict alone" takes the raw observation and gives the action of the environment, normalisation and clip included.

Then one with memory: Pendulum's 3 sensors, 8 frames, each normalised before it is stacked, 24 → 64 → 64 → 1. Every
competitor takes the newest raw observation and keeps the window; "NumPy, window given" is handed it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import onnxruntime
import torch
import tyro
from gymnasium import spaces
from rich.console import Console
from rich.table import Table
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

import lipsrl
from benchmarks._timing import as_time, calls_within, interleave, machine, paired_ratio
from lipsrl._files import write_text

BASELINE = "predict"
FRAMES = 8


@dataclass
class Args:
    """Time of exported policies beside SB3's."""

    widths: tuple[int, ...] = (64, 256)
    """Units of each of the two hidden layers."""
    repeats: int = 300
    """Rounds; each times every competitor once."""
    seconds: float = 0.002
    """Length of one timing: shorter than a time slice, so that other processes disturb few of them."""
    output: Path | None = None
    """Write all numbers there as JSON."""


class Sensors(gym.Env[np.ndarray, np.ndarray]):
    """17 sensors of very different size, 6 actuators; nothing happens."""

    observation_space = spaces.Box(-np.inf, np.inf, (17,))
    action_space = spaces.Box(-1.0, 1.0, (6,))
    spread = np.logspace(-1, 1, 17)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return self._draw(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return self._draw(), 0.0, False, False, {}

    def _draw(self) -> np.ndarray:
        return (3.0 + self.spread * self.np_random.standard_normal(17)).astype(np.float32)


def trained(width: int) -> PPO:
    """A stock model whose normalisation has seen observations and whose weights have moved."""
    venv = VecNormalize(DummyVecEnv([Sensors]), norm_reward=False)
    venv.seed(0)
    model = PPO(
        "MlpPolicy", venv, seed=0, device="cpu", n_steps=256, batch_size=64, learning_rate=3e-3,
        policy_kwargs={"net_arch": [width, width]},
    )  # fmt: skip
    return model.learn(512)


def runtime(path: Path) -> onnxruntime.InferenceSession:
    """onnxruntime on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def competitors(
    model: PPO, folder: Path
) -> tuple[np.ndarray, dict[str, Callable[[np.ndarray], np.ndarray]], dict[str, int]]:
    """Raw observations (n, obs), name → raw observation to action, and name → size of its file in bytes."""
    statistics = model.get_vec_normalize_env()
    assert statistics is not None
    sizes = {}
    functions: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        BASELINE: lambda raw: model.predict(statistics.normalize_obs(raw), deterministic=True)[0],
        "predict alone": lambda raw: model.predict(raw, deterministic=True)[0],
    }
    for folded in (False, True):
        form = ", folded" if folded else ""
        path = lipsrl.export(model, folder / f"{folded}.safetensors", folded=folded)
        functions[f"NumPy{form}"] = lipsrl.load_policy(path)
        sizes[f"NumPy{form}"] = path.stat().st_size
        path = lipsrl.export(model, folder / f"{folded}.onnx", folded=folded)
        session = runtime(path)
        functions[f"ONNX{form}"] = lambda raw, s=session: s.run(None, {"observation": raw[None]})[0][0]
        sizes[f"ONNX{form}"] = path.stat().st_size
    raw = np.stack([statistics.venv.reset()[0] for _ in range(10_000)])
    return raw, functions, sizes


def trained_with_memory() -> PPO:
    """A stock model on Pendulum behind a frame stack, its normalisation inside."""
    venv = VecNormalize(DummyVecEnv([lambda: gym.make("Pendulum-v1")]), norm_reward=False)
    venv.seed(0)
    model = PPO(
        "MlpPolicy", VecFrameStack(venv, FRAMES), seed=0, device="cpu", n_steps=256, batch_size=64, learning_rate=3e-3
    )  # fmt: skip
    return model.learn(512)


class Stacking:
    """A function of the whole window as one of the newest observation."""

    def __init__(self, function: Callable[[np.ndarray], np.ndarray], before: np.ndarray) -> None:
        self._function = function
        self._window = np.tile(before, FRAMES)
        self._dim = len(before)

    def __call__(self, newest: np.ndarray) -> np.ndarray:
        self._window = np.concatenate([self._window[self._dim :], newest])
        return self._function(self._window)


def competitors_with_memory(
    model: PPO, folder: Path
) -> tuple[np.ndarray, dict[str, Callable[[np.ndarray], np.ndarray]], dict[str, int]]:
    """As :func:`competitors`; the raw observations are of one episode."""
    statistics = model.get_vec_normalize_env()
    assert statistics is not None
    behind = Stacking(lambda x: model.predict(x, deterministic=True)[0], np.zeros(3, np.float32))
    functions: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        BASELINE: lambda raw: behind(statistics.normalize_obs(raw)),
    }
    sizes = {}
    for folded in (False, True):
        form = ", folded" if folded else ""
        path = lipsrl.export(model, folder / f"{folded}.safetensors", folded=folded)
        policy = lipsrl.load_policy(path)
        functions[f"NumPy{form}"] = policy
        sizes[f"NumPy{form}"] = path.stat().st_size
    before = np.array(policy.description["observation"]["window"]["before"])
    functions["NumPy, window given"] = Stacking(policy.stateless, before)
    path = lipsrl.export(model, folder / "p.onnx")
    session = runtime(path)
    functions["ONNX"] = Stacking(lambda x: session.run(None, {"observation": x[None]})[0][0], before)
    sizes |= {"NumPy, window given": sizes["NumPy, folded"], "ONNX": path.stat().st_size}
    rng = np.random.default_rng(0)
    angle, speed = rng.uniform(-np.pi, np.pi, 10_000), rng.uniform(-8, 8, 10_000)
    raw = np.stack([np.cos(angle), np.sin(angle), speed], axis=1).astype(np.float32)
    return raw, functions, sizes


def largest_difference(
    function: Callable[[np.ndarray], np.ndarray], raw: np.ndarray, expected: np.ndarray
) -> float:
    """From ``predict``, over all observations, relative to the half range of the action (which is 1)."""
    return float(np.abs(np.stack([function(row) for row in raw]) - expected).max())


def measure(width: int | None, args: Args) -> dict[str, dict[str, Any]]:
    """All numbers of one width by name of the competitor; None: those of the model with memory."""
    with tempfile.TemporaryDirectory() as folder:
        if width is None:
            raw, functions, sizes = competitors_with_memory(trained_with_memory(), Path(folder))
        else:
            raw, functions, sizes = competitors(trained(width), Path(folder))
        expected = np.stack([functions[BASELINE](row) for row in raw])
        differences = {name: largest_difference(functions[name], raw, expected) for name in sizes}
    timed = {name: (lambda f=function: f(raw[0])) for name, function in functions.items()}
    calls = {name: calls_within(args.seconds, function) for name, function in timed.items()}
    times = interleave(timed, calls, args.repeats)
    rows = {}
    for name in functions:
        ratio = paired_ratio(times[BASELINE], times[name])
        rows[name] = {
            "seconds": float(np.median(times[name])),
            "speedup": ratio.estimate,
            "speedup_interval": [ratio.low, ratio.high],
            "largest_difference": differences.get(name),
            "bytes": sizes.get(name),
        }
    return rows


def table(width: int | None, rows: dict[str, dict[str, Any]]) -> Table:
    """As printed."""
    sizes = f"17 → {width} → {width} → 6"
    if width is None:
        sizes = f"memory: 3 sensors × {FRAMES} frames → 64 → 64 → 1"
    result = Table(title=f"{sizes}, one observation, VecNormalize and clip included")
    for name in ("", "median", "faster than predict", "[95 %]", "largest difference", "file"):
        result.add_column(name, justify="right")
    for name, row in rows.items():
        low, high = row["speedup_interval"]
        result.add_row(
            name,
            as_time(row["seconds"]) if row["seconds"] > 1e-5 else f"{row['seconds'] * 1e6:.1f} µs",
            f"{row['speedup']:.1f}×",
            f"{low:.1f}–{high:.1f}",
            "" if row["largest_difference"] is None else f"{row['largest_difference']:.1e}",
            "" if row["bytes"] is None else f"{row['bytes']:,} B",
        )
    return result


def main() -> None:
    """Command line."""
    args = tyro.cli(Args, description=__doc__)
    torch.set_num_threads(1)
    console = Console(width=130)
    measured: dict[int | None, dict[str, dict[str, Any]]] = {}
    for width in (*args.widths, None):
        measured[width] = measure(width, args)
        console.print(table(width, measured[width]))
    if args.output is not None:
        memory = measured.pop(None)
        numbers = {"machine": machine(), "widths": measured, "memory": memory}
        write_text(args.output, json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    main()
