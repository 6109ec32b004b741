"""Train one agent on one task and write a run folder.

    python -m experiments.train --agent ppo-sandwich --task pendulum --seed 0

The folder holds config.json, model.zip, vecnormalize.pkl, progress.csv, certificate.json, tensorboard/ and
wandb/ (offline by default). Ctrl-C keeps the model trained so far. The same command continues an interrupted training
(docs/experiments.md).
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from rich.console import Console
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from agents import Recipe, get_agent
from envs import Task, get_task
from experiments._checkpoint import CheckpointCallback, Unfinished, check_finished
from experiments._console import fail, parse
from experiments._curves import Curves
from experiments._ending import certified, interrupted, logged, summary
from experiments._list import tables
from experiments._locks import exclusive
from experiments._place import is_free, set_aside
from experiments._progress import ProgressCallback
from experiments._setup import (
    describe,
    floor_of,
    live_smoothness,
    make_training_env,
    policy_options,
    search_for_bound,
)
from experiments._signals import keyboard_interrupt_on_terminate, uninterrupted
from experiments._state import restore
from experiments._student import identity_of, train_student
from experiments._teachers import check_teacher
from experiments._train_args import Args, default_output
from lipsrl._validation import positive_int
from lipsrl.certificates import FeasibilityFloor, feasibility_warnings, policy_units
from lipsrl.policies import LipschitzSchedule
from lipsrl.tracking import RunFolder, WandbWriter

#: Share of a training after which there is a checkpoint, where nobody says how many steps.
CHECKPOINT_SHARE = 20


def learn(
    model: BaseAlgorithm, timesteps: int, label: str, progress: bool, watching: Sequence[BaseCallback]
) -> bool:
    """Train up to ``timesteps``; ``False`` if the user interrupted it."""
    callbacks = [*watching, ProgressCallback(timesteps, label, progress)]
    done = model.num_timesteps
    try:
        with keyboard_interrupt_on_terminate():
            model.learn(timesteps - done, callback=callbacks, reset_num_timesteps=not done)
    except KeyboardInterrupt:
        return False
    return True


def train(args: Args) -> RunFolder:
    """Run the training that ``args`` describe, or what is left of it.

    Raises:
        ValueError: an agent, task or option that does not exist or is out of range; another training is there.
        FileExistsError: the run folder is there already.
        BusyError: another process is training there.
    """
    recipe, task, timesteps = _asked(args)
    every = max(timesteps // CHECKPOINT_SHARE, 1) if args.checkpoint_every is None else args.checkpoint_every
    if every < 0:
        raise ValueError(f"checkpoint_every must be an integer >= 0, received {every}.")
    folder = RunFolder(args.output or default_output(args))
    is_free(folder, args.overwrite, args.resume)
    torch.set_num_threads(positive_int("threads", args.threads))
    with exclusive(folder.path):
        if not is_free(folder, args.overwrite, args.resume):  # another process may have finished it meanwhile
            check(replace(args, output=folder.path))
            print(f"{folder.path}: finished, kept")
            return folder
        if recipe.teacher is not None:
            return train_student(args, recipe, task, timesteps, folder, train, settings)
        return _train(args, recipe, task, timesteps, every, folder)


def check(args: Args) -> None:
    """Refuse a finished training in ``args.output`` that is not the one that ``args`` describe.

    Raises:
        ValueError: says what differs.
    """
    assert args.output is not None
    folder = RunFolder(args.output)
    check_finished(folder, settings(args))
    if get_agent(args.agent).teacher is not None:
        check_teacher(args, folder)


def settings(args: Args) -> dict[str, Any]:
    """What config.json of the training that ``args`` describe says before it begins."""
    recipe, task, timesteps = _asked(args)
    if recipe.teacher is not None:
        return identity_of(args, recipe, task, timesteps)
    venv = make_training_env(recipe, task)
    try:
        return _built(args, recipe, task, venv, timesteps)[1]
    finally:
        venv.close()


def _asked(args: Args) -> tuple[Recipe, Task, int]:
    """What is trained on what, and how many steps."""
    recipe = get_agent(args.agent).with_layer(args.layer).with_history(args.history)
    task = get_task(args.task)
    task = replace(task, smoothing=recipe.smoothing.get(task.name))
    if args.teacher is not None and recipe.teacher is None:
        raise ValueError(
            f"agent={recipe.name!r} has no teacher. Leave --teacher out, or train a student of one."
        )
    timesteps = recipe.for_task(task.name).timesteps if args.timesteps is None else args.timesteps
    return recipe, task, positive_int("timesteps", timesteps)


def _built(
    args: Args,
    recipe: Recipe,
    task: Task,
    venv: VecEnv,
    timesteps: int,
    floor: FeasibilityFloor | None = None,
) -> tuple[BaseAlgorithm, dict[str, Any]]:
    """The untrained model, and what config.json says of its training."""
    options = policy_options(recipe, task, args.lipschitz_bound, args.budget, args.regularizer_scale)
    model = recipe.build(venv, task, seed=args.seed, **options)
    if recipe.frames > 1:
        model.frame_stack = recipe.frames  # type: ignore[attr-defined] # what load_agent reads
    config = describe(model, recipe, task, floor, timesteps, args.label, options)
    return model, config | ({"lipschitz_search": None} if args.lipschitz_bound == "auto" else {})


def _train(
    args: Args, recipe: Recipe, task: Task, timesteps: int, every: int, folder: RunFolder
) -> RunFolder:
    # a floor is of policies that see one observation
    floor = floor_of(task) if recipe.frames == 1 else None
    venv = make_training_env(recipe, task)
    model, config = _built(args, recipe, task, venv, timesteps, floor)

    unfinished = Unfinished(folder.path)
    begun = None if args.overwrite else unfinished.settings()
    if begun is not None:
        unfinished.check(config)
        config |= {"started": begun["started"], "wandb_id": begun["wandb_id"]}
    before = None if begun is None else unfinished.load()

    # Nothing is left of a run that fails before it has a model, and what it was to replace comes back.
    previous = folder.path.with_name(f".{folder.path.name}.previous")
    if before is None:
        set_aside(folder, previous)
        folder.path.mkdir(parents=True)
    curves: Curves | None = None
    try:
        if before is None:
            config["wandb_id"] = (
                config.get("wandb_id") or os.environ.get("WANDB_RUN_ID") or os.urandom(4).hex()
            )
            unfinished.begin(config)
        wandb_writer = WandbWriter(
            folder.path,
            config,
            name=folder.path.name,
            group=f"{args.task}/{config['agent']}",
            job_type="train",
            mode=args.track,
            project=args.project,
            run_id=config["wandb_id"],
            last_step=0 if before is None else before["curves"]["wandb_step"],
        )
        curves = Curves(folder.path, wandb_writer, before)
        model.set_logger(curves.logger)
        watching: list[BaseCallback] = [live_smoothness(recipe, task, floor)] if recipe.certifiable else []
        search = search_for_bound(model, recipe, task, floor) if args.lipschitz_bound == "auto" else None
        if search is not None:
            watching.append(search)
        elif task.name in recipe.final_bound:
            watching.append(LipschitzSchedule("exponential", end=recipe.final_bound[task.name]))
        clock = CheckpointCallback(unfinished, every, curves, watching, before)
        if before is not None:
            print(f"{folder.path}: goes on after {before['steps']} of {timesteps} steps")
            restore(model, before)
            before = None  # the callback has what it needs
        label = f"{config['agent']} seed {args.seed}"
        finished = learn(model, timesteps, label, args.progress, [*watching, clock])
        seconds = clock.seconds
        with uninterrupted():
            folder.save_model(model)
            if not finished:
                clock.save_interrupted()
    except BaseException:
        if curves is not None:
            curves.logger.close()
        if not folder.model_file.is_file() and not unfinished.checkpoint_file.is_file():
            shutil.rmtree(folder.path, ignore_errors=True)
            if previous.exists():
                previous.rename(folder.path)
        raise
    shutil.rmtree(previous, ignore_errors=True)
    status = "finished" if finished else "interrupted"
    config |= {"status": status, "trained_timesteps": model.num_timesteps, "train_seconds": round(seconds, 1)}
    if search is not None and search.found is not None:
        config |= {"lipschitz_bound": search.found.bound, "lipschitz_search": asdict(search.found)}
        print(search.found)
    elif "lipschitz_schedule" in config:  # what tables and students take for the K of the agent
        config["lipschitz_bound"] = model.policy_kwargs["lipschitz_bound"]
    folder.write_config({**config, "resumed_at": clock.resumed})
    wandb_writer.summary({"status": status})
    certificate = certified(folder, model) if recipe.certifiable else None
    if certificate is not None:
        logged(folder, wandb_writer, config, certificate)
    unfit: Sequence[str] = ()
    if certificate is not None and floor is not None:
        unfit = feasibility_warnings(floor, certificate, policy_units(model))
    curves.logger.close()
    venv.close()
    if finished:
        unfinished.end()
    if not finished:
        print(interrupted(model.num_timesteps, timesteps, clock.kept))
    print(f"{folder.path}: {summary(model.num_timesteps, seconds, certificate)}")
    for text in unfit:
        print(f"Feasibility: {text}")
    return folder


def main() -> int:
    """Command line; 130, what a shell says of a process that SIGINT ended, where the training was interrupted."""
    args = parse(Args, __doc__, "--list shows all agents and tasks.")
    if args.list_:
        screen = Console()
        Console(width=None if screen.is_terminal else 200).print(tables())
        return 0
    try:
        with fail():
            folder = train(args)
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on with what is kept.")
        return 130
    return 130 if folder.read_config()["status"] == "interrupted" else 0


if __name__ == "__main__":
    sys.exit(main())
