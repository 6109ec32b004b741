from __future__ import annotations

from typing import Any

import numpy as np

from lipsrl._threads import one_thread
from lipsrl.actors.normalization import NormalizeLike, normalization_of
from lipsrl.disturbances import Disturbance
from lipsrl.disturbances._parameters import nonnegative_number
from lipsrl.evaluation._controller import Controller
from lipsrl.evaluation._environments import EnvironmentSource, EnvLike, time_step
from lipsrl.evaluation._measure import fluctuation
from lipsrl.evaluation._request import check_disturbances, read_disturbance
from lipsrl.evaluation._rollout import Task, run_episodes
from lipsrl.evaluation._seeding import check_seed


def rollout_trace(
    model: Any,
    env: EnvLike,
    *,
    disturbance: Disturbance | str | None = None,
    strength: float = 1.0,
    seed: int = 0,
    episode: int = 0,
    vec_normalize: NormalizeLike = None,
    frame_stack: int | None = None,
    max_episode_steps: int | None = None,
) -> dict[str, Any]:
    """One episode, step by step: the very episode that `evaluate` counts under the same seed and number.

    Args:
        model, env, vec_normalize, frame_stack, max_episode_steps: as `evaluate`, for one model.
        disturbance: applied to raw observations, a `Disturbance` or its text; None for none.
        strength: multiplies it, >= 0.
        seed, episode: of the evaluation and the episode in it; two models get the same start and the same
            noise.

    Returns:
        A dict with, for T steps: ``"time"`` (T,), in seconds where the environment states its ``dt``, else in
        steps; ``"observations"`` and ``"disturbed_observations"`` (T, dim), raw units
        ((T, 0) where observations are no vectors); ``"actions"``
        (T, *action_shape), what the environment received; ``"rewards"`` (T,); and the numbers ``"return"``
        and ``"action_fluctuation"``.

    Raises:
        ValueError, TypeError, NonFiniteError, EndlessEpisodeError: as `evaluate`.

    Example:
        >>> from lipsrl.disturbances import GaussianNoise
        >>> from lipsrl.evaluation import rollout_trace
        >>> still = rollout_trace(lambda o: 0 * o[:, :1], "Pendulum-v1", disturbance=GaussianNoise(0.1))
        >>> still["actions"].shape, still["action_fluctuation"]
        ((200, 1), 0.0)
    """
    faced = read_disturbance(disturbance)
    task = Task(nonnegative_number("strength", strength), check_seed(episode, "episode"))
    source = EnvironmentSource.of(env, max_episode_steps)
    (environment,) = source.make(1)
    try:
        with one_thread():
            normalization = normalization_of(model, vec_normalize)
            controller = Controller(model, environment, normalization, "model", frame_stack)
            check_disturbances([faced], environment, [controller])
            (result,) = run_episodes(controller, [environment], [task], faced, check_seed(seed))
        return {
            "time": np.arange(len(result.rewards)) * time_step(environment),
            "observations": result.observations,
            "disturbed_observations": result.disturbed,
            "actions": result.actions,
            "rewards": result.rewards,
            "return": float(result.rewards.sum()),
            "action_fluctuation": fluctuation(result.actions, controller.action_space),
        }
    finally:
        source.close([environment])
