"""What ``lipsrl distill`` and ``lipsrl frontier`` share: the teacher, its lessons, and the files of its students."""

from __future__ import annotations

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

from lipsrl._commands._frames import frames_said
from lipsrl._commands._source import Source, in_environment, open_source, statistics_file
from lipsrl._files import atomic_path, check_writable
from lipsrl.actors.training_settings import not_restored
from lipsrl.evaluation import EndlessEpisodeError, NonFiniteError


@dataclass(kw_only=True)
class Lesson:
    """A teacher, and how its students learn from it."""

    path: tyro.conf.Positional[Path]
    """The teacher: a run folder, or any SB3 zip."""
    env: str | None = None
    """Gymnasium id of the environment. Required for a zip file."""
    env_kwargs: list[str] = field(default_factory=list)
    """Arguments of the environment, KEY:VALUE, such as g:9.81."""
    vec_normalize: str = "auto"
    """File with the VecNormalize statistics of the model. auto: use the file that SB3, rl-zoo or lipsrl saved beside
    it. none: the model was trained without VecNormalize."""
    trust: bool = False
    """Also open files that contain custom code, and run this code. Use it only for files from a source that you
    trust."""
    frame_stack: int | None = None
    """Number of stacked observations, if the teacher was trained with a VecFrameStack."""
    layer: str = "sandwich"
    """Layer type of the student (key of lipsrl.layers.LAYERS)."""
    net_arch: list[int] = field(default_factory=list)
    """Widths of the student's hidden layers. Default: the widths of the teacher's actor."""
    budget: str = "output"
    """How K is divided among the layers (key of lipsrl.layers.BUDGETS)."""
    rounds: int = 12
    """Number of DAgger rounds. In each round the student plays episodes and the teacher labels them."""
    steps: int | None = None
    """Total number of gradient steps. Default: 7200, or 12,000 with a history. Use more if K is close to the smallest K
    that the task allows."""
    episodes: int = 100
    """Evaluation episodes per agent and strength. They are never used to train or select the student."""
    seed: int = 0
    """Random seed."""
    max_episode_steps: int | None = None
    """Truncate episodes after this number of steps. Required if neither the task nor a TimeLimit ends an episode."""

    def teacher(self, console: Console) -> Source:
        """The model, and where it is to be run.

        Raises:
            ValueError: no environment is known.
        """
        with said_at_the_end(console):
            source = open_source(self.path, self.vec_normalize, trust=self.trust, env=self.env)
        source.frame_stack = frames_said(self.frame_stack, source.frame_stack)
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
            f"output: {str(there)!r} exists already. Use another name, or pass --overwrite to replace it."
        )
    check_writable(file)


def warn_of_defaults(source: Source) -> None:
    """Say what a student of a zip has not from its teacher, because only what acts is opened."""
    found = [] if source.agent is None else not_restored(source.agent.file)
    if found:
        warnings.warn(
            f"these settings in the teacher's zip are no plain data and were not opened: {', '.join(found)}. The "
            "student has SB3's defaults in their place. It acts the same; set them before training it on, or distil in "
            "Python from the model that SB3 loads.",
            stacklevel=2,
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
    """Errors that a user can mend as ``ValueError``, which the command prints as one line; interruptions in words.

    Args:
        written: the students' files so far, said where the command ends early.
    """
    try:
        yield
    except (NonFiniteError, EndlessEpisodeError) as error:
        raise ValueError(f"{error}{_so_far(written)}") from None
    except KeyboardInterrupt:
        text = (
            f"interrupted before all was measured.{_so_far(written)}"
            if written
            else "interrupted before the end of the first round, so there is no student and nothing was written."
        )
        raise KeyboardInterrupt(text) from None


def _so_far(written: Sequence[Path]) -> str:
    return f" Written: {', '.join(map(str, written))}" if written else ""
