"""The same episode under the same noise, played by several agents side by side, as a GIF.

python -m experiments.clip runs/memory/pendulum-0/teacher runs/memory/pendulum-0/window --noise 0.2 --episode 3
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
import tyro

from experiments._console import fail, open_runs, parse
from experiments._filters import task_of
from lipsrl.disturbances import GaussianNoise
from lipsrl.evaluation import rollout_trace
from lipsrl.tracking.actions import render_clip


@dataclass
class Args:
    """One episode of several run folders of one task, as a GIF."""

    run: tyro.conf.Positional[list[Path]]
    """Run folders."""
    names: list[str] = field(default_factory=list)
    """Text above each agent. Default: the agents' names."""
    noise: float = 0.1
    """Standard deviation of the white noise on every sensor, raw units."""
    episode: int = 0
    """Number of the episode."""
    seed: int = 0
    """Random seed of the episodes and the noise."""
    output: Path = Path("clip.gif")
    """File for the GIF."""


def main() -> None:
    """Command line: prints the return and mean |Δa| of each."""
    args = parse(Args, __doc__)
    torch.set_num_threads(1)
    with fail():
        folders = open_runs(args.run)
        configs = [folder.read_config() for folder in folders]
        if len({config["task"] for config in configs}) > 1:
            raise ValueError("The runs are of different tasks; give runs of one.")
        names = args.names or [f"{config['agent']} {config['seed']}" for config in configs]
        if len(names) != len(folders) or len(set(names)) != len(names):
            raise ValueError(f"names must be {len(folders)} different ones, one per run; received {names}.")
        traces = {}
        for name, folder, config in zip(names, folders, configs, strict=True):
            task, (model, statistics) = task_of(config), folder.load()
            traces[name] = rollout_trace(
                model, task.make, disturbance=GaussianNoise(1.0), strength=args.noise, seed=args.seed,
                episode=args.episode, vec_normalize=statistics,
            )  # fmt: skip
            print(
                f"{name}: return {traces[name]['return']:.0f}, mean |Δa| {traces[name]['action_fluctuation']:.2f}"
            )
        render_clip(args.output, task.env_id, traces, seed=args.seed, episode=args.episode)


if __name__ == "__main__":
    sys.exit(main())
