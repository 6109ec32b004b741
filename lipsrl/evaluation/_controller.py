"""A policy as the evaluator calls it: raw observations in, environment actions out, many at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecNormalize

from lipsrl.attacks import Attack
from lipsrl.disturbances import Disturbance
from lipsrl.policies.normalization import check_dimension

# Matrix products round differently for different numbers of rows, but (measured) not for different positions
# among the same number. Policies are therefore called with exactly this many rows, idle ones included, and an
# episode comes out the same bit for bit whatever else is being evaluated beside it.
ROWS = 64


class Controller:
    """One agent: its normalisation, its deterministic policy, and what is done to the action before the env.

    Args:
        model: an SB3 algorithm or policy, or a callable from raw observations ``(n, dim)`` to actions
            ``(n, *action_shape)``.
        env: an environment with the spaces that the policy must fit.
        vec_normalize: applied to raw observations, never updated.
        label: the agent's name for errors.

    Raises:
        TypeError: neither an SB3 model nor callable.
        ValueError: the model's spaces or the normalisation do not fit the environment, or the policy is
            recurrent.
    """

    def __init__(
        self, model: Any, env: gym.Env[Any, Any], vec_normalize: VecNormalize | None, label: str
    ) -> None:
        self.label = label
        self._model = model
        self._vec_normalize = vec_normalize
        self.action_space = env.action_space
        shape = env.observation_space.shape
        assert shape is not None
        if vec_normalize is not None:
            check_dimension(vec_normalize, shape[0], label)
        policy = model.policy if isinstance(model, BaseAlgorithm) else model
        self._call: Callable[[NDArray[Any]], NDArray[Any]]
        if isinstance(policy, BasePolicy):
            self._check_spaces(policy, env)
            policy.set_training_mode(False)
            self._policy = policy
            self._call = self._sb3
        elif callable(model):
            self._function = model
            self._call = self._callable
        else:
            raise TypeError(
                f"{label} must be a Stable-Baselines3 model, or a callable from observations (n, dim) to "
                f"actions (n, act), received {type(model).__name__}."
            )

    def faces(self, disturbance: Disturbance) -> Disturbance:
        """The disturbance as this agent meets it: an attack that is aimed at no model is aimed at this one.

        Raises:
            TypeError, ValueError: it cannot be; see `Attack.against`.
        """
        if isinstance(disturbance, Attack):
            return disturbance.against(self._model, self._vec_normalize)
        return disturbance

    def propose(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Deterministic actions before any clip, in the environment's units, row by row in blocks of `ROWS`.

        Args:
            observations: raw, ``(n, dim)``.

        Returns:
            ``(n, *action_shape)``; rows where the policy fails for lack of finite numbers are ``nan``.
        """
        n = len(observations)
        if n == ROWS:
            return self._call(observations)
        padded = np.zeros((-(-n // ROWS) * ROWS, *observations.shape[1:]), dtype=observations.dtype)
        padded[:n] = observations
        blocks = [self._call(padded[i : i + ROWS]) for i in range(0, len(padded), ROWS)]
        return np.concatenate(blocks)[:n]

    def execute(self, proposed: NDArray[Any]) -> NDArray[Any]:
        """What the environment receives: clipped to a Box, as SB3's ``predict`` does."""
        if isinstance(self.action_space, spaces.Box):
            return np.asarray(np.clip(proposed, self.action_space.low, self.action_space.high))
        return proposed

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Raw observations ``(n, dim)`` to environment actions ``(n, channels)``, in one batch."""
        return self.execute(self._call(observations)).reshape(len(observations), -1)

    def _sb3(self, observations: NDArray[Any]) -> NDArray[Any]:
        seen: Any = observations
        if self._vec_normalize is not None:
            seen = self._vec_normalize.normalize_obs(observations)
        tensor: Any = self._policy.obs_to_tensor(seen)[0]
        try:
            actions = self._predict(tensor)
        except ValueError as error:
            # torch's Normal refuses a mean that is not finite; find the rows, to name the episode
            if "invalid values" not in str(error):
                raise
            actions = np.concatenate(
                [self._predict_or_nan(tensor[i : i + 1]) for i in range(len(observations))]
            )
        actions = actions.reshape(-1, *self.action_space.shape)  # type: ignore[misc]
        if isinstance(self.action_space, spaces.Box) and self._policy.squash_output:
            return self._policy.unscale_action(actions)
        return actions

    def _predict(self, observations: Any) -> NDArray[Any]:
        with torch.no_grad():
            actions: NDArray[Any] = self._policy._predict(observations, deterministic=True).cpu().numpy()
        return actions

    def _predict_or_nan(self, row: Any) -> NDArray[Any]:
        try:
            return self._predict(row)
        except ValueError:
            return np.full((1, *(self.action_space.shape or ())), np.nan)

    def _callable(self, observations: NDArray[Any]) -> NDArray[Any]:
        seen: Any = observations
        if self._vec_normalize is not None:
            seen = self._vec_normalize.normalize_obs(observations)
        actions = np.asarray(self._function(seen))
        shape = (len(observations), *(self.action_space.shape or ()))
        if actions.shape != shape and not (actions.shape == shape[:1] and shape[1:] == (1,)):
            raise ValueError(
                f"{self.label} must return actions of shape {shape} for observations of shape "
                f"{observations.shape}, received shape {actions.shape}."
            )
        dtype = self.action_space.dtype if isinstance(self.action_space, spaces.Box) else actions.dtype
        return actions.reshape(shape).astype(dtype, copy=False)

    def _check_spaces(self, policy: BasePolicy, env: gym.Env[Any, Any]) -> None:
        if hasattr(policy, "lstm_actor"):
            raise ValueError(
                f"{self.label} is recurrent ({type(policy).__name__}): it needs a memory between steps, "
                "which this evaluation does not keep. Use SB3's evaluate_policy for it."
            )
        if policy.observation_space.shape != env.observation_space.shape:
            raise ValueError(
                f"{self.label} was trained on observations {policy.observation_space}, but {env} gives "
                f"{env.observation_space}. Evaluate it in the environment, wrappers included, that it was "
                "trained in (give a factory)."
            )
        if policy.action_space != env.action_space:
            raise ValueError(
                f"{self.label} was trained on actions {policy.action_space}, but {env} takes "
                f"{env.action_space}. Evaluate it in the environment, wrappers included, that it was trained "
                "in (give a factory)."
            )
