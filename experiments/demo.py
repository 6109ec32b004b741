"""`make demo`: train a plain and a Lipschitz PPO agent on Pendulum-v1, certify, disturb and compare them.

These are the commands of the other scripts, printed as they run; the two trainings run in parallel.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from experiments._console import parse
from experiments._parallel import module_command, run_all


@dataclass
class Args:
    """Train a plain and a Lipschitz agent, certify, disturb, compare."""

    agents: list[str] = field(default_factory=lambda: ["ppo", "ppo-sandwich"])
    """Recipes to compare; the first is the baseline."""
    task: str = "pendulum"
    """Name of the task."""
    seed: int = 0
    """Training seed of both."""
    timesteps: int | None = None
    """Environment steps; the recipes' own number if not given."""
    output: Path = Path("runs/demo")
    """Run folders and report go there."""


def demo(args: Args) -> int:
    """Run the demo; returns the exit status."""
    begun = time.perf_counter()
    folders = [args.output / f"{agent}-{args.task}-{args.seed}" for agent in args.agents]
    more = [] if args.timesteps is None else ["--timesteps", args.timesteps]
    train = [
        module_command(
            "experiments.train", "--agent", agent, "--task", args.task, "--seed", args.seed, *more,
            "--output", folder, "--overwrite",
        )
        for agent, folder in zip(args.agents, folders, strict=True)
    ]  # fmt: skip
    compare = module_command("experiments.compare", *folders, "--report", args.output / "report.html")
    for commands in (train, [compare]):
        failures = run_all(commands, jobs=len(commands))
        if failures:
            print("\n".join(f"failed [{f.status}]: {f.command}" for f in failures), file=sys.stderr)
            return 1
    print(f"Done in {time.perf_counter() - begun:.0f} s.")
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
