"""What the measuring commands log: a W&B run per agent and training seed, and one that sets several side by side."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lipsrl.certificates import Certificate
from lipsrl.distillation import TEACHER, Frontier
from lipsrl.disturbances import Disturbance
from lipsrl.evaluation import EndlessEpisodeError, Evaluation, NonFiniteError, rollout_trace
from lipsrl.evaluation._environments import EnvLike
from lipsrl.tracking._start import Mode, start_run
from lipsrl.tracking._tables import certificate_numbers, certificate_table, sensor_table
from lipsrl.tracking.actions import log_actions, log_clip
from lipsrl.tracking.artifacts import log_agent, use_agent
from lipsrl.tracking.config import model_config
from lipsrl.tracking.evaluation_log import line_chart, log_evaluation, table_of
from lipsrl.tracking.names import Job

#: Alias of the version of an artifact that a job adds.
DONE: dict[Job, str] = {
    "train": "trained",
    "evaluate": "evaluated",
    "distill": "distilled",
    "attack": "attacked",
}


@dataclass(frozen=True)
class Subject:
    """A model that was measured, with what belongs to it.

    Attributes:
        agent: its name in the evaluation.
        seed: of its training, as in the evaluation; None if not known.
        model: what acts.
        vec_normalize, frame_stack: as for ``lipsrl.evaluate``.
        files: name in the artifact → where it lies: the model and its statistics, as they were before this job.
        learned: the same of what the job adds: certificate, evaluation.
        certificate: a :class:`lipsrl.Certificate`, its ``to_dict()``, or None.
        config: more settings, which win over those read from the model.
        name: of its artifact, if not agent and seed.
    """

    agent: str
    seed: int | None
    model: Any
    vec_normalize: Any = None
    frame_stack: int | None = None
    files: Mapping[str, Path | None] = field(default_factory=dict)
    learned: Mapping[str, Path | None] = field(default_factory=dict)
    certificate: Any = None
    config: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def label(self) -> str:
        """Name and seed."""
        return self.agent if self.seed is None else f"{self.agent}-{self.seed}"

    @property
    def certified(self) -> dict[str, Any] | None:
        """The certificate with agent and seed beside it."""
        if self.certificate is None:
            return None
        row = self.certificate if isinstance(self.certificate, Mapping) else self.certificate.to_dict()
        return {**row, "agent": self.agent, "seed": self.seed}

    def settings(self) -> dict[str, Any]:
        """Plain values for the run's config."""
        found = {**model_config(self.model), **self.config, "agent": self.agent}
        return found if self.seed is None else {**found, "seed": self.seed}


@dataclass(frozen=True)
class Tracked:
    """What all runs of one command share.

    Attributes:
        kind: W&B's job type.
        task: name of the task, for the group; the environment's id where it has no other.
        env: as for ``lipsrl.evaluate``.
        folder: where offline runs are kept, in ``wandb/``.
        mode, project: as of ``WandbWriter``.
        config: settings of the command.
        disturbance, strength: under which actions are shown; None: none are.
        seed: of the evaluation.
        max_episode_steps: truncates the episode that is shown.
    """

    kind: Job
    task: str
    env: EnvLike
    folder: Path
    mode: Mode
    project: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    disturbance: Disturbance | None = None
    strength: float = 1.0
    seed: int = 0
    max_episode_steps: int | None = None

    @contextmanager
    def run(self, who: str, group: str, config: Mapping[str, Any]) -> Iterator[Any]:
        """A W&B run of this job, finished afterwards (as failed where something went wrong)."""
        begun = {
            "evaluation_seed": self.seed,
            "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        run = start_run(
            self.folder, {"task": self.task, **self.config, **begun, **config},
            name=f"{self.kind}-{who}-{self.task}", group=f"{self.task}/{group}", job_type=self.kind,
            mode=self.mode, project=self.project,
        )  # fmt: skip
        try:
            yield run
        except BaseException:
            run.finish(exit_code=1)
            raise
        run.finish()

    def artifact(self, subject: Subject) -> str:
        """The name of a subject's artifact, the same in every job."""
        return f"{self.task}-{subject.name or subject.label}"

    def traces(self, subjects: Sequence[Subject]) -> tuple[dict[str, Any], list[str]]:
        """One episode of each agent (its first training seed), same start and noise; and what is missing, in words."""
        found: dict[str, Any] = {}
        said = []
        for subject in subjects:
            if subject.agent in found or self.disturbance is None:
                continue
            try:
                found[subject.agent] = rollout_trace(
                    subject.model, self.env, disturbance=self.disturbance, strength=self.strength, seed=self.seed,
                    vec_normalize=subject.vec_normalize, frame_stack=subject.frame_stack,
                    max_episode_steps=self.max_episode_steps,
                )  # fmt: skip
            except (NonFiniteError, EndlessEpisodeError) as error:  # the table has what there is of it
                said.append(f"no actions of {subject.label}: {error}")
        return found, said


def log_trained(run: Any, name: str, certificate: Certificate, files: Mapping[str, Path | None]) -> None:
    """What a training ends with: the certificate, and the agent as an artifact.

    Args:
        run: of the training.
        name: of the artifact; :meth:`Tracked.artifact` of those who will use it.
        files: as of :attr:`Subject.files`.
    """
    row = {**certificate.to_dict(), "agent": name, "seed": None}
    run.log(
        {
            "tables/certificate": table_of(certificate_table([row])),
            "tables/sensors": table_of(sensor_table([row])),
        }
    )
    numbers = certificate_numbers(certificate)
    run.summary.update(numbers)
    log_agent(run, name, files, numbers, [DONE["train"]])


def log_measured(job: Tracked, evaluation: Evaluation, subjects: Sequence[Subject]) -> list[str]:
    """A run per subject, in the group task/agent; of several agents one more, in task/comparison, with all.

    Returns:
        What was left out, in words.
    """
    traces, said = job.traces(subjects)
    several = len({subject.agent for subject in subjects}) > 1
    for subject in subjects:
        with job.run(subject.label, subject.agent, subject.settings()) as run:
            if subject.files:
                use_agent(run, job.artifact(subject), subject.files)
            own = Evaluation(_rows(evaluation, subject), evaluation.metadata)
            certified = subject.certified
            log_evaluation(own, [certified] if certified else None, run)
            mine = {name: trace for name, trace in traces.items() if name == subject.agent}
            if mine and subject is next(s for s in subjects if s.agent == subject.agent):
                log_actions(run, mine)
                if not several:
                    said.append(log_clip(run, job.env, mine, seed=job.seed))
            if subject.files:
                numbers = certificate_numbers(certified) if certified else {}
                clean = own.frame.loc[own.frame["strength"] == 0, "return"]
                known = {"robustness/clean_return": float(clean.mean())} if len(clean) else {}
                files = {**subject.files, **subject.learned}
                log_agent(run, job.artifact(subject), files, {**numbers, **known}, [DONE[job.kind]])
    if several:
        names = list(dict.fromkeys(subject.agent for subject in subjects))
        with job.run("comparison", "comparison", {"agents": names}) as run:
            certified_rows = [row for subject in subjects if (row := subject.certified) is not None]
            log_evaluation(evaluation, certified_rows, run)
            if traces:
                log_actions(run, traces)
                said.append(log_clip(run, job.env, traces, seed=job.seed))
    return [text for text in said if text]


def log_distilled(job: Tracked, evaluation: Evaluation, teacher: Subject, student: Subject) -> list[str]:
    """One run: the student's, which used the teacher.

    Returns:
        What was left out, in words.
    """
    name = student.name or student.label
    with job.run(name, name, student.settings() | {"agent": name, "teacher": teacher.name}) as run:
        if teacher.files:
            use_agent(run, job.artifact(teacher), teacher.files)
        certified = [row for one in (teacher, student) if (row := one.certified) is not None]
        log_evaluation(evaluation, certified, run, agent=student.agent)
        traces, said = job.traces([teacher, student])
        if traces:
            log_actions(run, traces)
            said.append(log_clip(run, job.env, traces, seed=job.seed))
        numbers = certificate_numbers(student.certified) if student.certified else {}
        log_agent(
            run, job.artifact(student), {**student.files, **student.learned}, numbers, [DONE["distill"]]
        )
    return [text for text in said if text]


def log_frontier(job: Tracked, found: Frontier, teacher: Subject) -> None:
    """One run: what each K costs in return, over all students."""
    table = found.table()
    lines: dict[str, tuple[list[float], list[float]]] = {}
    students = table[table["lipschitz_bound"].notna() & table["return"].notna()]
    key: Any
    for key, rows in students.groupby(["strength", "noise_level", "history"]):
        strength, level, history = (float(value) for value in key)
        words = [f"strength {strength:g}"]
        words += [f"shown {level:g}"] if level else []
        words += [f"history {history:g}"] if history else []
        ordered = rows.sort_values("lipschitz_bound")
        lines[", ".join(words)] = (ordered["lipschitz_bound"].tolist(), ordered["return"].tolist())
    certificates = {TEACHER: found.teacher_certificate} | {s.name: s.certificate for s in found.students}
    with job.run(f"frontier-{teacher.name}", "frontier", {"teacher": teacher.name}) as run:
        if teacher.files:
            use_agent(run, job.artifact(teacher), teacher.files)
        log_evaluation(found.evaluation, certificates, run)
        logged = {"tables/frontier": table_of(table)}
        chart = line_chart(lines, "return over K", "K (action per policy unit)")
        run.log(logged if chart is None else {**logged, "curves/frontier": chart})


def _rows(evaluation: Evaluation, subject: Subject) -> Any:
    frame = evaluation.frame
    mine = frame["agent"] == subject.agent
    return frame[mine] if subject.seed is None else frame[mine & (frame["seed"] == subject.seed)]
