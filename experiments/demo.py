"""`make demo`: train a plain and a Lipschitz PPO agent on Pendulum-v1, certify and compare them.

It runs the commands of the other scripts and prints them. The two trainings run in parallel. The last command writes
the report page.
"""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from experiments._console import parse
from experiments._parallel import module_command, run_all


@dataclass
class Args:
    """Train a plain and a Lipschitz agent, certify them, and compare them under disturbances."""

    agents: list[str] = field(default_factory=lambda: ["ppo", "ppo-sandwich"])
    """Names of the agents to compare (see agents/)."""
    task: str = "pendulum"
    """Name of the task."""
    seed: int = 0
    """Training seed of both agents."""
    timesteps: int = 150_000
    """Environment steps. The default is enough for Pendulum; the agents' own 300,000 are a little better."""
    episodes: int = 50
    """Episodes per agent, disturbance and strength."""
    output: Path = Path("runs/demo")
    """Folder for the run folders and the report."""


def demo(args: Args) -> int:
    """Run the demo; returns the exit status."""
    begun = time.perf_counter()
    folders = [args.output / f"{agent}-{args.task}-{args.seed}" for agent in args.agents]
    train = [
        module_command(
            "experiments.train", "--agent", agent, "--task", args.task, "--seed", args.seed,
            "--timesteps", args.timesteps, "--output", folder, "--overwrite",
        )
        for agent, folder in zip(args.agents, folders, strict=True)
    ]  # fmt: skip
    page = args.output / "report.html"
    compare = module_command("experiments.compare", *folders, "--episodes", args.episodes, "--report", page)
    for commands in (train, [compare]):
        failures = run_all(commands, jobs=len(commands))
        if failures:
            print("\n".join(f"failed [{f.status}]: {f.command}" for f in failures), file=sys.stderr)
            return 1
    print(
        f"Done in {time.perf_counter() - begun:.0f} s. The page (open it in a browser): {page.resolve().as_uri()}"
    )
    # the evaluations are stored: the second command only logs them
    runs = shlex.join(map(str, folders))
    print(
        f"The same in W&B, once you are logged in (wandb login): wandb sync {args.output}/*/wandb/offline-run-* && "
        f"python -m experiments.compare {runs} --episodes {args.episodes} --track online && "
        f"python -m experiments.dashboard --project lipsrl --runs {runs}"
    )
    return 0


def main() -> None:
    """Command line."""
    args = parse(Args, __doc__)
    try:
        sys.exit(demo(args))
    except KeyboardInterrupt:
        print(f"Interrupted. What was trained so far is in {args.output}.")
        sys.exit(130)


if __name__ == "__main__":
    main()
