"""Run folders that were measured, in W&B."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from envs import Task
from experiments._filters import shared_task
from lipsrl.certificates import Certificate
from lipsrl.disturbances import GaussianNoise
from lipsrl.evaluation import Evaluation
from lipsrl.tracking import Mode, RunFolder
from lipsrl.tracking.jobs import Subject, Tracked, log_measured

#: What of a training's config says what the agent is.
KEPT = ("algorithm", "policy", "layer", "lipschitz_bound", "disturbance", "timesteps", "feasibility_floor")


def agent_files(folder: RunFolder) -> dict[str, Path | None]:
    """What is the agent: the same for the run that made it and for those that use it."""
    return {"model.zip": folder.model_file, "vecnormalize.pkl": folder.normalization_file}


def log_runs(
    folders: Sequence[RunFolder],
    evaluation: Evaluation,
    certificates: Sequence[Certificate | None],
    task: Task,
    *,
    seed: int,
    track: Mode,
    project: str | None,
) -> None:
    """A W&B run per run folder, and one that compares where there are several agents; nothing where disabled.

    Raises:
        ValueError: some average their actions, and some do not (`shared_task`).
    """
    if track == "disabled":
        return
    subjects = []
    configs = [folder.read_config() for folder in folders]
    for folder, config, certificate in zip(folders, configs, certificates, strict=True):
        model, statistics = folder.load()
        learned: dict[str, Path | None] = {
            "certificate.json": folder.certificate_file,
            "evaluation.parquet": folder.evaluation_file,
            "evaluation.json": folder.evaluation_file.with_suffix(".json"),
        }
        subjects.append(
            Subject(
                config["agent"],
                config["seed"],
                model,
                statistics,
                None,
                agent_files(folder),
                learned,
                certificate,
                {key: config.get(key) for key in KEPT},
            )
        )
    settings: dict[str, Any] = {"env_id": task.env_id, "n_episodes": evaluation.metadata.get("n_episodes")}
    job = Tracked(
        "evaluate", task.name, shared_task(configs).make, Path.cwd(), track, project, settings, GaussianNoise(1.0),
        task.chatter_strength, seed,
    )  # fmt: skip
    for text in log_measured(job, evaluation, subjects):
        print(f"W&B: {text}")
    if track == "offline":
        print("W&B: kept in wandb/; upload with `wandb sync --sync-all`.")
