"""Weights & Biases behind SB3's logger: whatever SB3 records arrives there, offline by default."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import KVWriter

from lipsrl.tracking._start import Mode, start_run
from lipsrl.tracking.names import STEP


class WandbWriter(KVWriter):
    """SB3 ``KVWriter`` that logs scalars to a W&B run of its own; one that is active stays as it is.

    Offline runs need no account and no network and are kept under ``folder/wandb``; ``wandb sync`` uploads them
    later. ``WANDB_*`` variables (project, entity, tags, …) are honoured; ``mode`` wins over ``WANDB_MODE``.

    A run that was started with ``sync_tensorboard=True`` gets all that SB3 writes to TensorBoard already: use that or
    this, not both.

    Args:
        folder: where W&B puts its ``wandb`` directory.
        config: settings to show beside the run; made plain, without absolute paths and secrets
            (:func:`lipsrl.tracking.config.plain`), with versions and git revision.
        name: of the run.
        group, job_type: W&B's own grouping; task/agent, and train, evaluate, distill or attack.
        mode: ``None`` takes ``WANDB_MODE``, or ``"offline"`` where that is not set.
        project: ``None`` takes ``WANDB_PROJECT``, or ``"lipsrl"``.
        run: log to this run instead of a new one; it is not finished by :meth:`close`.
        run_id: of a new run, or of one to go on with: of a training that was cut off. Offline each part has a folder of
            its own under the one id, and ``wandb sync`` makes one run of them.
        last_step: up to which the run that goes on has been logged.

    Raises:
        ValueError: unknown mode; W&B cannot start; a ``run`` that takes the same from TensorBoard.
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
        run: Any = None,
        run_id: str | None = None,
        last_step: int = 0,
    ) -> None:
        self._offset, self._last = 0, last_step
        self._own = run is None
        if run is not None and getattr(run.settings, "sync_tensorboard", False):
            raise ValueError(
                "run= was started with sync_tensorboard=True, which logs all that SB3 writes to TensorBoard: every "
                "value would arrive twice. Leave WandbWriter out, or start the run without."
            )
        self.run = run or start_run(
            folder,
            config,
            name=name,
            group=group,
            job_type=job_type,
            mode=mode,
            project=project,
            run_id=run_id,
        )

    @property
    def last_step(self) -> int:
        """Environment step of the last row, as W&B counts it."""
        return self._last

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Log the scalars of one SB3 dump at environment step ``step``; what is not finite is left out.

        W&B's own step goes on where a second ``learn()`` counts from zero again.
        """
        scalars = {}
        for key, value in key_values.items():
            if "wandb" in (key_excluded.get(key) or ()):
                continue
            # one nan would be all that W&B keeps as the maximum of a curve
            if isinstance(value, (bool, int, float, np.number)) and math.isfinite(value):
                scalars[key] = float(value)
        if step < self._last - self._offset:  # another learn() counts from zero, but W&B drops what goes back
            self._offset = self._last
        self._last = self._offset + step
        if scalars and self._own:
            self.run.log({**scalars, STEP: self._last}, step=self._last)
        elif scalars:  # whose run it is may log more, and W&B's own step never goes back
            self.run.log({**scalars, STEP: self._last})

    def summary(self, values: dict[str, Any]) -> None:
        """Set final values of the run (returns, bounds)."""
        self.run.summary.update(values)

    def close(self) -> None:
        """End the run, unless it was given."""
        if self._own:
            self.run.finish()
