from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lipsrl._validation import positive_int
from lipsrl.evaluation._controller import Controller
from lipsrl.evaluation._environments import EnvironmentSource, EnvLike
from lipsrl.evaluation._observations import Observations, count
from lipsrl.evaluation._rollout import Task, run_episodes
from lipsrl.evaluation._seeding import check_seed


def random_return(
    env: EnvLike, *, n_episodes: int = 50, seed: int = 0, max_episode_steps: int | None = None
) -> float:
    """Mean return of uniformly random actions: the floor from which `normalized_auc` measures.

    The episodes are those of `evaluate` with the same seed.

    Args:
        env: id, factory or environment.
        n_episodes: how many to average.
        seed: of the episodes and of the actions (``env.action_space.seed``).
        max_episode_steps: as `evaluate`.

    Raises:
        ValueError, TypeError, EndlessEpisodeError: as `evaluate`.

    Example:
        >>> from lipsrl.evaluation import random_return
        >>> -1500 < random_return("Pendulum-v1", n_episodes=10) < -900
        True
    """
    source = EnvironmentSource.of(env, max_episode_steps)
    (environment,) = source.make(1)
    actions = environment.action_space
    actions.seed(check_seed(seed))

    def policy(observations: Observations) -> NDArray[Any]:
        # one draw per call: the evaluator's idle rows must not cost a draw each
        return np.broadcast_to(np.asarray(actions.sample()), (count(observations), *(actions.shape or ())))

    try:
        controller = Controller(policy, environment, None, "the random policy")
        tasks = [Task(0.0, number) for number in range(positive_int("n_episodes", n_episodes))]
        returns = [e.rewards.sum() for e in run_episodes(controller, [environment], tasks, None, seed)]
        return float(np.mean(returns))
    finally:
        source.close([environment])
