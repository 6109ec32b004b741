"""What the commands that log to W&B share."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from lipsrl._commands._source import Source, unique_keys
from lipsrl.certificates import Certificate, certify
from lipsrl.disturbances import Disturbance
from lipsrl.evaluation import Evaluation
from lipsrl.tracking import Mode
from lipsrl.tracking._start import project_of
from lipsrl.tracking.jobs import Subject, Tracked, log_measured
from lipsrl.tracking.names import Job


@dataclass(kw_only=True)
class Tracking:
    """Where results go besides the terminal."""

    track: Mode = "disabled"
    """Weights & Biases mode: online, offline (stored in ./wandb until you run `wandb sync`) or disabled."""
    project: str | None = None
    """W&B project. Default: the environment variable WANDB_PROJECT, or lipsrl."""

    def check_tracking(self) -> None:
        """What can be known to fail before anything is measured.

        Raises:
            ValueError: runs are to be logged, and W&B takes no project of this name.
        """
        if self.track != "disabled":
            project_of(self.project)

    def job(self, kind: Job, source: Source, config: Mapping[str, Any], **options: Any) -> Tracked:
        """What all W&B runs of the command share; ``options`` are further fields of `Tracked`."""
        return Tracked(
            kind, task_of(source), source.env, Path.cwd(), self.track, self.project,
            {"env_id": source.env_id, **({"env_kwargs": source.env_kwargs} if source.env_kwargs else {}), **config},
            **options,
        )  # fmt: skip

    def log(
        self,
        console: Console,
        kind: Job,
        sources: Sequence[Source],
        evaluation: Evaluation,
        config: Mapping[str, Any],
        **options: Any,
    ) -> None:
        """Certify the models, and log them with their evaluation; nothing where W&B is disabled."""
        if self.track == "disabled":
            return
        with tempfile.TemporaryDirectory() as folder:
            subjects = [
                subject(source, agent, seed, evaluation, Path(folder))
                for source, (agent, seed) in zip(sources, unique_keys(list(sources)), strict=True)
            ]
            said = log_measured(self.job(kind, sources[0], config, **options), evaluation, subjects)
        tell(console, said, self.track)


def subject(source: Source, agent: str, seed: int | None, evaluation: Evaluation, folder: Path) -> Subject:
    """``source`` with its certificate and its part of the evaluation, whose files are written to ``folder``."""
    frame = evaluation.frame[evaluation.frame["agent"] == agent]
    frame = frame if seed is None else frame[frame["seed"] == seed]
    own = folder / f"{len(list(folder.iterdir()))}"
    table = Evaluation(frame, evaluation.metadata).save(own / "evaluation.parquet")
    learned: dict[str, Path | None] = {
        "evaluation.parquet": table, "evaluation.json": table.with_suffix(".json"),
    }  # fmt: skip
    certificate = certificate_of(source)
    if certificate is not None:
        learned["certificate.json"] = own / "certificate.json"
        certificate.save(own / "certificate.json")
    return Subject(
        agent, seed, source.model, source.vec_normalize, source.frame_stack, files_of(source), learned, certificate
    )  # fmt: skip


def label(source: Source) -> str:
    """Name and training seed: what the artifact of its training is called."""
    return source.name if source.seed is None else f"{source.name}-{source.seed}"


def files_of(source: Source) -> dict[str, Path | None]:
    """The model as it was opened, and its statistics."""
    if source.agent is None:
        return {}
    return {"model.zip": source.agent.file, "vecnormalize.pkl": source.agent.statistics}


def task_of(source: Source) -> str:
    """The task as its training calls it, so that all jobs of an agent are one group; else the environment's id."""
    config = None if source.agent is None else source.agent.file.parent / "config.json"
    if config is not None and config.is_file():
        named = json.loads(config.read_text(encoding="utf-8")).get("task")
        if isinstance(named, str) and named:
            return named
    return str(source.env_id)


def certificate_of(source: Source) -> Certificate | None:
    """None where the network cannot be bounded: what is measured need not be certifiable."""
    try:
        return certify(source.model, vec_normalize=source.normalization, frame_stack=source.frame_stack)
    except ValueError:
        return None


def shown(disturbances: Any, strengths: Sequence[float]) -> dict[str, Any]:
    """Fields of `Tracked`: the first disturbance, at its smallest strength above 0; none for attacks and images."""
    from lipsrl.attacks._aim import holds_attack
    from lipsrl.disturbances import parse_disturbance

    first = disturbances[0] if isinstance(disturbances, list) else disturbances
    disturbance = parse_disturbance(first) if isinstance(first, str) else first
    if not isinstance(disturbance, Disturbance) or holds_attack(disturbance):
        return {}
    return {"disturbance": disturbance, "strength": min((s for s in strengths if s > 0), default=0.0)}


def tell(console: Console, said: Sequence[str], track: Mode) -> None:
    """What was left out, and where the runs are."""
    for text in dict.fromkeys(said):
        console.print(f"W&B: {text}", soft_wrap=True, highlight=False, markup=False)
    if track == "offline":
        console.print(
            "W&B: kept in wandb/; upload with `wandb sync --sync-all`.", soft_wrap=True, highlight=False
        )
