"""What the wrappers around Gymnasium's vector environments share: where each environment's episode begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import VectorWrapper
from numpy.typing import NDArray

from lipsrl.wrappers._layers import below, tell_below
from lipsrl.wrappers._streams import EpisodeStreams

if TYPE_CHECKING:
    _Wrapper = VectorWrapper[Any, Any, Any, Any, Any]
else:
    _Wrapper = VectorWrapper  # generic since gymnasium 1.4; SB3 2.8 asks for one below 1.3


class VectorDisturbance(_Wrapper):
    """Episodes of the streams under each of Gymnasium's three autoreset modes."""

    streams: EpisodeStreams
    _ended: NDArray[np.bool_]  # environments whose next step is a reset (autoreset mode NextStep)

    @property
    def _autoreset(self) -> str:
        mode = self.env.metadata.get("autoreset_mode", "NextStep")  # Gymnasium 1.0 knows only this one
        return str(getattr(mode, "value", mode))

    def set_disturbance_progress(self, progress: float) -> None:
        """Tell a schedule of the strength how far training is, 0 … 1; further vector wrappers inside hear it too."""
        self.streams.progress = progress
        tell_below(self, progress)

    def _reset_env(
        self, seed: int | Sequence[int | None] | None, options: dict[str, Any] | None
    ) -> tuple[Any, dict[str, Any], NDArray[np.intp]]:
        """Reset the environments that ``options["reset_mask"]`` names (all without it) and their streams.

        Returns:
            observations, infos and the indices of the environments that were reset.
        """
        mask = (options or {}).get("reset_mask")  # the environment takes it out of the dict
        reset = np.arange(self.num_envs) if mask is None else np.flatnonzero(mask)
        observations, infos = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        seeds = [seed] * self.num_envs if seed is None else seed
        if isinstance(seeds, int | np.integer):
            seeds = [int(seeds) + index for index in range(self.num_envs)]
        for index in reset.tolist():
            self.streams.begin(index, seeds[index])
        if mask is None:
            self._ended = np.zeros(self.num_envs, dtype=np.bool_)
        else:
            self._ended[reset] = False
        return observations, infos, reset

    def _mark(self, done: NDArray[np.bool_]) -> None:
        """Remember which episodes ended in this step."""
        self._ended = done if self._autoreset == "NextStep" else np.zeros_like(done)


def environments_of(env: Any) -> list[Any]:
    """The environments inside a vector environment, as far as they are in this process."""
    inner = env
    for layer in below(env):
        inner = layer.env
    return list(getattr(inner, "envs", []))
