"""What ``lipsrl distill`` and ``lipsrl frontier`` share: the teacher, its lessons, and the files of its students."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from stable_baselines3.common.base_class import BaseAlgorithm

from lipsrl._commands._source import Source, in_environment, open_source, statistics_file
from lipsrl._files import atomic_path
from lipsrl.evaluation import EndlessEpisodeError, NonFiniteError


@dataclass(kw_only=True)
class Lesson:
    """A teacher, and how its students learn."""

    path: tyro.conf.Positional[Path]
    """The teacher: a run folder, or any SB3 zip."""
    env: str | None = None
    """Gymnasium id; needed for a zip."""
    env_kwargs: list[str] = field(default_factory=list)
    """Arguments of the environment, KEY:VALUE, such as g:9.81."""
    vec_normalize: str = "auto"
    """VecNormalize file that belongs to the model; auto: the one that SB3, rl-zoo or lipsrl put beside it; none: it had
    none."""
    trust: bool = False
    """Open files that name code of your own, and run it. Only for what you or somebody you trust made."""
    frame_stack: int | None = None
    """How many observations the teacher sees at once, if it was trained behind a VecFrameStack."""
    layer: str = "sandwich"
    """Constraint of the student's layers (key of lipsrl.layers.LAYERS)."""
    net_arch: list[int] = field(default_factory=list)
    """Widths of the student's actor; the teacher's if not given."""
    budget: str = "output"
    """How K is split over the layers (key of lipsrl.layers.BUDGETS)."""
    rounds: int = 12
    """Rounds of the student's own episodes (DAgger)."""
    steps: int | None = None
    """Gradient steps in all; if not given 7200, with a history 12,000. More help near the least K that a task needs."""
    episodes: int = 100
    """Episodes of the table, per agent and strength; none that the student learned from or was chosen by."""
    seed: int = 0
    """Of all draws."""
    max_episode_steps: int | None = None
    """Truncate episodes after so many steps; needed where neither the task nor a TimeLimit ends them."""

    def teacher(self, console: Console) -> Source:
        """The model, and where it is to be run.

        Raises:
            ValueError: no environment is known.
        """
        with said_at_the_end(console):
            source = open_source(self.path, self.vec_normalize, trust=self.trust, env=self.env)
        source.frame_stack = self.frame_stack or source.frame_stack
        return in_environment([source], self.env, self.env_kwargs)[0]

    def options(self, source: Source) -> dict[str, Any]:
        """Further arguments of `lipsrl.distill`."""
        return {
            "vec_normalize": source.vec_normalize,
            "frame_stack": source.frame_stack,
            "layer": self.layer,
            "net_arch": self.net_arch or None,
            "budget": self.budget,
            "rounds": self.rounds,
            "steps": self.steps,
            "seed": self.seed,
            "max_episode_steps": self.max_episode_steps,
            "progress": sys.stderr.isatty(),
        }


def check_output(file: Path, existing: Sequence[Path], overwrite: bool) -> None:
    """Refuse before anything is learned what could not be written in the end.

    Args:
        file: will be written.
        existing: what there must not be unless ``overwrite``.
    """
    there = next((path for path in existing if path.exists()), None)
    if there is not None and not overwrite:
        raise ValueError(
            f"output would replace {str(there)!r}, which is there already. Give another name, or --overwrite."
        )
    if file.is_dir():
        raise ValueError(f"output={str(file)!r} is a folder. Give another name.")
    folder = next(path for path in file.absolute().parents if path.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(
            f"output: {str(file)!r} cannot be written, because {str(folder)!r} is not a folder that you may write to."
        )


def save_student(student: BaseAlgorithm, path: Path) -> list[Path]:
    """Write ``path`` (.zip) and, where there is a VecNormalize, its file beside it; returns what was written."""
    beside = statistics_file(path)
    statistics = student.get_vec_normalize_env()
    if statistics is None:
        beside.unlink(missing_ok=True)  # of the student that is replaced
    else:
        with atomic_path(beside) as temporary:
            statistics.save(str(temporary))
    with atomic_path(path) as temporary:
        student.save(temporary)
    return [path] if statistics is None else [path, beside]


@contextmanager
def said_at_the_end(console: Console) -> Iterator[None]:
    """Print warnings after the bars, also where an error ends the command."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for said in caught:
                if issubclass(said.category, UserWarning):
                    console.print(
                        f"WARNING {said.message}",
                        style="yellow",
                        soft_wrap=True,
                        highlight=False,
                        markup=False,
                    )


@contextmanager
def plain_errors(written: Sequence[Path]) -> Iterator[None]:
    """Errors that a user can mend as ``ValueError``, which the command prints as one line.

    Args:
        written: the students' files so far, said where the command ends early.
    """
    try:
        yield
    except (NonFiniteError, EndlessEpisodeError, KeyboardInterrupt) as error:
        if written:
            text = str(error) or "interrupted before all was measured."
            raise ValueError(f"{text} Written: {', '.join(map(str, written))}") from None
        text = (
            "interrupted before there was a student; nothing was written. A student exists after the first of the "
            "rounds."
        )
        raise ValueError(str(error) or text) from None
