"""``lipsrl distill``."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from stable_baselines3.common.base_class import BaseAlgorithm

from lipsrl._commands._disturbances import read_mixture
from lipsrl._commands._lesson import (
    Lesson,
    check_output,
    plain_errors,
    said_at_the_end,
    save_student,
    warn_of_defaults,
)
from lipsrl._commands._source import Source, statistics_file
from lipsrl._commands._tracking import Tracking, files_of, label, tell
from lipsrl._validation import positive_int
from lipsrl.actors.frames import attached_frames
from lipsrl.actors.normalization import normalization_of
from lipsrl.attacks._aim import holds_attack
from lipsrl.certificates import Certificate, certify
from lipsrl.distillation import TEACHER, certificate_or_none, distill, fine_tune
from lipsrl.distillation._fine_tune import check_on_policy, followed
from lipsrl.disturbances import Disturbance
from lipsrl.evaluation import Evaluation, evaluate
from lipsrl.reporting.numbers import interval, number, percent
from lipsrl.tracking.jobs import Subject, log_distilled

STUDENT = "student"
#: Times the teacher's slope above which K limits nothing.
AMPLE = 3.0
#: What a student is tested with that was shown clean observations.
SMALL_NOISE = "gaussian:0.05"
TUNED = "Fine-tuned: better in the held-out episodes, and kept."
UNTUNED = (
    "Fine-tuning found nothing better in the held-out episodes: this is the student as it was distilled."
)


@dataclass(kw_only=True)
class Distill(Tracking, Lesson):
    """Make a Lipschitz student of a trained agent: it imitates the agent and has a bound K."""

    lipschitz_bound: float
    """The bound K: change of the action (logits, Q-values) per unit of the policy's input, that is, after
    VecNormalize."""
    history: int | None = None
    """Number of observations that the student sees at once. Default: as many as the teacher. With --disturbance the
    student learns to filter noise with them."""
    disturbance: list[str] = field(default_factory=list)
    """Disturbance NAME:PARAMETER... of the student's observations while it learns; it learns to filter it. If you name
    several, one is drawn for every episode. mad:EPSILON, critic:EPSILON and random:EPSILON attack the current
    student."""
    strength: list[float] = field(default_factory=lambda: [1.0])
    """Multiplier of --disturbance: one number, or two numbers LOW HIGH to draw a new strength in every episode."""
    fine_tune: int = 0
    """Environment steps of fine-tuning with the student's own algorithm, under its bound and --disturbance. The result
    is kept if it is better. Only for PPO, A2C and TRPO."""
    noise: list[str] = field(default_factory=list)
    """Disturbance for the evaluation. Default: --disturbance at the largest --strength, or gaussian:0.05."""
    output: Path = Path("student.zip")
    """File for the student (SB3 zip). Its VecNormalize statistics, if any, are written beside it
    (.vecnormalize.pkl)."""
    overwrite: bool = False
    """Replace the output if it exists."""

    def run(self, console: Console) -> None:
        self.check_tracking()
        self._check()
        source = self.teacher(console)
        shown = read_mixture(self.disturbance)
        noise, noise_text = self._noise()
        if shown is not None and self.fine_tune:  # refused now, not once there is a student
            check_on_policy(source.model)
            self._check_that_it_follows(source, shown)
        written: list[Path] = []
        with said_at_the_end(console), plain_errors(written):
            warn_of_defaults(source)
            student = distill(
                source.model,
                source.env,
                lipschitz_bound=self.lipschitz_bound,
                disturbance=shown,
                strength=self._range(),
                history=self.history,
                **self.options(source),
            )
            written += save_student(student, self.output)
            tuned = None
            if shown is not None and self.fine_tune:
                tuned = self._tuned(student, source, shown)
                if tuned:
                    save_student(student, self.output)
            evaluation = evaluate(
                {TEACHER: source.model, STUDENT: student},
                source.env,
                disturbances=noise,
                strengths=[0.0, 1.0],
                n_episodes=self.episodes,
                seed=self.seed,
                vec_normalize=source.vec_normalize,
                frame_stack={TEACHER: source.frame_stack, STUDENT: None},
                max_episode_steps=self.max_episode_steps,
                progress=sys.stderr.isatty(),
            )
            certificates = {
                TEACHER: certificate_or_none(source.model, source.vec_normalize, source.frame_stack),
                STUDENT: certify(student, vec_normalize=source.vec_normalize),
            }
            self._doubt_bound(certificates[TEACHER])
        console.print(student_table(evaluation, certificates, noise_text))
        if tuned is not None:
            console.print(TUNED if tuned else UNTUNED, soft_wrap=True, highlight=False)
        console.print(f"Written: {', '.join(map(str, written))}", soft_wrap=True, highlight=False)
        if self.track != "disabled":
            self._track(console, source, student, evaluation, certificates, noise)

    def _track(
        self,
        console: Console,
        source: Source,
        student: BaseAlgorithm,
        evaluation: Evaluation,
        certificates: Mapping[str, Certificate | None],
        noise: Disturbance,
    ) -> None:
        config = {
            "shown": self.disturbance,
            "strength": self.strength,
            "disturbance": self.noise or self.disturbance,
        }
        options = {"disturbance": noise, "seed": self.seed, "max_episode_steps": self.max_episode_steps}
        if holds_attack(noise):  # a trace is of one model, an attack's of each its own
            del options["disturbance"]
        job = self.job("distill", source, config, **options)
        files = {"model.zip": self.output, "vecnormalize.pkl": statistics_file(self.output)}
        teacher = Subject(
            TEACHER, None, source.model, source.vec_normalize, source.frame_stack, files_of(source),
            certificate=certificates[TEACHER], name=label(source),
        )  # fmt: skip
        learner = Subject(
            STUDENT, None, student, source.vec_normalize, None, files, certificate=certificates[STUDENT],
            config={"seed": self.seed}, name=self.output.stem,
        )  # fmt: skip
        tell(console, log_distilled(job, evaluation, teacher, learner), self.track)

    def _check_that_it_follows(self, source: Source, shown: Disturbance) -> None:
        normalization = normalization_of(source.model, source.vec_normalize)
        followed(shown, source.model, normalization, source.frame_stack or attached_frames(source.model))

    def _tuned(self, student: BaseAlgorithm, source: Source, shown: Disturbance) -> bool:
        return fine_tune(
            student,
            source.env,
            timesteps=self.fine_tune,
            disturbance=shown,
            strength=self._range(),
            vec_normalize=source.vec_normalize,
            seed=self.seed,
            max_episode_steps=self.max_episode_steps,
        )

    def _noise(self) -> tuple[Disturbance, str]:
        """Of the table, and in words."""
        texts = self.noise or self.disturbance or [SMALL_NOISE]
        strongest = 1.0 if self.noise or not self.disturbance else max(self.strength)
        disturbance = read_mixture(texts)
        assert disturbance is not None
        words = " or ".join(texts)
        if strongest in (0.0, 1.0):
            return disturbance, words
        return disturbance.scaled(strongest), f"{strongest:g} × {words}"

    def _range(self) -> float | tuple[float, float]:
        match self.strength:
            case [number]:
                return number
            case [low, high]:
                return low, high
        raise ValueError(
            f"strength must be one number, or two to draw from between, received {list(self.strength)}."
        )

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
        if self.fine_tune:
            positive_int("fine_tune", self.fine_tune)
            if not self.disturbance:
                raise ValueError(
                    "fine_tune needs a disturbance to train in: pass --disturbance NAME:PARAMETER..."
                )
        if self.output.suffix != ".zip":
            raise ValueError(f"output must end in .zip, as SB3 models do, received {str(self.output)!r}.")
        if self.path.exists() and self.output.exists() and self.output.samefile(self.path):
            raise ValueError(f"output={str(self.output)!r} is the teacher itself. Give another name.")
        check_output(self.output, [self.output, statistics_file(self.output)], self.overwrite)


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
        title=Text(f"{evaluation.metadata['env']}; columns marked 'noise': under {noise}"),
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
