"""The return of deterministic actions in episodes that start alike every time, while an agent learns."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import (
    VecEnv,
    VecNormalize,
    sync_envs_normalization,
    unwrap_vec_normalize,
)

#: Of the first environment; the next ones have the next seeds.
SEED = 0


def _tasks(env: Any) -> list[Any]:
    """The environments in this process that one consists of, without their wrappers."""
    bare = getattr(env, "unwrapped", None)
    return [bare, *(one.unwrapped for one in getattr(bare, "envs", ()))] if bare is not None else []


class SameEpisodes:
    """Plays the same ``n_episodes`` episodes again and again.

    Args:
        model: that is trained.
        env: environment or VecEnv of the same task, wrapped as the training's; ``VecNormalize`` may be missing.
        n_episodes: alike every time where ``env`` has as many environments; else where no episode's length decides on
            the next one's start.

    Raises:
        TypeError: ``env`` is no environment.
        ValueError: the training's own, or one with other observations or actions.
    """

    def __init__(self, model: BaseAlgorithm, env: gym.Env[Any, Any] | VecEnv, n_episodes: int) -> None:
        if not isinstance(env, gym.Env | VecEnv):
            raise TypeError(
                "eval_env must be a gymnasium environment or an SB3 VecEnv (make_vec_env(id, n_envs=20)), received "
                f"{type(env).__name__}."
            )
        if set(map(id, _tasks(env))) & set(map(id, _tasks(model.get_env()))):
            raise ValueError(
                "eval_env is the training's environment, which evaluations would reset. Make another one."
            )
        self.venv, self.n_episodes = model._wrap_env(env, verbose=0), n_episodes
        training = model.get_vec_normalize_env()
        normalize = unwrap_vec_normalize(self.venv)
        self._shared = training is not None and normalize is None
        if training is not None and normalize is None:  # its options, and from now on its statistics
            normalize = pickle.loads(pickle.dumps(training))
            if normalize.observation_space == self.venv.observation_space:
                normalize.set_venv(self.venv)
                self.venv = normalize
        if normalize is not None:
            normalize.training = normalize.norm_reward = False
        self.normalize: VecNormalize | None = normalize
        for name in ("observation_space", "action_space"):
            given, expected = getattr(self.venv, name), getattr(model, name)
            if given != expected:
                raise ValueError(
                    f"expected an eval_env with the training's {name}, {expected}, received {given}. Wrap it as the "
                    "training's environment is wrapped."
                )

    def mean_return(self, model: BaseAlgorithm) -> float:
        """Over the episodes, undiscounted, in the task's own rewards."""
        training = model.get_env()
        if self.normalize is not None and training is not None:
            if self._shared:
                statistics = model.get_vec_normalize_env()
                if statistics is not None:
                    self.normalize.obs_rms = statistics.obs_rms
            else:
                sync_envs_normalization(training, self.venv)
        self.venv.seed(SEED)
        returns, _ = evaluate_policy(
            model, self.venv, n_eval_episodes=self.n_episodes, return_episode_rewards=True, warn=False
        )
        return float(np.mean(returns))


class Snapshot:
    """An agent as it is: weights, optimizers, and the statistics that its observations are normalised with."""

    def __init__(self, model: BaseAlgorithm) -> None:
        self._parameters: Any = copy.deepcopy(model.get_parameters())
        normalize = model.get_vec_normalize_env()
        names = () if normalize is None else ("obs_rms", "ret_rms")
        self._statistics = {
            name: copy.deepcopy(getattr(normalize, name)) for name in names if hasattr(normalize, name)
        }

    def restore(self, model: BaseAlgorithm) -> None:
        """Put it back into the model that it was taken from."""
        model.set_parameters(copy.deepcopy(self._parameters), device=model.device)
        normalize = model.get_vec_normalize_env()
        if normalize is not None:
            vars(normalize).update(copy.deepcopy(self._statistics))
