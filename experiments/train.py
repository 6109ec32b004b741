"""Train one agent on one task and leave a run folder behind.

    python -m experiments.train --agent ppo-sandwich --task pendulum --seed 0

The folder holds config.json, model.zip, vecnormalize.pkl, progress.csv, certificate.json, tensorboard/ and
wandb/ (offline unless asked otherwise). Ctrl-C keeps the model trained so far.
"""

from __future__ import annotations

import datetime
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import CSVOutputFormat, Logger, TensorBoardOutputFormat
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecNormalize

from agents import AGENTS, Recipe, get_agent
from envs import TASKS, Task, get_task
from experiments._console import command_line, fail, parse
from experiments._progress import ProgressCallback
from experiments._signals import keyboard_interrupt_on_terminate, uninterrupted
from experiments._tracking import agent_files
from lipsrl._digits import rounded_up
from lipsrl._validation import positive_int
from lipsrl.actors.frames import attached_frames
from lipsrl.certificates import (
    FeasibilityFloor,
    certify,
    feasibility_floor,
    feasibility_warnings,
    policy_units,
)
from lipsrl.disturbances import GaussianNoise, parse_disturbance
from lipsrl.policies import LipschitzSchedule
from lipsrl.tracking import Mode, RunFolder, SmoothnessCallback, WandbWriter
from lipsrl.tracking.config import git_revision, versions
from lipsrl.tracking.jobs import log_trained
from lipsrl.wrappers import VecObservationDisturbance


@dataclass
class Args:
    """Train one agent on one task; everything it leaves is in one run folder."""

    agent: str = "ppo-sandwich"
    """Name of the recipe (see agents/)."""
    task: str = "pendulum"
    """Name of the task (see envs/)."""
    seed: int = 0
    """Training seed: network, environments and exploration."""
    timesteps: int | None = None
    """Environment steps; the recipe's own number if not given."""
    lipschitz_bound: float | None = None
    """K, if not the recipe's."""
    budget: str | None = None
    """How K is split over the layers (see lipsrl.layers.BUDGETS), if not as the policy does by default."""
    regularizer_scale: float = 1.0
    """Factor on the weights of the agent's soft regularisers (see agents/regularized.py)."""
    output: Path | None = None
    """Run folder; runs/AGENT-TASK-SEED if not given (under a W&B sweep runs/sweeps/SWEEP/AGENT-TASK-SEED-RUN)."""
    overwrite: bool = False
    """Replace a run folder that is there already."""
    track: Mode | None = None
    """Weights & Biases: online, offline (kept in the run folder) or disabled. WANDB_MODE if not given, else offline."""
    project: str | None = None
    """W&B project; WANDB_PROJECT if not given, else lipsrl."""
    progress: bool = True
    """Show a progress bar with the time that remains."""
    threads: int = 1
    """torch threads; one is fastest for small networks."""


def make_training_env(recipe: Recipe, task: Task) -> VecEnv:
    """Environments side by side, monitored, disturbed as the recipe and normalised as the task says."""
    settings = recipe.for_task(task.name)

    def make() -> gym.Env[Any, Any]:
        limit = settings.max_episode_steps
        return Monitor(task.make() if limit is None else TimeLimit(task.make(), limit))

    venv: VecEnv = DummyVecEnv([make] * settings.n_envs)
    if task.name in recipe.disturbance:
        venv = VecObservationDisturbance(venv, parse_disturbance(recipe.disturbance[task.name]))
    if task.normalize_observation or task.normalize_reward:
        venv = VecNormalize(
            venv,
            gamma=settings.algorithm.get("gamma", 0.99),
            norm_obs=task.normalize_observation,
            norm_reward=task.normalize_reward,
        )
    return venv if recipe.frames == 1 else VecFrameStack(venv, recipe.frames)


def make_logger(folder: RunFolder, config: dict[str, Any], args: Args) -> tuple[Logger, WandbWriter]:
    """CSV, TensorBoard and W&B behind SB3's logger."""
    wandb_writer = WandbWriter(
        folder.path,
        config,
        name=folder.path.name,
        group=f"{args.task}/{args.agent}",
        job_type="train",
        mode=args.track,
        project=args.project,
    )
    outputs = [
        CSVOutputFormat(str(folder.path / "progress.csv")),
        TensorBoardOutputFormat(str(folder.path / "tensorboard")),
        wandb_writer,
    ]
    return Logger(folder=str(folder.path), output_formats=outputs), wandb_writer


def floor_of(task: Task) -> FeasibilityFloor | None:
    """What a policy needs to hold the task's equilibrium, in raw units; ``None`` if the task names none."""
    if task.equilibrium is None:
        return None
    env = task.make()
    env.reset(seed=0)
    try:
        return feasibility_floor(env, *task.equilibrium)
    finally:
        env.close()


def live_smoothness(recipe: Recipe, task: Task, floor: FeasibilityFloor | None) -> SmoothnessCallback:
    """What is watched while an agent learns: its slope, and a few clean and noisy episodes."""
    return SmoothnessCallback(
        feasibility=floor,
        eval_env=task.make,
        disturbance=GaussianNoise(task.chatter_strength),
        max_episode_steps=recipe.for_task(task.name).max_episode_steps,
    )


def learn(
    model: BaseAlgorithm, timesteps: int, label: str, progress: bool, watching: Sequence[BaseCallback]
) -> bool:
    """Train; ``False`` if the user interrupted it."""
    callbacks = [*watching, ProgressCallback(timesteps, label, progress)]
    try:
        with keyboard_interrupt_on_terminate():
            model.learn(timesteps, callback=callbacks)
    except KeyboardInterrupt:
        return False
    return True


def default_output(args: Args) -> Path:
    """Where a run goes if nobody says. A W&B sweep runs one agent, task and seed with many options: one folder each."""
    name = f"{args.agent}-{args.task}-{args.seed}"
    sweep, run = os.environ.get("WANDB_SWEEP_ID"), os.environ.get("WANDB_RUN_ID")
    return Path("runs/sweeps") / sweep / f"{name}-{run}" if sweep and run else Path("runs") / name


def train(args: Args) -> RunFolder:
    """Run the training that ``args`` describe.

    Raises:
        ValueError: an agent, task or option that does not exist or is out of range.
        FileExistsError: the run folder is there already.
    """
    recipe, task = get_agent(args.agent), get_task(args.task)
    settings = recipe.for_task(task.name)
    timesteps = settings.timesteps if args.timesteps is None else args.timesteps
    positive_int("timesteps", timesteps)
    folder = RunFolder(args.output or default_output(args))
    if folder.path.exists() and not args.overwrite:
        raise FileExistsError(
            f"{folder.path} is there already. Pass --overwrite to replace it, or --output for another place."
        )
    torch.set_num_threads(positive_int("threads", args.threads))
    # a floor is of policies that see one observation
    floor = floor_of(task) if recipe.frames == 1 else None
    venv = make_training_env(recipe, task)
    options: dict[str, Any] = {"lipschitz_bound": args.lipschitz_bound, "budget": args.budget}
    options["regularizer_scale"] = args.regularizer_scale
    model = recipe.build(venv, task, seed=args.seed, **options)
    if recipe.frames > 1:
        model.frame_stack = recipe.frames  # type: ignore[attr-defined] # what load_agent reads

    # Nothing is left of a run that fails before it has a model, and what it was to replace comes back.
    previous = folder.path.with_name(f".{folder.path.name}.previous")
    if folder.path.exists():
        shutil.rmtree(previous, ignore_errors=True)
        folder.path.rename(previous)
    folder.path.mkdir(parents=True)
    logger: Logger | None = None
    try:
        config = {
            "agent": args.agent,
            "task": args.task,
            "env_id": task.env_id,
            "seed": args.seed,
            "timesteps": timesteps,
            "algorithm": type(model).__name__,
            "policy": recipe.policy if isinstance(recipe.policy, str) else recipe.policy.__name__,
            "feasibility_floor": None if floor is None else floor.floor,
            "lipschitz_bound": getattr(getattr(model.policy, "options", None), "lipschitz_bound", None),
            "layer": recipe.layer,
            "history": attached_frames(model),
            "disturbance": recipe.disturbance.get(task.name),
            "live_disturbance": f"gaussian:{task.chatter_strength:g}",
            "vec_normalize": model.get_vec_normalize_env() is not None,
            "hyperparameters": {
                "n_envs": settings.n_envs,
                "max_episode_steps": settings.max_episode_steps,
                **{
                    key: repr(value) if callable(value) else value
                    for key, value in settings.algorithm.items()
                },
                "policy_kwargs": {
                    key: getattr(value, "__name__", value)
                    for key, value in recipe.policy_kwargs(task, **options).items()
                },
            },
            "command": command_line("experiments.train"),
            "versions": versions(),
            "git_revision": git_revision(),
            "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        logger, wandb_writer = make_logger(folder, config, args)
        model.set_logger(logger)
        watching: list[BaseCallback] = [live_smoothness(recipe, task, floor)] if recipe.certifiable else []
        if task.name in recipe.final_bound:
            watching.append(LipschitzSchedule("exponential", end=recipe.final_bound[task.name]))
        begun = time.perf_counter()
        finished = learn(model, timesteps, f"{args.agent} seed {args.seed}", args.progress, watching)
        seconds = time.perf_counter() - begun
        with uninterrupted():
            folder.save_model(model)
    except BaseException:
        if logger is not None:
            logger.close()
        if not folder.model_file.is_file():
            shutil.rmtree(folder.path, ignore_errors=True)
            if previous.exists():
                previous.rename(folder.path)
        raise
    shutil.rmtree(previous, ignore_errors=True)
    status = "finished" if finished else "interrupted"
    folder.write_config(
        {
            **config,
            "status": status,
            "trained_timesteps": model.num_timesteps,
            "train_seconds": round(seconds, 1),
        }
    )
    certificate = certify(model) if recipe.certifiable else None
    unfit: Sequence[str] = ()
    wandb_writer.summary({"status": status})
    if certificate is not None:
        certificate.save(folder.certificate_file)
        log_trained(
            wandb_writer.run, f"{args.task}-{args.agent}-{args.seed}", certificate, agent_files(folder)
        )
        unfit = () if floor is None else feasibility_warnings(floor, certificate, policy_units(model))
    logger.close()
    venv.close()
    rate = model.num_timesteps / max(seconds, 1e-9)
    if not finished:
        print(f"Interrupted after {model.num_timesteps} of {timesteps} steps; the model so far is kept.")
    said = "no certificate: the policy has no Lipschitz constant"
    if certificate is not None:
        network = certificate.network
        said = (
            f"certified ≤ {rounded_up(certificate.upper_bound, 4)} per raw unit "
            f"(network {rounded_up(network.upper_bound, 4)}, tightness {network.tightness:.0%})"
        )
    print(f"{folder.path}: {model.num_timesteps} steps in {seconds:.0f} s ({rate:.0f}/s), {said}")
    for text in unfit:
        print(f"Feasibility: {text}")
    return folder


def main() -> int:
    """Command line; 130, what a shell says of a process that SIGINT ended, where the training was interrupted."""
    epilog = f"agents: {', '.join(AGENTS)}. tasks: {', '.join(TASKS)}."
    args = parse(Args, __doc__, epilog)
    with fail():
        folder = train(args)
    return 130 if folder.read_config()["status"] == "interrupted" else 0


if __name__ == "__main__":
    sys.exit(main())
