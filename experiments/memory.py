"""Memory against noise, faults and attacks: what a short window buys a certified agent.

    python -m experiments.memory --task pendulum --seeds 0 1 2 --output runs/memory

For every seed a stock teacher is trained (``experiments.train``), or found in ``OUTPUT/TASK-SEED/teacher``; then the
agents beside it are made and all are evaluated: white noise, noise with a memory, a constant bias, dropout with delay,
and the worst of several attacks. What is there already is not made again, so the command may be interrupted and
called again. At the end the tables of docs/memory.md. The settings in ``STUDIES`` were chosen on teachers of
seed 100, which are in no table.
"""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

import lipsrl
from agents import get_agent
from envs import Task, get_task
from experiments._console import command_line, fail, parse, versions
from experiments._filters import ConstantVelocity, Smoothed
from experiments._memory_tables import tables
from experiments._parallel import module_command, run_all
from lipsrl._validation import lookup, positive_int
from lipsrl.attacks import ConstantBiasAttack, MADAttack, MinimumOverAttacks, RandomAttack, RobustSarsaAttack
from lipsrl.disturbances import (
    AutoregressiveNoise,
    Bias,
    Compose,
    Delay,
    Disturbance,
    Dropout,
    GaussianNoise,
    Mixture,
    sensor_std,
)
from lipsrl.tracking import RunFolder
from lipsrl.wrappers import VecObservationDisturbance


@dataclass(frozen=True)
class Study:
    """What the agents of one task are made and measured with.

    Attributes:
        bound: K of the window students, of the whole window, in units of what the policy receives.
        memoryless_bound: K of the student that sees one observation.
        noise: greatest standard deviation of the white noise that students are shown, raw units.
        shown_epsilon: greatest displacement by bias and by attack that they are shown, in units of the policy.
        epsilons: of the attacks that all are measured under, l-inf, in those units.
        rounds, steps: of the distillation; steps of the student that learns under attack.
        episodes: per agent, disturbance and strength.
    """

    bound: float
    memoryless_bound: float
    noise: float
    shown_epsilon: float
    epsilons: tuple[float, ...]
    rounds: int = 12
    steps: int = 24_000
    episodes: int = 100


STUDIES = {
    "pendulum": Study(12.0, 6.0, 0.3, 0.25, (0.1, 0.2, 0.3)),
    "inverted-double-pendulum": Study(6.0, 3.0, 0.1, 0.05, (0.02, 0.05)),
    "reacher": Study(0.6, 0.4, 0.05, 0.05, (0.05, 0.1)),
    "hopper": Study(4.0, 3.0, 0.1, 0.075, (0.05, 0.075, 0.1), episodes=50),
}
#: Observations in a window.
HISTORY = 8
#: Share of the action before in the smoother, and of the measurement in the filter.
SMOOTHING, TRUST = 0.4, 0.5

ATTACKED = "window-attacked"
#: name → what it is
AGENTS = {
    "teacher": "the stock agent",
    "smoothed": "the teacher, its actions averaged (EMA)",
    "filtered": "the teacher behind a constant-velocity filter of each sensor",
    "scratch": "the teacher's Sandwich twin, trained under a bound from scratch",
    "stacked": "PPO behind VecFrameStack, trained in the white noise from scratch",
    "memoryless": "student of one observation",
    "window": "student of a window",
    "window-free": "student of a window without a bound",
    ATTACKED: "student of a window that was shown noise, biases and attacks",
}


@dataclass
class Args:
    """Make agents with and without memory from stock teachers, and measure them in the same episodes."""

    task: str = "pendulum"
    """Name of the task (see envs/)."""
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    """Of the teachers' trainings."""
    teacher: str = "ppo"
    """Recipe of the teachers (see agents/)."""
    agents: list[str] = field(default_factory=lambda: list(AGENTS))
    """Which agents: teacher, smoothed, filtered, scratch, stacked, memoryless, window, window-free,
    window-attacked."""
    output: Path = Path("runs/memory")
    """OUTPUT/TASK-SEED/AGENT are run folders with the evaluations in them."""
    jobs: int = 2
    """Seeds at a time."""
    only: bool = False
    """Make and measure, and print no table."""


def place(args: Args, seed: int, agent: str) -> RunFolder:
    """The run folder of one agent."""
    teacher = "" if args.teacher == "ppo" else f"{args.teacher}-"
    return RunFolder(args.output / f"{teacher}{args.task}-{seed}" / agent)


def shown(study: Study, statistics: VecNormalize | None, *, attacked: bool) -> Disturbance:
    """What students learn in: white noise; or that in two episodes of five, attacks in two, a bias in one."""
    white = GaussianNoise(study.noise)
    if not attacked:
        return white
    bias = Bias(study.shown_epsilon)
    if statistics is not None:
        bias = bias.scale_by_std(sensor_std(statistics))
    return Mixture([white, bias, MADAttack(None, study.shown_epsilon)], weights=[2, 1, 2])


def distilled(args: Args, seed: int, agent: str) -> BaseAlgorithm:
    """A student of the teacher of ``seed``."""
    study, task = STUDIES[args.task], get_task(args.task)
    model, statistics = place(args, seed, "teacher").load()
    bounds = {"memoryless": study.memoryless_bound, "window-free": math.inf}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        student = lipsrl.distill(
            model, task.make, lipschitz_bound=bounds.get(agent, study.bound), vec_normalize=statistics, seed=seed,
            history=None if agent == "memoryless" else HISTORY,
            disturbance=shown(study, statistics, attacked=agent == ATTACKED), strength=(0.0, 1.0),
            rounds=study.rounds, steps=study.steps if agent == ATTACKED else None,
        )  # fmt: skip
    if any(issubclass(warning.category, lipsrl.distillation.InterruptedWarning) for warning in said):
        raise KeyboardInterrupt
    return student


def stacked(args: Args, seed: int) -> BaseAlgorithm:
    """What a user would do: the teacher's own recipe behind a frame stack, in noise of random strength."""
    recipe, task, study = get_agent(args.teacher), get_task(args.task), STUDIES[args.task]
    settings = recipe.for_task(task.name)
    venv: Any = DummyVecEnv([lambda: Monitor(task.make())] * settings.n_envs)
    venv = VecObservationDisturbance(venv, GaussianNoise(study.noise), strength=(0.0, 1.0))
    if task.normalize_observation or task.normalize_reward:
        venv = VecNormalize(
            venv, gamma=settings.algorithm.get("gamma", 0.99), norm_obs=task.normalize_observation,
            norm_reward=task.normalize_reward,
        )  # fmt: skip
    model = recipe.build(VecFrameStack(venv, HISTORY), task, seed=seed)
    model.learn(settings.timesteps)
    model.frame_stack = HISTORY  # type: ignore[attr-defined]
    return model


def make(args: Args, seed: int, agent: str) -> None:
    """Leave the run folder of one agent behind."""
    folder = place(args, seed, agent)
    if folder.config_file.is_file() or agent in ("smoothed", "filtered"):
        return
    if agent == "teacher":
        command = module_command(
            "experiments.train", "--agent", args.teacher, "--task", args.task, "--seed", seed
        )
        failures = run_all(
            [[*command, "--output", str(folder.path), "--track", "disabled", "--overwrite"]], 1
        )
        if failures:
            raise ValueError(f"training failed: {failures[0].command}")
        return
    begun = time.perf_counter()
    model = stacked(args, seed) if agent == "stacked" else distilled(args, seed, agent)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.save_model(model)
    folder.write_config(
        {
            "task": args.task, "env_id": get_task(args.task).env_id, "seed": seed, "agent": agent,
            "algorithm": type(model).__name__, "vec_normalize": model.get_vec_normalize_env() is not None,
            "frame_stack": getattr(model, "frame_stack", 1), "seconds": round(time.perf_counter() - begun, 1),
            "command": command_line("experiments.memory"), "versions": versions(),
        }
    )  # fmt: skip


def contestant(args: Args, seed: int, agent: str) -> tuple[Any, VecNormalize | None]:
    """What is evaluated: a model with its normalisation, or a filter around the exported teacher."""
    if agent not in ("smoothed", "filtered"):
        return place(args, seed, agent).load()
    folder = place(args, seed, "teacher")
    model, statistics = folder.load()
    policy = lipsrl.load_policy(
        lipsrl.export(model, folder.path / "policy.safetensors", vec_normalize=statistics)
    )
    return (Smoothed(policy, SMOOTHING) if agent == "smoothed" else ConstantVelocity(policy, TRUST)), None


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
    for name, (disturbances, strengths) in families(task, study).items():
        file = folder.path / f"{name}.parquet"
        if file.is_file() or (name == "attacks" and not isinstance(model, BaseAlgorithm)):
            continue
        evaluation = lipsrl.evaluate(
            {(agent, seed): model}, task.make, disturbances=disturbances, strengths=strengths,
            n_episodes=study.episodes, seed=0, vec_normalize=statistics, floor=task.floor,
        )  # fmt: skip
        evaluation.save(file)
    if isinstance(model, BaseAlgorithm) and not folder.certificate_file.is_file():
        lipsrl.certify(model, vec_normalize=statistics).save(folder.certificate_file)


def one_seed(args: Args, seed: int) -> None:
    """Everything of one seed that is missing."""
    for agent in dict.fromkeys(["teacher", *args.agents]):
        make(args, seed, agent)
        if agent in args.agents:
            measure(args, seed, agent)
            print(f"{args.task} {seed}: {agent}", flush=True)


def study(args: Args) -> None:
    """Make and measure what is missing, ``jobs`` seeds at a time; then print the tables."""
    lookup("task", args.task, STUDIES)
    for agent in args.agents:
        lookup("agents", agent, AGENTS)
    positive_int("jobs", args.jobs)
    if args.jobs == 1 or len(args.seeds) == 1:
        for seed in args.seeds:
            one_seed(args, seed)
    else:
        common = [
            "--task",
            args.task,
            "--teacher",
            args.teacher,
            "--output",
            args.output,
            "--agents",
            *args.agents,
        ]
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
