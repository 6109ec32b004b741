"""Weights & Biases behind SB3's logger: whatever SB3 records arrives there, offline by default."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from stable_baselines3.common.logger import KVWriter

from lipsrl._validation import unknown_name

Mode = Literal["online", "offline", "disabled"]
MODES: tuple[Mode, ...] = ("online", "offline", "disabled")


class WandbWriter(KVWriter):
    """SB3 ``KVWriter`` that logs scalars to a W&B run of its own; one that is active stays as it is.

    Offline runs need no account and no network and are kept under ``folder/wandb``; ``wandb sync`` uploads them
    later. ``WANDB_*`` variables (project, entity, tags, …) are honoured; ``mode`` wins over ``WANDB_MODE``.

    Args:
        folder: where W&B puts its ``wandb`` directory.
        config: settings to show beside the run; plain JSON types.
        name: of the run.
        group, job_type: W&B's own grouping.
        mode: ``None`` takes ``WANDB_MODE``, or ``"offline"`` where that is not set.
        project: ``None`` takes ``WANDB_PROJECT``, or ``"lipsrl"``.

    Raises:
        ValueError: unknown mode.
    """

    def __init__(
        self,
        folder: str | Path,
        config: dict[str, Any],
        *,
        name: str,
        group: str | None = None,
        job_type: str | None = None,
        mode: Mode | None = None,
        project: str | None = None,
    ) -> None:
        chosen = mode or os.environ.get("WANDB_MODE") or "offline"
        if chosen not in (*MODES, "dryrun", "shared"):
            raise unknown_name("track", chosen, MODES)
        # W&B takes a checkout's own `agents` folder for an LLM framework of that name and advertises for it
        os.environ.setdefault("WANDB_DISABLE_WEAVE", "true")
        import wandb  # seconds to import: only a run that tracks pays for it

        Path(folder).mkdir(parents=True, exist_ok=True)
        self._offset = self._last = 0
        try:
            self.run = wandb.init(
                dir=str(folder),
                config=config,
                name=name,
                group=group,
                job_type=job_type,
                mode=chosen,  # type: ignore[arg-type]
                project=project or os.environ.get("WANDB_PROJECT") or "lipsrl",
                settings=wandb.Settings(console="off", silent=True),
                reinit=None
                if wandb.run is None
                else "create_new",  # a run of the user's own goes on beside it
            )
        except wandb.errors.UsageError as error:
            raise ValueError(
                f"W&B does not start: {' '.join(str(error).split())} Log in (wandb login, or WANDB_API_KEY), or track "
                "offline: --track offline."
            ) from error

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Log the scalars of one SB3 dump at environment step ``step``.

        W&B's own step goes on where a second ``learn()`` counts from zero again.
        """
        scalars = {}
        for key, value in key_values.items():
            if "wandb" in (key_excluded.get(key) or ()):
                continue
            if isinstance(value, (bool, int, float, np.number)):
                scalars[key] = float(value)
        if step < self._last - self._offset:  # another learn() counts from zero, but W&B drops what goes back
            self._offset = self._last
        self._last = self._offset + step
        if scalars:
            self.run.log(scalars, step=self._last)

    def summary(self, values: dict[str, Any]) -> None:
        """Set final values of the run (returns, bounds)."""
        self.run.summary.update(values)

    def close(self) -> None:
        """End the run."""
        self.run.finish()
