"""Compare soft regularisers with the hard bound: weights chosen by one rule, then one table over many seeds.

    python -m experiments.regularizers --task pendulum --seeds 10 --output runs/regularizers

1. Trials: every method with its weights times 0.1, 0.3, 1, 3, 10, on training seeds that are in no table
   (OUTPUT/trials). The scale is chosen by ``agents.regularized.chosen_scale`` and kept in OUTPUT/TASK-scales.json.
2. Trainings: every agent with the scale of its method, seed by seed (OUTPUT/AGENT-TASK-SEED). Agents that combine a
   method with a bound take the scale that the method has alone; window students are distilled from the plain agents.
3. The table of ``experiments.baselines``.

What is there already is not made again, and trainings that were cut off go on from their checkpoints: the command may
be interrupted and called again.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from agents import get_agent
from agents.regularized import PPO_METHODS, SAC_METHODS, TRIALS, chosen_scale
from envs import Task, get_task
from experiments import baselines
from experiments._conditions import Conditions, Episodes, kept, of_run
from experiments._console import command_line, fail, parse
from experiments._memory_agents import STUDIES, student
from experiments._parallel import module_command, run_all
from experiments.train import is_finished
from lipsrl._files import write_text
from lipsrl._validation import lookup, positive_int
from lipsrl.certificates import certify
from lipsrl.disturbances import GaussianNoise
from lipsrl.evaluation import evaluate
from lipsrl.tracking import RunFolder
from lipsrl.tracking.config import versions

METHODS = {
    "ppo": tuple(f"ppo-{key}" for key in PPO_METHODS),
    "sac": tuple(f"sac-{key}" for key in SAC_METHODS),
}

#: Family → what stands beside the methods: the bound, both, a moving bound, what has no certificate.
BESIDE = {
    "ppo": ("ppo-sandwich", "ppo-sandwich-caps", "ppo-sandwich-cats", "ppo-sandwich-lcp", "ppo-sandwich-ramp",
            "ppo-lipsnet", "ppo-lipsnet-plus", "ppo-fir-sandwich"),
    "sac": ("sac-silu", "sac-sandwich", "sac-sandwich-caps", "sac-lipsnet"),
}  # fmt: skip

#: The certified student of the plain agent (`experiments.memory`).
WINDOW = "window"


@dataclass
class Args:
    """Choose weights by one rule, train all agents over many seeds, print their table."""

    task: str = "pendulum"
    """Name of the task (see envs/)."""
    family: str = "ppo"
    """Algorithm: ppo or sac."""
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
    """Folder for all results."""
    jobs: int = 2
    """Number of trainings that run at the same time, one thread each."""


def finished(folder: RunFolder, scale: float, timesteps: int | None) -> bool:
    """Whether a training is there.

    Raises:
        ValueError: it is, with another scale or of another length.
    """
    if not is_finished(folder):
        return False
    config = folder.read_config()
    recipe, task = get_agent(config["agent"]), get_task(config["task"])
    wanted = json.loads(json.dumps(recipe.methods(task.name, scale)))
    given = config["hyperparameters"]["policy_kwargs"].get("regularizers", [])
    length = timesteps or recipe.for_task(task.name).timesteps
    if wanted != given or config["timesteps"] != length:
        raise ValueError(
            f"{folder.path} is finished with regularizers={given} and timesteps={config['timesteps']}, not "
            f"{wanted} and {length}. Give another --output, or remove it."
        )
    return True


def train_all(args: Args, wanted: dict[Path, tuple[str, int, float]]) -> None:
    """Train what is not there: folder → (agent, seed, scale of the weights).

    Raises:
        RuntimeError: a training failed; the others were run.
    """
    commands = []
    for path, (agent, seed, scale) in wanted.items():
        if finished(RunFolder(path), scale, args.timesteps):
            continue
        options: list[object] = ["--agent", agent, "--task", args.task, "--seed", seed, "--output", path]
        options += ["--regularizer-scale", scale] if scale != 1.0 else []
        options += ["--timesteps", args.timesteps] if args.timesteps is not None else []
        options += ["--track", "disabled", "--no-progress", "--resume"]
        commands.append(module_command("experiments.train", *options))
    failures = run_all(commands, args.jobs)
    if failures:
        raise RuntimeError(
            "Trainings that failed:\n" + "\n".join(f"  [{f.status}] {f.command}" for f in failures)
        )


def judged(path: Path, task: Task, episodes: int) -> tuple[float, float]:
    """Clean return and mean |Δa| at the task's chatter strength of a trial."""

    def play() -> pd.DataFrame:
        model, statistics = RunFolder(path).load()
        frame = evaluate(
            model,
            task.make,
            disturbances=GaussianNoise(1.0),
            strengths=(0.0, task.chatter_strength),
            n_episodes=episodes,
            seed=1_000_000,  # not the table's episodes
            vec_normalize=statistics,
        ).frame
        return frame.groupby("strength")[["return", "action_fluctuation"]].mean().reset_index()

    means = kept(path / "trial.json", Episodes(episodes, 1_000_000), play)
    means = means.set_index("strength")
    return float(means.loc[0.0, "return"]), float(means.loc[task.chatter_strength, "action_fluctuation"])


def scales(args: Args, methods: tuple[str, ...]) -> dict[str, float]:
    """Train and judge the trials, and choose; the choice and what it was made by is in OUTPUT/TASK-scales.json."""
    task, folder = get_task(args.task), args.output / "trials"
    plain = {seed: folder / f"{args.family}-{task.name}-{seed}" for seed in args.trial_seeds}
    trials = {
        (method, scale, seed): folder / f"{method}-{task.name}-{scale:g}-{seed}"
        for seed in args.trial_seeds
        for method in methods
        for scale in TRIALS
    }
    train_all(
        args,
        {path: (args.family, seed, 1.0) for seed, path in plain.items()}
        | {path: (method, seed, scale) for (method, scale, seed), path in trials.items()},
    )

    def over_seeds(paths: list[Path]) -> tuple[float, float]:
        found = [judged(path, task, args.episodes) for path in paths]
        clean, chatter = (sum(column) / len(found) for column in zip(*found, strict=True))
        return clean, chatter

    stock = over_seeds(list(plain.values()))
    chosen, record = {}, {args.family: {"1": stock}}
    for method in methods:
        found = {scale: over_seeds([trials[method, scale, s] for s in args.trial_seeds]) for scale in TRIALS}
        chosen[method] = chosen_scale(found, stock[0], task.floor)
        record[method] = {f"{scale:g}": means for scale, means in found.items()}
    columns = ["clean return", f"mean |Δa| at σ={task.chatter_strength:g}"]
    said = {"trial_seeds": args.trial_seeds, "columns": columns, "trials": record, "chosen": chosen}
    write_text(args.output / f"{task.name}-{args.family}-scales.json", json.dumps(said, indent=1) + "\n")
    return chosen


def scale_of(agent: str, chosen: dict[str, float]) -> float:
    """The scale of an agent's method; agents with a bound take that of the method alone."""
    return chosen.get(agent.replace("-sandwich", ""), 1.0)


def distil(args: Args, seed: int) -> None:
    """The window student of a plain agent."""
    folder = RunFolder(args.output / f"{WINDOW}-{args.task}-{seed}")
    if folder.config_file.is_file():
        return
    torch.set_num_threads(1)
    task, begun = get_task(args.task), time.perf_counter()
    teacher = RunFolder.open(args.output / f"{args.family}-{args.task}-{seed}")
    model = student(*teacher.load(), task, STUDIES[args.task], WINDOW, seed)
    seconds = round(time.perf_counter() - begun, 1)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.save_model(model)
    certify(model).save(folder.certificate_file)
    config: dict[str, Any] = {
        "agent": f"{WINDOW} of {args.family}", "task": task.name, "env_id": task.env_id, "seed": seed,
        "algorithm": type(model).__name__, "vec_normalize": model.get_vec_normalize_env() is not None,
        "frame_stack": getattr(model, "frame_stack", 1), "train_seconds": seconds,
        "command": command_line("experiments.regularizers"), "versions": versions(),
    }  # fmt: skip
    folder.write_config(config)


def measure(args: Args, path: Path) -> None:
    """Play one run under every condition, if it was not."""
    torch.set_num_threads(1)
    of_run(RunFolder.open(path), get_task(args.task), Episodes(args.episodes))


def study(args: Args) -> None:
    """Trials, trainings, measurements, table.

    Raises:
        ValueError: a family, task or agent that does not exist, no trials, no radii of attacks for the task, or
            folders of another study.
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
    trained = [args.family, *methods, *(agent for agent in beside if agent != WINDOW)]
    for agent in trained:
        get_agent(agent).for_task(task.name)
    chosen = scales(args, methods)
    seeds = range(args.seeds)
    folders = {
        (agent, seed): args.output / f"{agent}-{task.name}-{seed}" for seed in seeds for agent in trained
    }
    train_all(args, {p: (agent, seed, scale_of(agent, chosen)) for (agent, seed), p in folders.items()})
    paths = [folders[agent, seed] for agent in trained for seed in seeds]
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool:
        if WINDOW in beside:
            list(pool.map(distil, [args] * args.seeds, seeds))
            paths += [args.output / f"{WINDOW}-{task.name}-{seed}" for seed in seeds]
        list(pool.map(measure, [args] * len(paths), paths))
    print(baselines.of_runs(paths, baselines.Args(paths, args.episodes)))


def main() -> None:
    """Command line."""
    args = parse(Args, __doc__)
    torch.set_num_threads(1)
    with fail():
        study(args)


if __name__ == "__main__":
    main()
