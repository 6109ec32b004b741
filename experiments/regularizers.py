"""Compare soft regularisers with the hard bound: weights chosen by one rule, then one table over many seeds.

    python -m experiments.regularizers --task pendulum --seeds 10 --output runs/regularizers

1. Trials: every method with its weights times 0.1, 0.3, 1, 3, 10, on training seeds that are in no table
   (OUTPUT/trials). ``agents.regularized.chosen_scale`` chooses the scale; it is kept in OUTPUT/TASK-FAMILY-scales.json.
2. Trainings: every agent with the scale of its method, seed by seed (OUTPUT/AGENT-TASK-SEED). Agents that combine a
   method with a bound take the scale that the method has alone; window students are distilled from the plain agents.
3. The table of ``experiments.baselines``, of OUTPUT/TASK-FAMILY.csv.

What is there already is not made again, and trainings that were cut off go on from their checkpoints: the command may
be interrupted and called again. The choice and the rows of the table are two small files in --results, that go on
where the run folders were lost: runs in them are not made again.
"""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from agents import get_agent
from agents.regularized import PPO_METHODS, SAC_METHODS, VALUE_METHODS
from envs import get_task
from experiments import baselines
from experiments._conditions import FILTERED, Conditions, Episodes
from experiments._console import command_line, fail, parse
from experiments._locks import exclusive
from experiments._memory_agents import STUDIES, lesson, student
from experiments._memory_checks import check_lesson
from experiments._rows import Rows, rows_of
from experiments._stored import check_source
from experiments._trials import Trainings, method_of, scale_of, scales
from lipsrl._validation import lookup, positive_int
from lipsrl.certificates import certify
from lipsrl.evaluation import model_fingerprint
from lipsrl.tracking import RunFolder
from lipsrl.tracking.config import versions

METHODS = {
    "ppo": tuple(f"ppo-{key}" for key in PPO_METHODS),
    "sac": tuple(f"sac-{key}" for key in SAC_METHODS),
    "td3": tuple(f"td3-{key}" for key in VALUE_METHODS),
    "tqc": tuple(f"tqc-{key}" for key in VALUE_METHODS),
}

#: Family → what stands beside the methods: the bound, both, a moving bound, what has no certificate.
BESIDE = {
    "ppo": ("ppo-sandwich", "ppo-sandwich-caps", "ppo-sandwich-cats", "ppo-sandwich-lcp", "ppo-sandwich-ramp",
            "ppo-lipsnet", "ppo-lipsnet-plus", "ppo-fir-sandwich"),
    "sac": ("sac-silu", "sac-sandwich", "sac-sandwich-caps", "sac-lipsnet"),
    "td3": ("td3-sandwich", "td3-orthogonal"),
    "tqc": ("tqc-sandwich", "tqc-orthogonal"),
}  # fmt: skip

#: The certified student of the plain agent (`experiments.memory`).
WINDOW = "window"


@dataclass
class Args:
    """Choose weights by one rule, train all agents over many seeds, print their table."""

    task: str = "pendulum"
    """Name of the task (see envs/)."""
    family: str = "ppo"
    """Algorithm: ppo, sac, td3 or tqc."""
    methods: list[str] | None = None
    """Regularised agents such as ppo-caps. Default: all of the family."""
    beside: list[str] | None = None
    """Other agents in the table. Default: the family's own list and the window student."""
    seeds: int = 10
    """Training seeds of the table, from 0."""
    trial_seeds: list[int] = field(default_factory=lambda: [100])
    """Training seeds of the trials."""
    timesteps: int | None = None
    """Environment steps of each training. Default: the agent's own number."""
    episodes: int = 50
    """Episodes per run and condition of the table. Trials use the same number."""
    output: Path = Path("runs/regularizers")
    """Folder for the run folders."""
    results: Path | None = None
    """Folder for the choice of weights and the rows of the table. Default: OUTPUT."""
    jobs: int = 2
    """Number of trainings that run at the same time, one thread each."""


def distil(args: Args, seed: int) -> None:
    """The window student of a plain agent."""
    folder = RunFolder(args.output / f"{WINDOW}-{args.task}-{seed}")
    teacher = RunFolder.open(args.output / f"{args.family}-{args.task}-{seed}")
    if folder.config_file.is_file():
        check_lesson(folder, lesson(STUDIES[args.task], WINDOW))
        check_source(folder, teacher)
        return
    torch.set_num_threads(1)
    task, begun = get_task(args.task), time.perf_counter()
    source, statistics = teacher.load()
    model = student(source, statistics, task, STUDIES[args.task], WINDOW, seed)
    seconds = round(time.perf_counter() - begun, 1)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.save_model(model)
    certify(model).save(folder.certificate_file)
    config: dict[str, Any] = {
        "agent": f"{WINDOW} of {args.family}", "task": task.name, "env_id": task.env_id, "seed": seed,
        "algorithm": type(model).__name__, "vec_normalize": model.get_vec_normalize_env() is not None,
        "frame_stack": getattr(model, "frame_stack", 1), "train_seconds": seconds,
        "command": command_line("experiments.regularizers"), "versions": versions(),
        "lesson": lesson(STUDIES[args.task], WINDOW), "made_of": model_fingerprint(source, statistics),
    }  # fmt: skip
    folder.write_config(config)


def measure(args: Args, agent: str, seed: int) -> pd.DataFrame:
    """Rows of one run, made before; a window student is made now."""
    torch.set_num_threads(1)
    if agent == WINDOW:
        distil(args, seed)
    smoothing = baselines.Args.smoothing if agent == args.family else None
    folder = RunFolder.open(args.output / f"{agent}-{args.task}-{seed}")
    return rows_of(folder, get_task(args.task), Episodes(args.episodes), smoothing)


def label(agent: str, family: str) -> str:
    """The name in the table."""
    return f"{WINDOW} of {family}" if agent == WINDOW else agent


def one_seed(
    args: Args, agents: list[str], trainings: Trainings, chosen: dict[str, float], seed: int
) -> None:
    """Train and measure the agents of one seed, and add their rows to the table."""
    needed = [agent for agent in agents if agent != WINDOW]
    if WINDOW in agents and args.family not in needed:
        needed.append(args.family)  # its teacher
    places = {agent: args.output / f"{agent}-{args.task}-{seed}" for agent in needed}
    trainings.run({places[agent]: (agent, seed, scale_of(agent, chosen)) for agent in needed})
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool:
        rows = list(pool.map(measure, *zip(*((args, agent, seed) for agent in agents), strict=True)))
    rows_file(args).add(pd.concat(rows))
    print(f"{args.task} {seed}: {len(agents)} agents in {rows_file(args).file}", flush=True)


def rows_file(args: Args) -> Rows:
    """The table's file."""
    return Rows((args.results or args.output) / f"{args.task}-{args.family}.csv")


def study(args: Args) -> None:
    """Trials, trainings, measurements, table.

    Raises:
        ValueError: a family, task or agent that does not exist, no trials, or trials with seeds of the table, no radii
            of attacks for the task, or folders or files of another study.
        BusyError: another process writes this table.
    """
    lookup("family", args.family, METHODS)
    task = get_task(args.task)
    positive_int("seeds", args.seeds)
    positive_int("jobs", args.jobs)
    if not args.trial_seeds:
        raise ValueError("--trial-seeds needs at least one training seed, by which the weights are chosen.")
    Conditions.of(task)  # before hours of training
    methods = METHODS[args.family] if args.methods is None else tuple(args.methods)
    for method in methods:
        lookup("methods", method, dict.fromkeys(METHODS[args.family]))
    beside = (*BESIDE[args.family], WINDOW) if args.beside is None else tuple(args.beside)
    agents = list(dict.fromkeys([args.family, *methods, *beside]))
    for agent in agents:
        if agent != WINDOW:
            get_agent(agent).for_task(task.name)
    if args.timesteps is not None:
        positive_int("timesteps", args.timesteps)
    both = sorted({seed for seed in args.trial_seeds if 0 <= seed < args.seeds})
    if both:
        raise ValueError(
            f"--trial-seeds {' '.join(map(str, both))} are seeds of the table (0 to {args.seeds - 1}): weights "
            "would be chosen by the agents that they are judged by. Give others, such as 100."
        )
    trainings, table = Trainings(task, args.timesteps, args.jobs), rows_file(args)
    with exclusive(table.file):
        run_study(args, agents, trainings, table)
    print(baselines.table(in_order(table.read(), agents, args), task))


def run_study(args: Args, agents: list[str], trainings: Trainings, table: Rows) -> None:
    """What is missing of the trials, the trainings and the rows."""
    table.check(args.episodes, {agent: trainings.length(agent) for agent in agents if agent != WINDOW})
    # agents with a bound take the scale of the method alone, whether that is in the table or not
    methods = [m for m in dict.fromkeys(map(method_of, agents)) if m in METHODS[args.family]]
    choice = table.file.with_name(f"{trainings.task.name}-{args.family}-scales.json")
    measured = {method_of(agent) for agent, _ in table.runs()} & set(METHODS[args.family])
    chosen = scales(
        trainings,
        args.family,
        methods,
        args.trial_seeds,
        args.episodes,
        args.output / "trials",
        choice,
        measured,
    )
    for seed in range(args.seeds):
        have = table.runs()
        missing = [agent for agent in agents if (label(agent, args.family), seed) not in have]
        if missing:
            one_seed(args, missing, trainings, chosen, seed)


def in_order(rows: pd.DataFrame, agents: list[str], args: Args) -> pd.DataFrame:
    """The rows of the agents and seeds that were asked for, the plain agent first."""
    names = {label(agent, args.family): place for place, agent in enumerate(agents)}
    places = rows["agent"].str.removesuffix(FILTERED).map(names)
    found = rows.assign(place=places)[places.notna() & (rows["seed"] < args.seeds)]
    return found.sort_values(["place", "seed"], kind="stable").drop(columns="place")


def main() -> None:
    """Command line."""
    args = parse(Args, __doc__)
    torch.set_num_threads(1)
    with fail():
        study(args)


if __name__ == "__main__":
    main()
