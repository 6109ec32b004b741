"""``lipsrl frontier``."""

from __future__ import annotations

import contextlib
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lipsrl._commands._lesson import Lesson, check_output, plain_errors, said_at_the_end, save_student
from lipsrl._commands._source import Source
from lipsrl._commands._tracking import Tracking, files_of, label, tell
from lipsrl._commands.distill import certificate_cells
from lipsrl._validation import positive_int
from lipsrl.certificates import Certificate
from lipsrl.distillation import TEACHER, Frontier, Student, frontier
from lipsrl.evaluation import EndlessEpisodeError, random_return
from lipsrl.reporting import write_report
from lipsrl.reporting.numbers import interval, number
from lipsrl.tracking.jobs import Subject, log_frontier

RULE = (
    "Recommended: the smallest K whose return is not distinguishable, episode by episode, from the teacher's (clean) "
    "or from the best agent's (under noise): the 95 % interval of the difference reaches 0. With several histories: "
    "the shortest history that has such a K."
)


@dataclass(kw_only=True)
class FrontierCommand(Tracking, Lesson):
    """Distil one student per K, compare return and smoothness, and recommend a K."""

    bounds: list[float] = field(default_factory=lambda: [2.0, 4.0, 6.0, 8.0, 12.0, 16.0])
    """Values of K, one student each."""
    disturbance: str = "gaussian:1.0"
    """Disturbance NAME:PARAMETER.... The strengths and the noise levels multiply it."""
    strengths: list[float] = field(default_factory=lambda: [0.0, 0.05, 0.1, 0.2])
    """Strengths at which all agents are evaluated. For gaussian, the strength is the standard deviation of the noise in
    raw sensor units."""
    noise_levels: list[str] = field(default_factory=lambda: ["0"])
    """Strengths of the disturbance while students learn: numbers, or LOW:HIGH to draw a new strength in every episode.
    One student is made per K and noise level."""
    histories: list[int] = field(default_factory=list)
    """Numbers of observations that a student sees at once, newest included. One student is made per K and number.
    Default: as many as the teacher."""
    workers: int = 2
    """Number of processes. Each makes one student at a time."""
    output: Path = Path("frontier")
    """Folder for the students' zip files (each written as soon as it is finished), frontier.html and
    evaluation.parquet."""
    overwrite: bool = False
    """Write into the folder even if it contains files."""

    def run(self, console: Console) -> None:
        self.check_tracking()
        positive_int("workers", self.workers)
        there = sorted(self.output.iterdir())[:1] if self.output.is_dir() else []
        check_output(self.output / "frontier.html", there, self.overwrite)
        source = self.teacher(console)
        written: list[Path] = []
        with said_at_the_end(console), plain_errors(written):
            found = frontier(
                source.model,
                source.env,
                bounds=self.bounds,
                disturbance=self.disturbance,
                strengths=self.strengths,
                noise_levels=[_level(text) for text in self.noise_levels],
                histories=self.histories or [None],
                n_episodes=self.episodes,
                n_workers=self.workers,
                on_student=lambda student: written.extend(self._save(student)),
                **self.options(source),
            )
            found.evaluation.save(self.output / "evaluation.parquet")
            write_frontier(
                self.output / "frontier.html",
                found,
                floor=self.floor_of(source),
                command=shlex.join(["lipsrl", *sys.argv[1:]]),
            )
        console.print(frontier_table(found, self.disturbance))
        for sentence in recommendations(found):
            console.print(sentence, soft_wrap=True, highlight=False)
        console.print(f"Written: {self.output}, with frontier.html", soft_wrap=True, highlight=False)
        if self.track != "disabled":
            config = {
                "disturbance": self.disturbance,
                "bounds": self.bounds,
                "layer": self.layer,
                "seed": self.seed,
            }
            teacher = Subject(
                TEACHER, None, source.model, files=files_of(source), name=label(source),
                certificate=found.teacher_certificate,
            )  # fmt: skip
            log_frontier(self.job("distill", source, config), found, teacher)
            tell(console, [], self.track)

    def floor_of(self, source: Source) -> float | None:
        """What random actions earn; None where such an episode never ends."""
        with contextlib.suppress(EndlessEpisodeError):
            return random_return(
                source.env, n_episodes=20, seed=self.seed, max_episode_steps=self.max_episode_steps
            )
        return None

    def _save(self, student: Student) -> list[Path]:
        window = "" if student.history is None else f"-k{student.history}"
        shown = f"-shown{student.shown.replace(':', '-')}" if student.strongest else ""
        return save_student(student.model, self.output / f"K{student.lipschitz_bound:g}{window}{shown}.zip")


def _level(text: str) -> float | tuple[float, float]:
    """``0.2`` or ``0:0.2``."""
    try:
        numbers = [float(part) for part in text.split(":")]
    except ValueError:
        numbers = []
    match numbers:
        case [number]:
            return number
        case [low, high]:
            return low, high
    raise ValueError(f"noise_levels are numbers or LOW:HIGH, such as 0 0.1 0:0.3, received {text!r}.")


def write_frontier(path: Path, found: Frontier, *, floor: float | None, command: str) -> Path:
    """The page of `lipsrl.reporting.write_report`, with the recommendations; the teacher is the reference."""
    certificates = [] if found.teacher_certificate is None else [_named(TEACHER, found.teacher_certificate)]
    certificates += [_named(student.name, student.certificate) for student in found.students]
    return write_report(
        path,
        evaluation=found.evaluation,
        certificates=certificates,
        commands=[command],
        title=f"Which K: students of one teacher on {found.evaluation.metadata['env']}",
        floor=floor,
        reference=TEACHER,
        notes=[" ".join(f"{sentence}." for sentence in (s.rstrip(".") for s in recommendations(found)))],
        recommendations=[*recommendations(found), RULE],
    )


def _named(agent: str, certificate: Certificate) -> dict[str, Any]:
    return {"agent": agent, "seed": None, **certificate.to_dict()}


def recommendations(found: Frontier) -> list[str]:
    """One sentence per strength that was measured."""
    return [_recommendation(found, strength) for strength in found.evaluation.metadata["strengths"]]


def _recommendation(found: Frontier, strength: float) -> str:
    where = "clean" if strength == 0 else f"at strength {strength:g}"
    student = found.recommended(strength)
    if student is None:
        return f"Recommended {where}: none of these K keeps the return; try larger ones, or more --steps."
    return f"Recommended {where}: {student.name}"


def frontier_table(found: Frontier, disturbance: str) -> Table:
    """One row per agent: return and fluctuation at every strength, and what is proven."""
    table = Table(
        title=Text(f"{found.evaluation.metadata['env']}: under {disturbance} times …"),
        caption=Text(
            f"In a cell: return, its 95 % interval over {found.evaluation.metadata['n_episodes']} episodes (the same "
            "ones for all), mean |Δa|. steepest: the largest slope found of the network, in units of K. K raw: proven, "
            f"action per raw sensor unit. {RULE}"
        ),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    summary = found.evaluation.summary(["return", "action_fluctuation"])
    table.add_column("")
    strengths = found.evaluation.metadata["strengths"]
    for strength in strengths:
        table.add_column("clean" if strength == 0 else f"{strength:g}", justify="right")
    for name in ("steepest", "tight", "K raw"):
        table.add_column(name, justify="right")
    certificates = {TEACHER: found.teacher_certificate, **{s.name: s.certificate for s in found.students}}
    for agent, certificate in certificates.items():
        rows = summary[summary["agent"] == agent].set_index("strength")
        cells = (_cell(rows.loc[strength]) for strength in strengths)
        table.add_row(Text(agent), *cells, *certificate_cells(certificate))
    return table


def _cell(row: pd.Series) -> str:
    spread = interval(row["return_low"], row["return_high"])
    return f"{number(row['return'])}\n{spread}\n{number(row['action_fluctuation'])}"
