"""Memory against noise, faults and attacks: how much a short window of observations helps a certified agent.

    python -m experiments.memory --task pendulum --seeds 0 1 2 --output runs/memory

For every seed a stock teacher is trained (``experiments.train``), or found in ``OUTPUT/TASK-SEED/teacher``. Then the
other agents are made, and all are evaluated under white noise, correlated noise, a constant bias, dropout with delay,
and the worst of several attacks. Existing results are not made again, so you may interrupt the command and call it
again. At the end it prints the tables of docs/memory.md. The settings in ``STUDIES`` were chosen on teachers of
seed 100, which are in no table.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

import lipsrl
from agents import get_agent
from envs import Task, get_task
from experiments._checkpoint import Unfinished
from experiments._console import command_line, fail, parse
from experiments._filters import ConstantVelocity, Smoothed
from experiments._memory_agents import (
    AGENTS,
    ALONE,
    ATTACKED,
    FILTERED,
    FINE_TUNED,
    LEARNERS,
    SMOOTHING,
    STUDIES,
    TRUST,
    Study,
    fine_tuned,
    lesson,
    student,
    trained_recipe,
)
from experiments._memory_checks import check_lesson, check_training
from experiments._memory_tables import tables
from experiments._parallel import module_command, run_all
from experiments._stored import check_source, holds, of_model
from lipsrl._validation import lookup, positive_int
from lipsrl.attacks import ConstantBiasAttack, MADAttack, MinimumOverAttacks, RandomAttack, RobustSarsaAttack
from lipsrl.disturbances import AutoregressiveNoise, Bias, Compose, Delay, Dropout, GaussianNoise
from lipsrl.evaluation import Evaluation, model_fingerprint
from lipsrl.tracking import RunFolder
from lipsrl.tracking.config import versions


@dataclass
class Args:
    """Make agents with and without memory from stock teachers, and evaluate them in the same episodes."""

    task: str = "pendulum"
    """Name of the task (see envs/)."""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    """Training seeds of the teachers."""
    teacher: str = "ppo"
    """Name of the teachers' agent (see agents/)."""
    agents: list[str] = field(default_factory=lambda: list(AGENTS))
    """Which agents: teacher, smoothed, filtered, scratch, regularised, noise-trained, stacked, recurrent, memoryless,
    window, window-free, window-attacked, fine-tuned, window-dropout."""
    output: Path = Path("runs/memory")
    """OUTPUT/TASK-SEED/AGENT are run folders with the evaluations in them."""
    jobs: int = 2
    """Number of seeds that run at the same time."""
    only: bool = False
    """Train and evaluate, but do not print the tables."""


def place(args: Args, seed: int, agent: str) -> RunFolder:
    """The run folder of one agent."""
    teacher = "" if args.teacher == "ppo" else f"{args.teacher}-"
    return RunFolder(args.output / f"{teacher}{args.task}-{seed}" / agent)


def training(args: Args, seed: int, agent: str) -> list[object] | None:
    """Options of `experiments.train` for an agent that it trains; ``None`` for others."""
    recipe = trained_recipe(agent, args.teacher, args.task)
    if recipe is None:
        return None
    steps = STUDIES[args.task].timesteps
    options = [
        "--task",
        args.task,
        "--seed",
        seed,
        "--output",
        place(args, seed, agent).path,
        "--agent",
        *recipe,
    ]
    return [*options, *([] if steps is None else ["--timesteps", steps]), "--track", "disabled", "--resume"]


def source_of(agent: str) -> str:
    """The agent whose student another is."""
    return ATTACKED if agent == FINE_TUNED else "teacher"


def make(args: Args, seed: int, agent: str) -> None:
    """Leave the run folder of one agent behind."""
    folder = place(args, seed, agent)
    if agent in FILTERED:
        return
    cut_off = Unfinished(folder.path).settings() is not None  # of a training that goes on
    options = training(args, seed, agent)
    if folder.config_file.is_file() and not cut_off:
        if options is not None:
            check_training(folder, options)
            return
        check_lesson(folder, lesson(STUDIES[args.task], agent))
        if agent not in LEARNERS:
            for each in (ATTACKED, FINE_TUNED) if agent == FINE_TUNED else (agent,):
                check_source(place(args, seed, each), place(args, seed, source_of(each)))
        return
    if options is not None:
        failures = run_all([module_command("experiments.train", *options)], 1)
        if failures:
            raise ValueError(f"training failed: {failures[0].command}")
        return
    begun = time.perf_counter()
    task, study = get_task(args.task), STUDIES[args.task]
    statistics, made_of = None, {}
    if agent in LEARNERS:
        model = LEARNERS[agent](get_agent(args.teacher), task, study, seed)
    else:
        if agent == FINE_TUNED:
            make(args, seed, ATTACKED)
        source, statistics = place(args, seed, source_of(agent)).load()
        made_of["made_of"] = model_fingerprint(source, statistics)
        if agent == FINE_TUNED:
            model = fine_tuned(source, statistics, task, study, seed)
        else:
            model, statistics = student(source, statistics, task, study, agent, seed), None
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.save_model(model, statistics)
    folder.write_config(
        {
            "task": args.task, "env_id": task.env_id, "seed": seed, "agent": agent,
            "algorithm": type(model).__name__, "vec_normalize": folder.normalization_file.is_file(),
            "frame_stack": getattr(model, "frame_stack", 1), "seconds": round(time.perf_counter() - begun, 1),
            "command": command_line("experiments.memory"), "versions": versions(),
            "lesson": lesson(study, agent), **made_of,
        }
    )  # fmt: skip


def contestant(args: Args, seed: int, agent: str) -> tuple[Any, VecNormalize | None]:
    """What is evaluated: a model with its normalisation, or a filter around the exported teacher."""
    if agent not in FILTERED:
        return place(args, seed, agent).load()
    folder = place(args, seed, "teacher")
    model, statistics = folder.load()
    policy = lipsrl.load_policy(
        lipsrl.export(model, folder.path / "policy.safetensors", vec_normalize=statistics)
    )
    of = model_fingerprint(model, statistics)
    return (
        Smoothed(policy, SMOOTHING, of) if agent == "smoothed" else ConstantVelocity(policy, TRUST, of)
    ), None


def families(task: Task, study: Study) -> dict[str, tuple[Any, tuple[float, ...]]]:
    """File name → disturbances and their strengths."""
    noise = {"white": GaussianNoise(1.0), "ar1": AutoregressiveNoise(1.0, 0.9), "bias": Bias(1.0)}
    faults = {"dropout and delay": Compose([Dropout(0.2), Delay(1)])}
    attacks = MinimumOverAttacks(
        [RandomAttack(None, 1.0), MADAttack(None, 1.0), ConstantBiasAttack(None, 1.0, env=task.make),
         RobustSarsaAttack(None, 1.0, env=task.make)]
    )  # fmt: skip
    return {
        "noise": (noise, task.strengths),
        "faults": (faults, (1.0,)),
        "attacks": (attacks, study.epsilons),
    }


def measure(args: Args, seed: int, agent: str) -> None:
    """Evaluate one agent, family by family, and certify it."""
    study, task, folder = STUDIES[args.task], get_task(args.task), place(args, seed, agent)
    folder.path.mkdir(parents=True, exist_ok=True)
    model, statistics = contestant(args, seed, agent)
    feedforward = (
        isinstance(model, BaseAlgorithm) and agent != "recurrent"
    )  # what can be attacked and certified
    for name, (disturbances, strengths) in families(task, study).items():
        file = folder.path / f"{name}.parquet"
        if name == "attacks" and not feedforward:
            continue
        if file.is_file():
            stored = Evaluation.load(file)
            named = disturbances if isinstance(disturbances, Mapping) else {disturbances.name: disturbances}
            same = holds(stored.metadata, task, named, strengths, study.episodes, 0)
            # filters had no fingerprint until 2026-12: it cannot be told of which teacher those evaluations are
            told = agent not in FILTERED or None not in stored.fingerprints.values()
            if same and told and of_model(stored, model_fingerprint(model, statistics)):
                continue
            print(f"{file}: of other settings or another model; measured again", flush=True)
            folder.certificate_file.unlink(missing_ok=True)  # of the same model as that evaluation
        evaluation = lipsrl.evaluate(
            {(agent, seed): model}, task.make, disturbances=disturbances, strengths=strengths,
            n_episodes=study.episodes, seed=0, vec_normalize=statistics, floor=task.floor,
        )  # fmt: skip
        evaluation.save(file)
    if feedforward and not folder.certificate_file.is_file():
        lipsrl.certify(model, vec_normalize=statistics).save(folder.certificate_file)


def one_seed(args: Args, seed: int) -> None:
    """Everything of one seed that is missing."""
    first = [] if set(args.agents) <= set(ALONE) else ["teacher"]
    for agent in dict.fromkeys([*first, *args.agents]):
        make(args, seed, agent)
        if agent in args.agents:
            measure(args, seed, agent)
            print(f"{args.task} {seed}: {agent}", flush=True)


def study(args: Args) -> None:
    """Make and measure what is missing, ``jobs`` seeds at a time; then print the tables."""
    lookup("task", args.task, STUDIES)
    get_agent(args.teacher).for_task(args.task)
    if not args.seeds or not args.agents:
        raise ValueError(f"expected seeds and agents, received seeds={args.seeds} and agents={args.agents}.")
    for agent in args.agents:
        lookup("agents", agent, AGENTS)
        recipe = trained_recipe(agent, args.teacher, args.task)  # before a teacher is trained for hours
        if recipe is not None:
            get_agent(recipe[0]).for_task(args.task)
    positive_int("jobs", args.jobs)
    if len(set(args.seeds)) < len(args.seeds):
        raise ValueError(
            f"seeds must differ, received {args.seeds}: a training that counts twice is no second one."
        )
    if args.jobs == 1 or len(args.seeds) == 1:
        for seed in args.seeds:
            one_seed(args, seed)
    else:
        common = [
            "--task", args.task, "--teacher", args.teacher, "--output", args.output, "--agents", *args.agents
        ]  # fmt: skip
        commands = [
            module_command("experiments.memory", *common, "--seeds", seed, "--only") for seed in args.seeds
        ]
        failures = run_all(commands, args.jobs)
        if failures:
            raise ValueError("failed: " + "; ".join(f"[{f.status}] {f.command}" for f in failures))
    if not args.only:
        folders = {agent: [place(args, seed, agent) for seed in args.seeds] for agent in args.agents}
        print(tables(get_task(args.task), folders))


def main() -> None:
    """Command line."""
    args = parse(Args, __doc__)
    torch.set_num_threads(1)
    with fail():
        study(args)


if __name__ == "__main__":
    main()
