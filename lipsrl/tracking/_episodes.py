"""A few clean and noisy episodes while an agent learns."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from lipsrl._threads import one_thread
from lipsrl._validation import positive_int
from lipsrl.actors.normalization import normalization_of
from lipsrl.disturbances import Disturbance, parse_disturbance
from lipsrl.evaluation._controller import Controller
from lipsrl.evaluation._environments import EnvironmentSource, EnvLike
from lipsrl.evaluation._measure import fluctuation
from lipsrl.evaluation._request import check_disturbances
from lipsrl.evaluation._rollout import QUANTITIES, Task, run_episodes
from lipsrl.evaluation._seeding import check_seed


class Episodes:
    """The same episodes every time, clean and disturbed, side by side: those that ``lipsrl.evaluate`` counts.

    Args:
        env: an id, a factory or an environment, as for :func:`lipsrl.evaluate`.
        disturbance: of raw observations, or its text; None: clean episodes only.
        n_episodes: of each kind.
        seed: of the episodes and the disturbance.
        max_episode_steps: truncates them.

    Raises:
        ValueError, TypeError: as :func:`lipsrl.evaluate`.
    """

    def __init__(
        self,
        env: EnvLike,
        disturbance: Disturbance | str | None,
        n_episodes: int,
        seed: int,
        max_episode_steps: int | None,
    ) -> None:
        self.disturbance = parse_disturbance(disturbance) if isinstance(disturbance, str) else disturbance
        self.n_episodes, self.seed = positive_int("n_episodes", n_episodes), check_seed(seed)
        self._source = EnvironmentSource.of(env, max_episode_steps)
        self._environments: list[Any] = []

    def controller(self, model: BaseAlgorithm) -> Controller:
        """``model`` as it acts now, normalised as its own environment normalises now.

        Raises:
            ValueError: observations or actions of another environment.
        """
        if not self._environments:
            kinds = 1 if self.disturbance is None else 2
            self._environments = self._source.make(kinds * self.n_episodes)
        first = self._environments[0]
        controller = Controller(model, first, normalization_of(model, None), "the model in training")
        check_disturbances([self.disturbance], first, [controller])
        return controller

    def run(self, model: BaseAlgorithm) -> dict[str, float]:
        """Mean return and fluctuation of both kinds; ``nan`` where an episode was not finite."""
        with one_thread():
            controller = self.controller(model)
            faced = None if self.disturbance is None else controller.disturbance_for_model(self.disturbance)
            kinds = ("clean",) if faced is None else ("clean", "noisy")
            tasks = [Task(float(kind), i) for kind in range(len(kinds)) for i in range(self.n_episodes)]
            # clean is strength 0, noisy 1: both in one sweep, for half the forwards
            rollout = run_episodes(controller, self._environments, tasks, faced, self.seed, tuple(QUANTITIES))
            done = list(rollout)
        found = {}
        for kind, name in enumerate(kinds):
            mine = [episode for episode in done if episode.task.strength == kind]
            broken = any(episode.nonfinite for episode in mine)
            returns = [float(episode.rewards.sum()) for episode in mine]
            moves = [fluctuation(episode.actions, controller.action_space) for episode in mine]
            found[f"{name}_return"] = float("nan") if broken else float(np.mean(returns))
            found[f"{name}_action_fluctuation"] = float("nan") if broken else float(np.mean(moves))
        return found

    def close(self) -> None:
        """Close what was made; the next run makes it again."""
        self._source.close(self._environments)
        self._environments = []
