"""A student is trained as any agent: first its teacher, or one that is there already; then the student of it."""

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
from experiments._checkpoint import Unfinished, is_finished
from experiments._console import command_line
from experiments._distill_settings import share_of
from experiments._ending import certified, proven
from experiments._locks import is_busy
from experiments._memory_agents import uninterrupted
from experiments._place import set_aside
from experiments._setup import hyperparameters
from experiments._signals import keyboard_interrupt_on_terminate
from experiments._train_args import Args
from lipsrl._validation import positive_finite
from lipsrl.disturbances import GaussianNoise
from lipsrl.evaluation import model_fingerprint
from lipsrl.tracking import RunFolder, WandbWriter
from lipsrl.tracking.config import git_revision, versions

#: K of a student whose recipe has none, as a share of the steepest slope that is found in its teacher.
SHARE = 0.5
#: Options of a student that say nothing of its teacher.
_OWN = {
    "lipschitz_bound": None,
    "layer": None,
    "history": None,
    "budget": None,
    "label": None,
    "teacher": None,
}


def lesson_of(
    recipe: Recipe, task: str, bound: Any, budget: str | None, scale: float | None
) -> dict[str, Any]:
    """How a student of ``recipe`` is distilled, where the options replace the recipe's own.

    Raises:
        ValueError: an option that a student has not.
    """
    if bound == "auto":
        raise ValueError(
            f"agent={recipe.name!r} is distilled, and lipschitz_bound='auto' searches while an agent is trained. Leave "
            "it out (K is then the recipe's, or half of the teacher's steepest slope), or use `lipsrl frontier`."
        )
    if scale not in (None, 1.0):
        raise ValueError(f"agent={recipe.name!r} has no soft regulariser whose weights could be scaled.")
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
    check: Callable[[Args], None],
) -> RunFolder:
    """The run folder of a student, and inside of it that of its teacher, unless that was there before.

    Without ``config.json`` it was interrupted: the same command goes on with the teacher, and begins the student anew.

    Args:
        folder: free, and held by this process.
        train: trains the teacher.
        check: refuses a finished training that is not the one asked for.

    Raises:
        ValueError: another student was begun there, or the teacher that was given is another one.
    """
    config = identity_of(args, recipe, task, timesteps)
    unfinished = Unfinished(folder.path)
    begun = None if args.overwrite else unfinished.settings()
    if begun is not None:
        unfinished.check(config)
    teaching = replace(
        args, agent=str(recipe.teacher), timesteps=timesteps, overwrite=False, resume=True, **_OWN
    )
    source = _there(args, teaching, folder, check)
    previous = folder.path.with_name(f".{folder.path.name}.previous")
    if begun is None:
        set_aside(folder, previous)
        folder.path.mkdir(parents=True)
    config |= {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "wandb_id": os.environ.get("WANDB_RUN_ID") or os.urandom(4).hex(),
        **({} if begun is None else {key: begun[key] for key in ("started", "wandb_id")}),
    }
    try:
        unfinished.begin(config)
        if source is None:
            source = train(replace(teaching, output=folder.path / _name(teaching)))
    except BaseException:
        if begun is None and not (folder.path / _name(teaching)).exists():
            shutil.rmtree(folder.path, ignore_errors=True)
            if previous.exists():
                previous.rename(folder.path)
        raise
    if is_finished(source):
        _distil(args, recipe, task, source, config, folder)
    shutil.rmtree(previous, ignore_errors=True)
    return folder


def _name(teaching: Args) -> str:
    return f"{teaching.agent}-{teaching.task}-{teaching.seed}"


def _there(args: Args, teaching: Args, folder: RunFolder, check: Callable[[Args], None]) -> RunFolder | None:
    """A teacher that is trained already; None where there is none."""
    if args.teacher is not None:
        given = RunFolder.open(args.teacher)
        if not is_finished(given):
            raise ValueError(
                f"{given.path} is no finished training: --teacher takes one that has come to its end."
            )
        check(replace(teaching, output=given.path))
        return given
    beside = RunFolder(folder.path.parent / _name(teaching))
    said = False
    while is_busy(beside.path):
        if not said:
            print(f"{folder.path}: waits for the training in {beside.path}", flush=True)
            said = True
        time.sleep(1.0)
    if not is_finished(beside):
        return None
    try:
        check(replace(teaching, output=beside.path))
    except ValueError:
        return None  # another training of that name
    print(f"{folder.path}: its teacher is {beside.path}", flush=True)
    return beside


def _distil(
    args: Args, recipe: Recipe, task: Task, source: RunFolder, config: dict[str, Any], folder: RunFolder
) -> None:
    """Make the student and write its run folder; nothing is written where that is interrupted."""
    teacher, statistics = source.load()
    lesson, begun = config["lesson"], time.perf_counter()
    bound, slope = lesson["lipschitz_bound"], None
    if bound is None:
        slope = lipsrl.certify(teacher, vec_normalize=statistics).network.lower_bound
        bound = share_of(SHARE, slope)
    try:
        with keyboard_interrupt_on_terminate():
            student = uninterrupted(
                lambda: lipsrl.distill(
                    teacher, task.make, lipschitz_bound=bound, layer=str(recipe.layer), budget=lesson["budget"],
                    history=recipe.frames, disturbance=GaussianNoise(lesson["noise"]), strength=(0.0, 1.0),
                    vec_normalize=statistics, seed=args.seed, rounds=lesson["rounds"], steps=lesson["steps"],
                    progress=args.progress and sys.stderr.isatty(),
                )
            )  # fmt: skip
    except KeyboardInterrupt:
        print(
            f"Interrupted while the student learned: the teacher is kept ({source.path}), half a student is not."
        )
        return
    seconds = round(time.perf_counter() - begun, 1)
    folder.save_model(student)
    learned = source.read_config()
    config |= {
        "status": "finished", "trained_timesteps": learned["trained_timesteps"], "lipschitz_bound": bound,
        "feasibility_floor": None, "teacher": str(source.path), "teacher_slope": slope,
        "made_of": model_fingerprint(teacher, statistics), "distill_seconds": seconds,
        "train_seconds": round(learned["train_seconds"] + seconds, 1),
        "command": command_line("experiments.train"), "versions": versions(), "git_revision": git_revision(),
    }  # fmt: skip
    folder.write_config(config)
    writer = WandbWriter(
        folder.path, config, name=folder.path.name, group=f"{task.name}/{config['agent']}", job_type="train",
        mode=args.track, project=args.project, run_id=config["wandb_id"],
    )  # fmt: skip
    writer.summary({"status": "finished"})
    certificate = certified(folder, student, writer, config)
    writer.close()
    Unfinished(folder.path).end()
    print(f"{folder.path}: student of {source.path} in {seconds:.0f} s, {proven(certificate)}")
