"""A progress bar with the time that remains, for a terminal and for a log file."""

from __future__ import annotations

import sys
import time
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from tqdm import tqdm


class ProgressCallback(BaseCallback):
    """Steps done, rate, time left and the last mean return. In a log file: one line every 15 seconds."""

    def __init__(self, timesteps: int, label: str, enabled: bool = True) -> None:
        super().__init__()
        self.timesteps = timesteps
        self.label = label
        self.enabled = enabled
        self._bar: Any = None
        self._begun = self._last = 0.0
        self._first = 0

    def _on_training_start(self) -> None:
        self._begun = self._last = time.perf_counter()
        self._first = self.num_timesteps  # of a training that goes on
        if self.enabled and sys.stderr.isatty():
            self._bar = tqdm(
                total=self.timesteps, initial=self._first, desc=self.label, unit="step", unit_scale=True,
                dynamic_ncols=True,
            )  # fmt: skip

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        infos = self.model.ep_info_buffer
        mean = sum(info["r"] for info in infos) / len(infos) if infos else float("nan")
        done = min(self.num_timesteps, self.timesteps)
        now = time.perf_counter()
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
            self._bar.set_postfix_str(f"return {mean:.0f}")
        elif self.enabled and now - self._last > 15:
            self._last = now
            left = (now - self._begun) / max(done - self._first, 1) * (self.timesteps - done)
            print(
                f"{self.label}: {done / self.timesteps:4.0%}, return {mean:.0f}, {left:.0f} s left",
                flush=True,
            )

    def _on_training_end(self) -> None:
        if self._bar is not None:
            self._bar.close()
