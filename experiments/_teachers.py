"""The teacher of a student: where it lies, whether it is the one that is asked for, and how it is trained."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from agents import Recipe
from experiments._checkpoint import differing, is_finished
from experiments._locks import BusyError
from experiments._stored import check_source
from experiments._train_args import Args
from lipsrl.tracking import RunFolder

#: Options of a student that say nothing of its teacher, and those that its teacher has instead.
_TEACHERS = {
    "lipschitz_bound": None, "layer": None, "history": None, "budget": None, "label": None, "teacher": None,
    "overwrite": False, "resume": True,
}  # fmt: skip
#: What W&B is told of one run: the student's.
_OF_ONE_RUN = ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_NAME")


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


def taught(
    asked: Args,
    folder: RunFolder,
    train: Callable[[Args], RunFolder],
    settings: Callable[[Args], dict[str, Any]],
) -> RunFolder:
    """The finished training of a teacher, trained if need be.

    Args:
        asked: of it, :func:`options_of_teacher`.
        folder: of its student.
        train: trains it.
        settings: what the config of a training says before it begins.

    Raises:
        ValueError: another training is there.
        KeyboardInterrupt: its training was interrupted.
    """
    assert asked.output is not None
    source = RunFolder(asked.output)
    if not is_finished(source):
        _trained(asked, folder, train)
    there, here = differing(source.read_config(), settings(asked))
    if there:
        raise ValueError(
            f"{source.path} is a training with {there}, and the teacher of this student has {here}. Name another one "
            "(--teacher RUN), ask for the same options, or give the student another --output."
        )
    print(f"{folder.path}: its teacher is {source.path}", flush=True)
    return source


def options_of_teacher(args: Args, recipe: Recipe, timesteps: int, folder: RunFolder) -> Args:
    """What the options ``args`` of a student in ``folder`` ask of its teacher, and where that one is.

    Raises:
        ValueError: it is in the student's own place, or is named and has not come to its end.
        FileNotFoundError: no run folder is named.
    """
    asked = replace(args, agent=str(recipe.teacher), timesteps=timesteps, **_TEACHERS)
    if args.teacher is None:
        source = place_of_teacher(folder, recipe, args.task, args.seed)
        if source.path.resolve() == folder.path.resolve():
            raise ValueError(
                f"{folder.path} is where the teacher is trained. Give the student another --output or --label."
            )
        return replace(asked, output=source.path)
    source = RunFolder.open(args.teacher)
    place = source.path.resolve()
    if args.overwrite and folder.path.resolve() in (place, *place.parents):
        raise ValueError(
            f"{source.path} lies in {folder.path}, which --overwrite removes. Move it away first."
        )
    if not is_finished(source):
        raise ValueError(
            f"{source.path} is no finished training: --teacher takes one that has come to its end."
        )
    called = source.read_config()["agent"]  # its name says nothing of what it is
    return replace(asked, output=source.path, label=called)


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
