"""Environments with a memory of their own: the sensors are inside of it (rl-zoo's HistoryWrapper)."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from lipsrl.disturbances import DisturbanceBatch
from lipsrl.evaluation._environments import Env

#: Of rl_zoo3.wrappers, which need not be installed: past observations, oldest first, then past actions.
_NAME = "HistoryWrapper"


class SensorTap(gym.Wrapper[Any, Any, Any, Any]):
    """Directly inside a HistoryWrapper: each observation is disturbed once, and remembered as it was shown.

    Disturbed outside, every step would draw anew for what was seen long ago, and change actions that were taken.

    Args:
        history: the wrapper; the tap is put under it.
    """

    def __init__(self, history: Any) -> None:
        super().__init__(history.env)
        history.env = self
        self.dim = len(history.low_obs) // int(history.horizon)
        self._streams: DisturbanceBatch | None = None
        self._row = 0

    def connect(self, streams: DisturbanceBatch | None, row: int = 0) -> None:
        """Disturb by stream ``row`` of ``streams`` from the next observation on; None: show them as they are."""
        self._streams, self._row = streams, row

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return self._shown(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, *rest = self.env.step(action)
        return self._shown(observation), *rest

    def _shown(self, observation: Any) -> Any:
        if self._streams is None:
            return observation
        return self._streams(np.asarray(observation)[np.newaxis], [self._row])[0]


def tap_of(env: Env) -> SensorTap | None:
    """The tap under the HistoryWrapper of ``env``, put there if it is missing; None where there is none."""
    history = _history_of(env)
    if history is None:
        return None
    inner = history.env
    return inner if isinstance(inner, SensorTap) else SensorTap(history)


def sensors(env: Env) -> int:
    """How many numbers an observation has where a disturbance meets it."""
    tap = tap_of(env)
    if tap is not None:
        return tap.dim
    assert env.observation_space.shape is not None
    return env.observation_space.shape[0]


def refuse_history(env: Env, what: str) -> None:
    """``ValueError`` where ``env`` has a HistoryWrapper."""
    if _history_of(env) is not None:
        raise ValueError(
            f"{what} is not supported in an environment behind rl-zoo's {_NAME}, whose memory holds past actions. Use "
            "a policy behind SB3's VecFrameStack (frame_stack=), or lipsrl.distill(history=) without the wrapper."
        )


def _history_of(env: Any) -> Any:
    found = None
    while isinstance(env, gym.Wrapper):
        if any(cls.__name__ == _NAME for cls in type(env).__mro__):
            found = env
        env = env.env
    return found
