"""An actor that is shown disturbed observations beside a critic that is shown clean ones, on stock SB3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn, VecEnvWrapper
from torch import Tensor

from lipsrl.actors.frames import FrameStack
from lipsrl.actors.statistics import rewards_normalised
from lipsrl.disturbances import Disturbance, DisturbanceBatch

#: The strength of an episode, from a generator and the number of steps so far.
Strengths = Callable[[np.random.Generator, int], float]


class BothViews(VecEnvWrapper):
    """Observations ``[window as the sensors show it, window as it is]``, normalised, each ``frames·dim`` long.

    Args:
        venv: raw observations, vectors.
        vec_normalize: frozen; applied to single observations before they are stacked. None: none.
        frames: in a window; zeros before an episode's first observation.
        disturbance: of raw observations; attacks in it have their target model already.
        strengths: drawn for every episode.
        seed: of strengths and disturbances.
    """

    def __init__(
        self,
        venv: VecEnv,
        vec_normalize: VecNormalize | None,
        frames: int,
        disturbance: Disturbance,
        strengths: Strengths,
        seed: int,
    ) -> None:
        shape = venv.observation_space.shape
        assert shape is not None
        box = spaces.Box(-np.inf, np.inf, (2 * frames * shape[0],), np.float32)
        super().__init__(venv, observation_space=box)
        self._vec_normalize = vec_normalize
        self._streams: DisturbanceBatch = disturbance.batch(venv.num_envs)
        self._strengths = strengths
        self._sequence = np.random.SeedSequence(seed)
        self._generator = np.random.default_rng(self._sequence.spawn(1)[0])
        self._shown, self._clean = (FrameStack(venv.num_envs, shape, frames, np.float32) for _ in range(2))
        self._steps = 0

    def reset(self) -> NDArray[np.float32]:
        observations: Any = self.venv.reset()
        self._begin(np.arange(self.num_envs))
        return self._seen(observations)

    def step_wait(self) -> VecEnvStepReturn:
        observations, rewards, dones, infos = self.venv.step_wait()
        self._steps += self.num_envs
        for i in np.flatnonzero(dones):
            last = infos[i].get("terminal_observation")
            if (
                last is not None
            ):  # for the value of a truncated state, which the critic gives from the clean half
                newest = self._normalised(np.asarray(last)[np.newaxis])
                window = np.concatenate([self._clean.older([i]), newest], axis=1)[0]
                infos[i]["terminal_observation"] = np.concatenate([window, window])
        self._begin(np.flatnonzero(dones))
        return self._seen(observations), self._in_its_units(rewards), dones, infos

    def _begin(self, rows: NDArray[np.intp]) -> None:
        self._shown.begin(rows)
        self._clean.begin(rows)
        for row in rows.tolist():
            strength = self._strengths(self._generator, self._steps)
            self._streams.reset(row, self._sequence.spawn(1)[0], strength)

    def _seen(self, observations: Any) -> NDArray[np.float32]:
        disturbed = self._streams(np.asarray(observations))
        shown, clean = (self._normalised(rows) for rows in (disturbed, observations))
        return np.concatenate([self._shown.push(shown), self._clean.push(clean)], axis=1)

    def _in_its_units(self, rewards: NDArray[Any]) -> NDArray[Any]:
        """As the critic learned to value them."""
        if self._vec_normalize is None or not rewards_normalised(self._vec_normalize):
            return rewards
        returns = self._vec_normalize.ret_rms
        limit = self._vec_normalize.clip_reward
        scale = np.sqrt(returns.var + self._vec_normalize.epsilon)
        return np.asarray(np.clip(rewards / scale, -limit, limit))

    def _normalised(self, rows: Any) -> NDArray[np.float32]:
        if self._vec_normalize is not None:
            rows = self._vec_normalize.normalize_obs(rows)
        return np.asarray(rows, dtype=np.float32)


def asymmetric(policy_class: Any) -> Any:
    """The on-policy ``policy_class`` for observations of :class:`BothViews`; weights and their names are the same."""

    class Asymmetric(policy_class):  # type: ignore[misc]
        def __init__(self, observation_space: spaces.Box, *args: Any, **kwargs: Any) -> None:
            n = observation_space.low.size // 2
            window = spaces.Box(observation_space.low[:n], observation_space.high[:n], dtype=np.float32)
            super().__init__(window, *args, **kwargs)
            self.observation_space = observation_space  # what SB3 checks observations by

        def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
            shown, clean = obs.chunk(2, dim=1)
            actions, _, log_prob = super().forward(shown, deterministic)
            return actions, super().predict_values(clean), log_prob

        def evaluate_actions(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
            shown, clean = obs.chunk(2, dim=1)
            _, log_prob, entropy = super().evaluate_actions(shown, actions)
            return super().predict_values(clean), log_prob, entropy

        def predict_values(self, obs: Tensor) -> Tensor:
            values: Tensor = super().predict_values(obs.chunk(2, dim=1)[1])
            return values

        def get_distribution(self, obs: Tensor) -> Any:
            return super().get_distribution(obs.chunk(2, dim=1)[0])

    return Asymmetric


def same_weights(source: BaseAlgorithm, target: BaseAlgorithm) -> None:
    """Give the policy of ``target`` the weights of ``source``'s."""
    state = {name: value.detach().clone() for name, value in source.policy.state_dict().items()}
    with torch.no_grad():
        target.policy.load_state_dict(state)
