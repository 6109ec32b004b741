"""``lipsrl distill``, and what ``lipsrl frontier`` shares with it."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from stable_baselines3.common.base_class import BaseAlgorithm

from lipsrl._commands._source import Source, in_environment, open_source, statistics_file
from lipsrl._files import atomic_path
from lipsrl._validation import positive_int
from lipsrl.certificates import Certificate, certify
from lipsrl.distillation import TEACHER, certificate_or_none, distill
from lipsrl.disturbances import parse_disturbance
from lipsrl.evaluation import EndlessEpisodeError, Evaluation, NonFiniteError, evaluate
from lipsrl.reporting.numbers import interval, number, percent

STUDENT = "student"
#: Times the teacher's slope above which K limits nothing.
AMPLE = 3.0
#: What a student is tested with that was shown clean observations.
SMALL_NOISE = "gaussian:0.05"


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
    steps: int = 7200
    """Gradient steps in all; twice as many help near the least K that the task allows."""
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


@dataclass(kw_only=True)
class Distill(Lesson):
    """Make a Lipschitz twin of a trained agent: it does what the agent does, within a bound."""

    lipschitz_bound: float
    """K: action units (logits, Q-values) per unit of what the policy receives, so after VecNormalize."""
    disturbance: str | None = None
    """NAME:PARAMETER... that the student is shown while it learns: it becomes the filter for that sensor."""
    noise: str | None = None
    """Disturbance of the table; --disturbance if not given, or gaussian:0.05 without one."""
    output: Path = Path("student.zip")
    """The student, an SB3 zip; its VecNormalize, if any, is written beside it (.vecnormalize.pkl)."""
    overwrite: bool = False
    """Replace the output if it is there."""

    def run(self, console: Console) -> None:
        self._check()
        source = self.teacher(console)
        shown = None if self.disturbance is None else parse_disturbance(self.disturbance)
        noise_text = self.noise or self.disturbance or SMALL_NOISE
        noise = parse_disturbance(noise_text)
        written: list[Path] = []
        with said_at_the_end(console), plain_errors(written):
            student = distill(
                source.model,
                source.env,
                lipschitz_bound=self.lipschitz_bound,
                disturbance=shown,
                **self.options(source),
            )
            written += save_student(student, self.output)
            evaluation = evaluate(
                {TEACHER: source.model, STUDENT: student},
                source.env,
                disturbances=noise,
                strengths=[0.0, 1.0],
                n_episodes=self.episodes,
                seed=self.seed,
                vec_normalize=source.vec_normalize,
                frame_stack=source.frame_stack,
                max_episode_steps=self.max_episode_steps,
                progress=sys.stderr.isatty(),
            )
            certificates = {
                TEACHER: certificate_or_none(source.model, source.vec_normalize, source.frame_stack),
                STUDENT: certify(student, vec_normalize=source.vec_normalize),
            }
            self._doubt_bound(certificates[TEACHER])
        console.print(student_table(evaluation, certificates, noise_text))
        console.print(f"Written: {', '.join(map(str, written))}", soft_wrap=True, highlight=False)

    def _doubt_bound(self, teacher: Certificate | None) -> None:
        """Warn where K is so far above the teacher's slope that it limits nothing."""
        if teacher is None or teacher.norm != "l2" or not teacher.network.lower_bound > 0:
            return
        slope = teacher.network.lower_bound
        if self.lipschitz_bound > AMPLE * slope:
            warnings.warn(
                f"lipschitz_bound={self.lipschitz_bound:g} is {self.lipschitz_bound / slope:.1f} times the teacher's "
                f"own slope, {slope:.3g}: it hardly limits the student. `lipsrl frontier` finds the least K that the "
                "task allows.",
                stacklevel=2,
            )

    def _check(self) -> None:
        positive_int("episodes", self.episodes)
        if self.output.suffix != ".zip":
            raise ValueError(f"output must end in .zip, as SB3 models do, received {str(self.output)!r}.")
        check_output(self.output, [self.output, statistics_file(self.output)], self.overwrite)


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


def student_table(
    evaluation: Evaluation, certificates: Mapping[str, Certificate | None], noise: str
) -> Table:
    """Teacher and student: what they earn, how they chatter, what is proven.

    Args:
        evaluation: at the strengths 0 and 1 of ``noise``.
        certificates: by agent; None where nothing is proven.
    """
    summary = evaluation.summary(["return", "action_fluctuation"])
    table = Table(
        title=Text(f"{evaluation.metadata['env']}: under {noise} where it says noise"),
        caption=Text(
            f"{evaluation.metadata['n_episodes']} episodes each, the same ones; 95 % intervals over episodes. "
            "steepest: largest slope found of the network, in units of K. K raw: proven, action per raw sensor unit."
        ),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("")
    for name in ("return", "return,\nnoise", "mean |Δa|,\nnoise", "steepest", "tightness", "K raw"):
        table.add_column(name, justify="right")
    for agent, certificate in certificates.items():
        clean, noisy = (
            summary[(summary["agent"] == agent) & (summary["strength"] == strength)].iloc[0]
            for strength in (0.0, 1.0)
        )
        table.add_row(
            agent,
            _cell(clean, "return"),
            _cell(noisy, "return"),
            _cell(noisy, "action_fluctuation"),
            *certificate_cells(certificate),
        )
    return table


def certificate_cells(certificate: Certificate | None) -> tuple[str, str, str]:
    """Steepest slope of the network, its tightness, and the bound in raw units, as text."""
    if certificate is None:
        return "–", "–", "–"
    network = certificate.network
    return (
        number(network.lower_bound, rounding="down"),
        percent(network.tightness, rounding="down"),
        number(certificate.upper_bound, rounding="up"),
    )


def _cell(row: Any, column: str) -> str:
    return f"{number(row[column])}\n{interval(row[f'{column}_low'], row[f'{column}_high'])}"


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
