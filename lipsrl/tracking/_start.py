"""Starting a W&B run that says nothing of the machine it runs on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lipsrl._validation import unknown_name
from lipsrl.tracking._labels import check_project
from lipsrl.tracking.config import run_config
from lipsrl.tracking.define import define_metrics

#: Of Weights & Biases: sent at once, kept on the disk, or not written.
Mode = Literal["online", "offline", "disabled"]
#: All of them.
MODES: tuple[Mode, ...] = ("online", "offline", "disabled")


def project_of(project: str | None) -> str:
    """``project``, else WANDB_PROJECT, else lipsrl.

    Raises:
        ValueError: no name that W&B takes.
    """
    return check_project(project or os.environ.get("WANDB_PROJECT") or "lipsrl")


def start_run(
    folder: str | Path,
    config: Mapping[str, Any],
    *,
    name: str,
    group: str | None,
    job_type: str | None,
    mode: Mode | None,
    project: str | None,
    run_id: str | None = None,
) -> Any:
    """A W&B run of its own; one that is active goes on beside it. Arguments as of ``WandbWriter``.

    Raises:
        ValueError: unknown mode, no name of a project; W&B cannot start, and why.
    """
    chosen = mode or os.environ.get("WANDB_MODE") or "offline"
    if chosen not in (*MODES, "dryrun", "shared"):
        raise unknown_name("track", chosen, MODES)
    name_of_project = project_of(project)
    # W&B takes a checkout's own `agents` folder for an LLM framework of that name and advertises for it
    os.environ.setdefault("WANDB_DISABLE_WEAVE", "true")
    import wandb  # seconds to import: only a run that tracks pays for it

    Path(folder).mkdir(parents=True, exist_ok=True)
    if wandb.run is None:
        # an earlier run with sync_tensorboard=True, ended since, has left TensorBoard's writers wired to the next one
        from wandb.integration.tensorboard import unpatch

        unpatch()
    settings = wandb.Settings(
        console="off",
        silent=True,
        # program, arguments, host, user, git remote; the list of packages names where editable ones lie
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        disable_git=True,
        save_code=False,
        host="",
        program="",
    )
    try:
        run = wandb.init(
            dir=str(folder),
            config=run_config(config),
            name=name,
            group=group,
            job_type=job_type,
            mode=chosen,  # type: ignore[arg-type]
            project=name_of_project,
            settings=settings,
            id=run_id,
            resume=None if run_id is None else "allow",
            reinit=None if wandb.run is None else "create_new",  # a run of the user's own goes on beside it
        )
    except (wandb.errors.UsageError, wandb.errors.CommError) as error:
        raise ValueError(
            f"W&B does not start: {' '.join(str(error).split())} Log in (wandb login, or WANDB_API_KEY), or track "
            "offline: --track offline."
        ) from error
    define_metrics(run)
    return run
