"""A moving K that knows what the agent earns, and can put the agent back."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from lipsrl._validation import positive_int
from lipsrl.policies._moving_bound import MovingBound
from lipsrl.policies._same_episodes import SameEpisodes, Snapshot

#: The mean of so many episodes counts, and fewer than that say nothing yet. SB3 keeps a hundred, which lag behind K.
NEWEST, FEWEST = 20, 10


class MeasuredBound(MovingBound):
    """A callback that moves K by the return: of the same episodes in ``eval_env``, or of the newest training episodes.

    Args:
        eval_env, n_eval_episodes: of :class:`~lipsrl.policies._same_episodes.SameEpisodes`.
    """

    def __init__(
        self, eval_env: gym.Env[Any, Any] | VecEnv | None, n_eval_episodes: int, verbose: int = 0
    ) -> None:
        super().__init__(verbose)
        self.eval_env, self.n_eval_episodes = eval_env, positive_int("n_eval_episodes", n_eval_episodes)
        self._episodes: SameEpisodes | None = None
        self._good: tuple[float, Snapshot] | None = None

    def _init_callback(self) -> None:
        self._good = None  # of another training
        if self.eval_env is not None:
            self._episodes = SameEpisodes(self.model, self.eval_env, self.n_eval_episodes)

    def _return(self) -> float | None:
        """Mean return; ``None``: too few episodes to say."""
        if self._episodes is not None:
            return self._episodes.mean_return(self.model)
        episodes = [info["r"] for info in list(self.model.ep_info_buffer or ())[-NEWEST:]]
        return float(np.mean(episodes)) if len(episodes) >= FEWEST else None

    def _remember(self) -> None:
        """The agent as it is, whose return is kept; where the return is more than luck."""
        if self._episodes is not None:
            self._good = self._bound(), Snapshot(self.model)

    def _put_back(self) -> None:
        """The agent that was remembered, again, and its K."""
        if self._good is not None:
            bound, agent = self._good
            self._move(bound)  # first: with another K the same weights are another function
            agent.restore(self.model)
