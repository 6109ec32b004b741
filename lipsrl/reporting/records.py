"""What a report shows of each policy itself: an episode, its sensors, its portrait, its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from lipsrl.actors.normalization import NormalizeLike
from lipsrl.disturbances import Disturbance, parse_disturbance
from lipsrl.evaluation import rollout_trace
from lipsrl.evaluation._environments import EnvLike
from lipsrl.reporting.portrait import Portrait, phase_portrait, sensitivities
from lipsrl.reporting.progress import read_progress


class Records:
    """Collected model by model; of several training seeds of one agent the first stands for it.

    Args:
        disturbance: of the recorded episode, or its text.
        strength: multiplies it.
        seed: of the episode: every agent has the same start and the same noise.
        max_episode_steps: as `lipsrl.evaluate`.
    """

    def __init__(
        self,
        disturbance: Disturbance | str,
        strength: float,
        *,
        seed: int = 0,
        max_episode_steps: int | None = None,
    ) -> None:
        self.disturbance = parse_disturbance(disturbance) if isinstance(disturbance, str) else disturbance
        self.strength, self.seed, self.max_episode_steps = strength, seed, max_episode_steps
        self.traces: dict[str, dict[str, Any]] = {}
        self.portraits: dict[str, Portrait] = {}
        self.sensitivities: dict[str, list[float]] = {}
        self.learning: dict[str, list[pd.DataFrame]] = {}

    def add(
        self,
        agent: str,
        model: Any,
        env: EnvLike,
        *,
        vec_normalize: NormalizeLike = None,
        frame_stack: int | None = None,
        folder: Path | None = None,
    ) -> None:
        """Record one model; ``folder`` is where the log of its training may be.

        Raises:
            ValueError, TypeError, NonFiniteError, EndlessEpisodeError: as `lipsrl.evaluation.rollout_trace`.
        """
        progress = None if folder is None else read_progress(folder)
        if progress is not None:
            self.learning.setdefault(agent, []).append(progress)
        if agent in self.traces:
            return
        read: dict[str, Any] = {"vec_normalize": vec_normalize, "frame_stack": frame_stack}
        trace = rollout_trace(
            model,
            env,
            disturbance=self.disturbance,
            strength=self.strength,
            seed=self.seed,
            max_episode_steps=self.max_episode_steps,
            **read,
        )
        self.traces[agent] = trace | {"disturbance": self.disturbance.name, "strength": self.strength}
        self.sensitivities[agent] = sensitivities(model, env, trace, **read)
        portrait = phase_portrait(model, env, **read)
        if portrait is not None:
            self.portraits[agent] = portrait

    def parts(self) -> dict[str, Any]:
        """The arguments of `lipsrl.reporting.write_report` that are in here."""
        return {
            "traces": self.traces,
            "portraits": self.portraits,
            "sensitivities": self.sensitivities,
            "learning": self.learning,
        }
