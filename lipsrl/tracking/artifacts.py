"""A model with its certificate and evaluation as one W&B artifact, and which run made it from what."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lipsrl.tracking.config import plain

#: W&B's type of these artifacts.
KIND = "agent"


def agent_artifact(name: str, files: Mapping[str, Path | None], metadata: Mapping[str, Any]) -> Any:
    """An artifact of the files that there are.

    The same files make the same version, whichever run logs them: W&B tells versions by their content.

    Args:
        name: of the agent, with task and training seed.
        files: name in the artifact → where it lies; None, or what is no file, is left out.
        metadata: plain values to show beside it.

    Raises:
        ValueError: none of the files is there.
    """
    import wandb

    there = {key: path for key, path in files.items() if path is not None and path.is_file()}
    if not there:
        raise ValueError(f"the artifact {name!r} would be empty: none of {sorted(map(str, files))} is there.")
    artifact = wandb.Artifact(artifact_name(name), KIND, metadata=plain(metadata))
    for key, path in there.items():
        artifact.add_file(str(path), name=key)
    return artifact


def artifact_name(name: str) -> str:
    """``name`` in the characters that W&B takes, at most 128 of them."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-")[:128] or "agent"


def log_agent(
    run: Any,
    name: str,
    files: Mapping[str, Path | None],
    metadata: Mapping[str, Any] | None = None,
    aliases: Iterable[str] = (),
) -> None:
    """Say that ``run`` made this agent, or learned more about it."""
    run.log_artifact(agent_artifact(name, files, metadata or {}), aliases=["latest", *aliases])


def use_agent(
    run: Any, name: str, files: Mapping[str, Path | None], metadata: Mapping[str, Any] | None = None
) -> None:
    """Say that ``run`` took this agent: the arrow in W&B's lineage, from the run that made it.

    Offline the same is written down, and drawn by ``wandb sync``.
    """
    artifact = agent_artifact(name, files, metadata or {})
    if run.disabled:
        return
    if run.offline:
        # W&B's use_artifact refuses to work offline, but what it does with a new artifact online is this record
        run._log_artifact(artifact, is_user_created=True, use_after_commit=True)
    else:
        run.use_artifact(artifact)
