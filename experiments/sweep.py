"""Train agents × tasks × seeds × K × layers × histories in parallel; the same command continues an interrupted sweep.

    python -m experiments.sweep --agents ppo ppo-sandwich --tasks pendulum --seeds 10 --output runs/pendulum
    python -m experiments.sweep study.yaml --launcher ray --address auto

A YAML file uses the names of the flags; flags override the file. Finished runs are kept, unfinished runs continue from
their last checkpoint, and failed runs are repeated (docs/experiments.md).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from experiments._console import command_line, fail, parse
from experiments._locks import exclusive
from experiments._plan import RunConfig, plan
from experiments._search import Search, check_search, search
from experiments._sweep_folder import SweepFolder
from experiments._yaml import read_options
from experiments.launchers import Options, launch
from experiments.launchers.launch import FailedError, check
from lipsrl._validation import positive_int
from lipsrl.tracking import Mode


@dataclass
class Args:
    """Train agents × tasks × seeds × K × layers × histories."""

    config: tyro.conf.Positional[Path | None] = None
    """YAML file with these options (without leading dashes, words joined by _)."""
    agents: list[str] = field(default_factory=lambda: ["ppo", "ppo-sandwich"])
    """Names of agents (see agents/)."""
    tasks: Annotated[list[str], tyro.conf.arg(aliases=["--task"])] = field(
        default_factory=lambda: ["pendulum"]
    )
    """Names of tasks (see envs/)."""
    seeds: int = 10
    """Number of training seeds."""
    first_seed: int = 0
    """First training seed. A screening should not use the seeds of the final table."""
    timesteps: int | None = None
    """Environment steps. Default: the agent's own number."""
    lipschitz_bound: list[float | Literal["auto"]] = field(default_factory=list)
    """Values of K, or auto: the K that experiments.train finds. Every Lipschitz agent is trained with each of them.
    Default: the agent's own K."""
    layer: list[str] = field(default_factory=list)
    """Layer types. Every Lipschitz agent is trained with each of them. Default: the agent's own."""
    history: list[int] = field(default_factory=list)
    """Numbers of observations that a policy sees at once. Every agent is trained with each. Default: the agent's
    own."""
    budget: str | None = None
    """How K is divided among the layers (see lipsrl.layers.BUDGETS). Default: the agent's own, output."""
    output: Path = Path("runs/sweep")
    """Run folders are OUTPUT/ID. An id is AGENT-TASK-SEED; settings that differ from the agent's own follow AGENT."""
    extend: bool = False
    """Add runs to the folder of another sweep."""
    checkpoint_every: int | None = None
    """Environment steps between checkpoints; see experiments.train."""
    track: Mode | None = None
    """Weights & Biases: online, offline or disabled; see experiments.train."""
    launch: Annotated[Options, tyro.conf.arg(name="")] = field(default_factory=Options)
    """Where the trainings run."""
    search: Annotated[Search, tyro.conf.arg(name="")] = field(default_factory=Search)
    """A search over K instead of a grid."""


def configs_of(args: Args) -> list[RunConfig]:
    """What ``args`` ask for."""
    positive_int("seeds", args.seeds)
    return plan(
        args.agents,
        args.tasks,
        range(args.first_seed, args.first_seed + args.seeds),
        timesteps=args.timesteps,
        lipschitz_bound=args.lipschitz_bound,
        layer=args.layer,
        history=args.history,
        budget=args.budget,
    )


def train_all(args: Args, configs: list[RunConfig], command: str) -> list[Path]:
    """Train what is not finished yet; returns all run folders. The sweep's folder is this process's own."""
    folder = SweepFolder(args.output)
    folder.check(configs, extend=args.extend or args.search.search_k is not None)
    folder.write(configs, command)
    jobs = [folder.job(config, args.track, args.checkpoint_every) for config in configs]
    launch(jobs, args.launch, folder.path, args.output.name)
    return [job.folder for job in jobs]


def sweep(args: Args) -> list[Path]:
    """Train what is not finished yet; returns all run folders, seed by seed.

    Raises:
        ValueError: a name that does not exist, a number out of range, a folder of another sweep, no Ray, no Slurm.
        BusyError: another sweep is at work in this folder.
        FailedError: trainings failed; the others were run.
    """
    configs = configs_of(args)
    check(args.launch)
    if args.search.search_k is not None:
        check_search(args.search, configs)
    command = command_line("experiments.sweep")
    searched = args.search.search_k is not None
    if not searched and args.search != Search():
        raise ValueError(
            f"trials={args.search.trials} and search_episodes={args.search.search_episodes} are of a search, and there "
            "is none. Pass --search-k LEAST LARGEST, or leave them out."
        )
    if searched and args.launch.launcher == "slurm":
        raise ValueError("a search waits for each K; launcher='slurm' submits and leaves. Use local or ray.")
    if not searched:
        SweepFolder(args.output).check(configs, extend=args.extend)  # before anything is written
    with exclusive(args.output, args.output / ".sweep" / "lock"):
        if searched:
            return search(args.search, configs, args.output, lambda some: train_all(args, some, command))
        return train_all(args, configs, command)


def arguments() -> Args:
    """The command line, on top of the YAML file that it names, wherever it stands there."""
    args = parse(Args, __doc__)
    if args.config is None:
        return args
    default = read_options(args.config, Args, launch="launch", search="search")
    default.config = args.config
    return parse(Args, __doc__, default=default)


def exit_status(work: Callable[[], object]) -> int:
    """Of a command that trains through launchers: 1 where trainings failed, 130 where it was interrupted."""
    with fail():
        try:
            work()
        except FailedError as error:
            print(error, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("Interrupted. The same command keeps the finished runs and goes on with the others.")
            return 130
    return 0


def main() -> int:
    """Command line."""
    return exit_status(lambda: sweep(arguments()))


if __name__ == "__main__":
    sys.exit(main())
