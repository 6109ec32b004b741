"""What SmoothnessCallback costs a training, as `experiments.train` uses it.

    python -m benchmarks.tracking --output tracking.json

Each round trains the same agent, from the same seed, with the callback and without, one after the other in an order
that is shuffled. Two figures: the median over rounds of processor time with over without, and the share of the
processor time that is spent inside the callback, which others on the machine disturb less. A training has ten records
and one evaluation (four clean and four noisy episodes), which by default comes every 50,000 steps only.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
import tyro
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from agents import get_agent
from benchmarks._timing import machine, paired_ratio
from envs import get_task
from experiments.train import make_training_env
from lipsrl.disturbances import GaussianNoise
from lipsrl.tracking import SmoothnessCallback


@dataclass
class Args:
    """Measure what SmoothnessCallback costs."""

    agent: list[str] = field(default_factory=lambda: ["ppo", "ppo-sandwich"])
    """Names of recipes."""
    task: str = "pendulum"
    """Name of the task."""
    timesteps: int = 40_960
    """Of each training."""
    rounds: int = 5
    """Trainings with and without."""
    output: Path | None = None
    """Write all numbers there (JSON)."""


class Timed(BaseCallback):
    """Another callback, and the processor time inside of it."""

    def __init__(self, inner: SmoothnessCallback) -> None:
        super().__init__()
        self.inner = inner
        self.seconds = 0.0

    def _timed(self, method: str, *args: object) -> object:
        begun = time.process_time()
        done = getattr(self.inner, method)(*args)
        self.seconds += time.process_time() - begun
        return done

    def _init_callback(self) -> None:
        self._timed("init_callback", self.model)

    def _on_training_start(self) -> None:
        self._timed("on_training_start", self.locals, self.globals)

    def _on_step(self) -> bool:
        self.inner.update_locals(self.locals)
        return bool(self._timed("on_step"))

    def _on_rollout_end(self) -> None:
        self._timed("on_rollout_end")

    def _on_training_end(self) -> None:
        self._timed("on_training_end")


def train(agent: str, task_name: str, timesteps: int, watched: bool) -> tuple[float, float]:
    """Processor seconds of ``learn``, and of these inside the callback."""
    recipe, task = get_agent(agent), get_task(task_name)
    venv = make_training_env(recipe, task)
    model = recipe.build(venv, task, seed=0)
    model.set_logger(Logger(None, []))
    callback = None
    if watched:
        callback = Timed(
            SmoothnessCallback(
                eval_env=task.make,
                disturbance=GaussianNoise(task.chatter_strength),
                evaluate_every=2 * timesteps,  # the one at the end
            )
        )
    begun = time.process_time()
    model.learn(timesteps, callback=callback)
    seconds = time.process_time() - begun
    venv.close()
    return seconds, 0.0 if callback is None else callback.seconds


def main() -> None:
    """Command line."""
    args = tyro.cli(Args, description=__doc__)
    torch.set_num_threads(1)
    order = random.Random(0)
    results = {}
    for agent in args.agent:
        train(agent, args.task, 2048, True)  # imports and first calls
        times: dict[bool, list[float]] = {True: [], False: []}
        inside = []
        for _ in range(args.rounds):
            for watched in order.sample([True, False], 2):
                seconds, own = train(agent, args.task, args.timesteps, watched)
                times[watched].append(seconds)
                if watched:
                    inside.append(own / (seconds - own))
        ratio = paired_ratio(times[True], times[False])
        share = sorted(inside)[len(inside) // 2]
        results[agent] = {
            "with": times[True], "without": times[False], "ratio": ratio.estimate,
            "ratio_low": ratio.low, "ratio_high": ratio.high, "inside": share,
        }  # fmt: skip
        print(
            f"{agent} on {args.task}: inside the callback {share:.1%} of the training's processor time; with / without "
            f"{ratio.estimate:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]",
            flush=True,
        )
    if args.output is not None:
        args.output.write_text(json.dumps({"machine": machine(), "results": results}, indent=2))


if __name__ == "__main__":
    main()
