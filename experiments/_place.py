"""The run folder that a training is to have: whether it is free, and what it replaces."""

from __future__ import annotations

import shutil
from pathlib import Path

from experiments._checkpoint import Unfinished, is_finished
from lipsrl.tracking import RunFolder


def is_free(folder: RunFolder, overwrite: bool, resume: bool) -> bool:
    """Whether something is to be trained there; False where it is finished, and may stay.

    Raises:
        ValueError: both options.
        FileExistsError: something else is in the way.
    """
    if overwrite and resume:
        raise ValueError(
            "resume=True continues the existing training, overwrite=True deletes it. Choose one."
        )
    if not folder.path.exists():
        return True
    if overwrite:
        _refuse_other_folder(folder)
        return True
    if Unfinished(folder.path).settings() is not None:
        return True
    if resume and is_finished(folder):
        return False
    raise FileExistsError(
        f"{folder.path} is there already. Pass --overwrite to replace it, or --output for another place."
    )


def _refuse_other_folder(folder: RunFolder) -> None:
    """``FileExistsError`` where --overwrite would remove what no training left behind."""
    own = (folder.model_file, folder.path / "progress.csv", Unfinished(folder.path).path)
    if folder.path.is_dir() and (not any(folder.path.iterdir()) or any(file.exists() for file in own)):
        return
    raise FileExistsError(
        f"{folder.path} is no run folder: it has neither model.zip nor progress.csv. --overwrite replaces run folders "
        "only; remove it yourself, or give another --output."
    )


def set_aside(folder: RunFolder, previous: Path) -> None:
    """Make room for a training from the start; what it replaces is kept until there is a new model."""
    if not folder.path.exists():
        return
    if previous.exists() and not folder.model_file.is_file():  # set aside by a training that was killed
        shutil.rmtree(folder.path)
        return
    shutil.rmtree(previous, ignore_errors=True)
    folder.path.rename(previous)
