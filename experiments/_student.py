"""A student is trained as any agent is: first its teacher, beside it; then the student of it."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

import lipsrl
from agents import Lesson, Recipe, get_agent
from envs import Task
from experiments._checkpoint import differing, is_finished
from experiments._console import command_line
from experiments._distill_settings import share_of
from experiments._ending import certified, logged, proven
from experiments._locks import BusyError
from experiments._memory_agents import uninterrupted as whole
from experiments._setup import hyperparameters
from experiments._signals import keyboard_interrupt_on_terminate, uninterrupted
from experiments._stored import check_source
from experiments._train_args import Args
from lipsrl._validation import lookup, positive_finite
from lipsrl.disturbances import GaussianNoise
from lipsrl.evaluation import model_fingerprint
from lipsrl.layers import BUDGETS
from lipsrl.tracking import RunFolder, WandbWriter
from lipsrl.tracking.config import git_revision, versions

#: K of a student whose recipe has none, as a share of the steepest slope that is found in its teacher.
SHARE = 0.5
#: Options of a student that say nothing of its teacher, and those that its teacher has instead.
_TEACHERS = {
    "lipschitz_bound": None, "layer": None, "history": None, "budget": None, "label": None, "teacher": None,
    "overwrite": False, "resume": True,
}  # fmt: skip
#: What W&B is told of one run: the student's.
_OF_ONE_RUN = ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_NAME")


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


def place_of_teacher(folder: RunFolder, recipe: Recipe, task: str, seed: int) -> RunFolder:
    """Where a teacher is trained if nobody names one: beside its students, which so share it."""
    return RunFolder(folder.path.parent / f"{recipe.teacher}-{task}-{seed}")


def check_teacher(args: Args, folder: RunFolder) -> None:
    """Refuse a student of another teacher than the one that is named, or that lies in its place now.

    Raises:
        ValueError: it is one.
        FileNotFoundError: no run folder is named.
    """
    named = None if args.teacher is None else RunFolder.open(args.teacher)
    check_source(folder, named or RunFolder(folder.path / folder.read_config()["teacher"]))


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
    source = _teacher(args, recipe, task, timesteps, folder, train, settings)
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


def _teacher(
    args: Args,
    recipe: Recipe,
    task: Task,
    timesteps: int,
    folder: RunFolder,
    train: Callable[[Args], RunFolder],
    settings: Callable[[Args], dict[str, Any]],
) -> RunFolder:
    """The finished training of a teacher: the one that is named, or the one beside the student, trained if need be."""
    asked = replace(args, agent=str(recipe.teacher), timesteps=timesteps, **_TEACHERS)
    if args.teacher is None:
        source = place_of_teacher(folder, recipe, task.name, args.seed)
        if source.path.resolve() == folder.path.resolve():
            raise ValueError(
                f"{folder.path} is where the teacher is trained. Give the student another --output or --label."
            )
        if not is_finished(source):
            _trained(replace(asked, output=source.path), folder, train)
    else:
        source = RunFolder.open(args.teacher)
        if args.overwrite and folder.path.resolve() in (
            source.path.resolve(),
            *source.path.resolve().parents,
        ):
            raise ValueError(
                f"{source.path} lies in {folder.path}, which --overwrite removes. Move it away first."
            )
        if not is_finished(source):
            raise ValueError(
                f"{source.path} is no finished training: --teacher takes one that has come to its end."
            )
        asked = replace(
            asked, label=source.read_config()["agent"]
        )  # what it is called says nothing of what it is
    there, here = differing(source.read_config(), settings(asked))
    if there:
        raise ValueError(
            f"{source.path} is a training with {there}, and the teacher of this student has {here}. Name another one "
            "(--teacher RUN), ask for the same options, or give the student another --output."
        )
    print(f"{folder.path}: its teacher is {source.path}", flush=True)
    return source


def _trained(asked: Args, folder: RunFolder, train: Callable[[Args], RunFolder]) -> None:
    """Train a teacher, or wait for who is at it."""
    said = False
    while True:
        try:
            with _run_of_its_own():
                config = train(asked).read_config()
        except BusyError:
            if not said:
                print(f"{folder.path}: waits for the training in {asked.output}", flush=True)
            said = True
            time.sleep(1.0)
            continue
        if config["status"] == "interrupted":
            raise KeyboardInterrupt
        return


@contextlib.contextmanager
def _run_of_its_own() -> Iterator[None]:
    """Without what W&B was told of the student's run."""
    kept = {name: os.environ.pop(name) for name in _OF_ONE_RUN if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
