"""A student is trained as any agent is: first its teacher, beside it; then the student of it."""

from __future__ import annotations

import datetime
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import lipsrl
from agents import Lesson, Recipe, get_agent
from envs import Task
from experiments._console import command_line
from experiments._distill_settings import share_of
from experiments._ending import certified, logged, proven
from experiments._memory_agents import uninterrupted as whole
from experiments._setup import hyperparameters
from experiments._signals import keyboard_interrupt_on_terminate, uninterrupted
from experiments._teachers import options_of_teacher, taught
from experiments._train_args import Args
from lipsrl._validation import lookup, positive_finite
from lipsrl.disturbances import GaussianNoise
from lipsrl.evaluation import model_fingerprint
from lipsrl.layers import BUDGETS
from lipsrl.tracking import RunFolder, WandbWriter
from lipsrl.tracking.config import git_revision, versions

#: K of a student whose recipe has none, as a share of the steepest slope that is found in its teacher.
SHARE = 0.5


def lesson_of(
    recipe: Recipe, task: str, bound: Any, budget: str | None, scale: float | None
) -> dict[str, Any]:
    """How a student of ``recipe`` is distilled, where the options replace the recipe's own.

    Raises:
        ValueError: an option that a student has not, or one out of range.
    """
    if bound == "auto":
        raise ValueError(
            f"agent={recipe.name!r} is distilled, and lipschitz_bound='auto' searches while an agent is trained. Leave "
            "it out (K is then the recipe's, or half of the teacher's steepest slope), or use `lipsrl frontier`."
        )
    if scale not in (None, 1.0):
        raise ValueError(f"agent={recipe.name!r} has no soft regulariser whose weights could be scaled.")
    if budget is not None:
        lookup("budget", budget, BUDGETS)
    lesson: Lesson = recipe.lessons[task]
    if bound is not None:
        lesson = replace(lesson, lipschitz_bound=positive_finite("lipschitz_bound", bound))
    return {**asdict(lesson), "budget": budget or "output"}


def identity(
    recipe: Recipe, task: Task, seed: int, timesteps: int, lesson: dict[str, Any], label: str | None = None
) -> dict[str, Any]:
    """What config.json says of a student before it is made, and what says that another one is the same."""
    assert recipe.teacher is not None
    return {
        "agent": label or recipe.name,
        "recipe": recipe.name,
        "task": task.name,
        "env_id": task.env_id,
        **({"env_kwargs": dict(task.env_kwargs)} if task.env_kwargs else {}),
        "seed": seed,
        "timesteps": timesteps,
        "algorithm": recipe.algorithm.__name__,
        "policy": recipe.policy if isinstance(recipe.policy, str) else recipe.policy.__name__,
        "lesson": lesson,
        "layer": recipe.layer,
        "history": recipe.frames,
        "disturbance": None,
        "vec_normalize": task.normalize_observation or task.normalize_reward,
        "hyperparameters": hyperparameters(get_agent(recipe.teacher), task, {}),  # the teacher's
    }


def identity_of(args: Args, recipe: Recipe, task: Task, timesteps: int) -> dict[str, Any]:
    """:func:`identity` of the student that ``args`` describe."""
    lesson = lesson_of(recipe, task.name, args.lipschitz_bound, args.budget, args.regularizer_scale)
    return identity(recipe, task, args.seed, timesteps, lesson, args.label)


def train_student(
    args: Args,
    recipe: Recipe,
    task: Task,
    timesteps: int,
    folder: RunFolder,
    train: Callable[[Args], RunFolder],
    settings: Callable[[Args], dict[str, Any]],
) -> RunFolder:
    """The run folder of a student, written when all of it is there. Interrupted, its teacher goes on as any training.

    Args:
        folder: free, and held by this process.
        train: trains the teacher.
        settings: what the config of a training says before it begins.

    Raises:
        ValueError: the teacher that was named is another training, or another one lies in its place.
        KeyboardInterrupt: it was interrupted; no student is left, and what it was to replace is there.
    """
    config = identity_of(args, recipe, task, timesteps)
    config["started"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    source = taught(options_of_teacher(args, recipe, timesteps, folder), folder, train, settings)
    teacher, statistics = source.load()
    lesson, begun = config["lesson"], time.perf_counter()
    bound, slope = lesson["lipschitz_bound"], None
    if bound is None:
        slope = lipsrl.certify(teacher, vec_normalize=statistics).network.lower_bound
        bound = share_of(SHARE, slope)
    with keyboard_interrupt_on_terminate():
        student = whole(
            lambda: lipsrl.distill(
                teacher, task.make, lipschitz_bound=bound, layer=str(recipe.layer), budget=lesson["budget"],
                history=recipe.frames, disturbance=GaussianNoise(lesson["noise"]), strength=(0.0, 1.0),
                vec_normalize=statistics, seed=args.seed, rounds=lesson["rounds"], steps=lesson["steps"],
                progress=args.progress and sys.stderr.isatty(),
            )
        )  # fmt: skip
    seconds = round(time.perf_counter() - begun, 1)
    learned = source.read_config()
    config |= {
        "status": "finished", "trained_timesteps": learned["trained_timesteps"], "lipschitz_bound": bound,
        "feasibility_floor": None, "teacher": os.path.relpath(source.path.resolve(), folder.path.resolve()),
        "teacher_slope": slope, "made_of": model_fingerprint(teacher, statistics), "distill_seconds": seconds,
        "train_seconds": round(learned["train_seconds"] + seconds, 1),
        "wandb_id": os.environ.get("WANDB_RUN_ID") or os.urandom(4).hex(),
        "command": command_line("experiments.train"), "versions": versions(), "git_revision": git_revision(),
    }  # fmt: skip
    with uninterrupted():
        certificate = _write(folder, student, config)
    writer = WandbWriter(
        folder.path, config, name=folder.path.name, group=f"{task.name}/{config['agent']}", job_type="train",
        mode=args.track, project=args.project, run_id=config["wandb_id"],
    )  # fmt: skip
    writer.summary({"status": "finished"})
    logged(folder, writer, config, certificate)
    writer.close()
    print(f"{folder.path}: student of {source.path} in {seconds:.0f} s, {proven(certificate)}")
    return folder


def _write(folder: RunFolder, student: Any, config: dict[str, Any]) -> Any:
    """The whole run folder beside its place, then in it; what it replaces goes last."""
    new = RunFolder(folder.path.with_name(f".{folder.path.name}.partial"))
    previous = folder.path.with_name(f".{folder.path.name}.previous")
    shutil.rmtree(new.path, ignore_errors=True)  # of a process that was killed
    new.path.mkdir(parents=True)
    try:
        new.save_model(student)
        certificate = certified(new, student)
        new.write_config(config)
    except BaseException:
        shutil.rmtree(new.path, ignore_errors=True)
        raise
    if folder.path.exists():
        shutil.rmtree(previous, ignore_errors=True)
        folder.path.rename(previous)
    new.path.rename(folder.path)
    shutil.rmtree(previous, ignore_errors=True)
    return certificate
