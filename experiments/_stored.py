"""Whether what a run folder holds is what would be measured now: settings, environment, and the very model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from envs import Task
from lipsrl._episodes import time_limit
from lipsrl.actors.fingerprint import environment_identity
from lipsrl.attacks import MinimumOverAttacks
from lipsrl.disturbances import Disturbance
from lipsrl.evaluation import Evaluation, model_fingerprint
from lipsrl.tracking import RunFolder

#: `evaluate`'s own, which the experiments keep.
_SENSITIVITY_STD = 1e-3


def holds(
    metadata: Mapping[str, Any],
    task: Task,
    disturbances: Mapping[str, Disturbance],
    strengths: Sequence[float],
    episodes: int,
    seed: int,
) -> bool:
    """Whether the episodes asked for are among those of a stored evaluation; the first ones of more are the same.

    Args:
        metadata: of the evaluation.
        task: whose environment the episodes are played in.
        disturbances: name → what is applied, of nominal strength. Attacks are compared by name: their settings are told
            in other words from one release to the next.
        strengths: that multiply them.
        episodes: per disturbance and strength.
        seed: of the episodes.
    """
    known = metadata.get("disturbances")
    if isinstance(disturbances, MinimumOverAttacks):
        same = set(known or ()) == set(disturbances)
    else:
        same = known == {name: each.to_dict() for name, each in disturbances.items()}
    return (
        same
        and metadata.get("n_episodes", 0) >= episodes
        and metadata.get("seed") == seed
        and metadata.get("strengths") == list(strengths)
        and np.array_equal(metadata.get("sensitivity_std", _SENSITIVITY_STD), _SENSITIVITY_STD)
        and _played_in(metadata, task)
    )


def specification(task: Task) -> Any:
    """What an evaluation's metadata says of the environment, ``env_spec``."""
    env = task.make()
    try:
        return environment_identity(env)
    finally:
        env.close()


def _played_in(metadata: Mapping[str, Any], task: Task) -> bool:
    env = task.make()
    try:
        own = {"env_spec": environment_identity(env), "max_episode_steps": time_limit(env)}
    finally:
        env.close()
    return all(metadata.get(name, value) == value for name, value in own.items())


def of_model(evaluation: Evaluation, fingerprint: str | None) -> bool:
    """Whether it played the model of ``fingerprint``, or the one agent of the evaluation cannot be recognised."""
    known = set(evaluation.fingerprints.values())
    return not known or None in known or fingerprint is None or known == {fingerprint}


def check_source(folder: RunFolder, source: RunFolder) -> None:
    """Refuse what was made of another model than the one that lies in ``source`` now.

    Raises:
        ValueError: it was. Folders that do not say of which they were made (until 2026-12) pass, as do those whose
            source is not there.
    """
    made_of = folder.read_config().get("made_of") if folder.config_file.is_file() else None
    if made_of and source.config_file.is_file() and made_of != model_fingerprint(*source.load()):
        raise ValueError(
            f"{folder.path} was made of another model than the one in {source.path} now. Remove {folder.path}, or "
            "give another --output."
        )


def files_of(folder: Path) -> dict[str, str]:
    """SHA-256 of the model and the normalisation in a run folder, those that are there."""
    run = RunFolder(folder)
    files = {"model": run.model_file, "normalization": run.normalization_file}
    return {
        name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items() if file.is_file()
    }
