"""Train several agents over several seeds, side by side; finished runs are kept, so it can be resumed.

python -m experiments.sweep --agents ppo ppo-sandwich --task pendulum --seeds 10 --output runs/pendulum
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents import get_agent
from envs import get_task
from experiments._console import fail, parse
from experiments._parallel import module_command, run_all
from lipsrl._validation import positive_int
from lipsrl.tracking import Mode, RunFolder


@dataclass
class Args:
    """Train several agents over several seeds."""

    agents: list[str] = field(default_factory=lambda: ["ppo", "ppo-sandwich"])
    """Recipes (see agents/)."""
    task: str = "pendulum"
    """Name of the task (see envs/)."""
    seeds: int = 10
    """Number of training seeds."""
    first_seed: int = 0
    """The first of them: a screening should not use the seeds of the final table."""
    timesteps: int | None = None
    """Environment steps; the recipes' own number if not given."""
    lipschitz_bound: float | None = None
    """K of every Lipschitz agent; the recipes' own if not given."""
    budget: str | None = None
    """How K is split over the layers (see lipsrl.layers.BUDGETS), if not as the policy does by default."""
    output: Path = Path("runs/sweep")
    """Run folders go to OUTPUT/AGENT-TASK-SEED."""
    jobs: int = 2
    """Trainings at a time, one thread each."""
    track: Mode | None = None
    """Weights & Biases: online, offline or disabled; see experiments.train."""


def is_finished(path: Path, timesteps: int, policy: dict[str, Any]) -> bool:
    """Whether a run folder holds a finished training of that length, with those ``policy_kwargs``.

    Raises:
        ValueError: it holds a finished training of another length, or with others.
    """
    try:
        config = RunFolder.open(path).read_config()
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    if config.get("status") != "finished":
        return False
    if config["timesteps"] != timesteps:
        raise ValueError(
            f"{path} is finished with timesteps={config['timesteps']}, not {timesteps}. Give another --output, or "
            "remove it."
        )
    given = config["hyperparameters"]["policy_kwargs"]
    different = {key: given.get(key) for key, value in policy.items() if given.get(key) != value}
    if different:
        raise ValueError(
            f"{path} is finished with {different}, not { ({key: policy[key] for key in different}) }. Give another "
            "--output, or remove it."
        )
    return True


def sweep(args: Args) -> list[Path]:
    """Train what is not finished yet; returns all run folders, agent by agent.

    Raises:
        ValueError: an agent or task that does not exist.
        RuntimeError: a training failed; the others were run.
    """
    task = get_task(args.task)
    positive_int("seeds", args.seeds)
    positive_int("jobs", args.jobs)
    if args.timesteps is not None:
        positive_int("timesteps", args.timesteps)
    lengths = {name: args.timesteps or get_agent(name).for_task(task.name).timesteps for name in args.agents}
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    folders = {
        (agent, seed): args.output / f"{agent}-{args.task}-{seed}"
        for seed in seeds  # seed by seed: a comparison is possible before the sweep has ended
        for agent in args.agents
    }
    commands = []
    for (agent, seed), folder in folders.items():
        policy: dict[str, Any] = {}
        if get_agent(agent).layer is not None:
            wanted = {"lipschitz_bound": args.lipschitz_bound, "budget": args.budget}
            policy = {key: value for key, value in wanted.items() if value is not None}
        if is_finished(folder, lengths[agent], policy):
            print(f"{folder}: finished, kept")
            continue
        options: list[object] = ["--agent", agent, "--task", args.task, "--seed", seed, "--output", folder]
        if args.timesteps is not None:
            options += ["--timesteps", args.timesteps]
        for key, value in policy.items():
            options += [f"--{key.replace('_', '-')}", value]
        if args.track is not None:
            options += ["--track", args.track]
        commands.append(module_command("experiments.train", *options, "--overwrite"))
    failures = run_all(commands, args.jobs)
    if failures:
        raise RuntimeError(
            "Trainings that failed:\n" + "\n".join(f"  [{f.status}] {f.command}" for f in failures)
        )
    return [folders[agent, seed] for agent in args.agents for seed in seeds]


def main() -> None:
    """Command line."""
    args = parse(Args, __doc__)
    with fail():
        try:
            sweep(args)
        except KeyboardInterrupt:
            print(
                "Interrupted. The same command keeps the finished runs and trains the others from the start."
            )
            raise SystemExit(130) from None


if __name__ == "__main__":
    main()
