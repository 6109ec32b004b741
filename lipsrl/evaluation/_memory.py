"""Controllers that are not SB3's and remember: PID, filters, model predictive control, recorded trajectories."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lipsrl.evaluation._observations import Observations


class Memory:
    """One episode of a controller with SB3's ``predict(observation, state, episode_start, deterministic)``.

    It is called with one row, and given back the state that it returned, as ``evaluate_policy`` of SB3 does with one
    environment. Each episode has a copy of the controller as it was given, so what it keeps in itself is its own, too;
    one that cannot be copied (a compiled solver) is called as it is and must keep its memory in the state.
    """

    def __init__(self, controller: Any) -> None:
        self._controller = _copied(controller)
        self._accepted = _accepted(controller)
        self._state: Any = None
        self._starting = True

    def __call__(self, observation: Observations) -> Any:
        """The action for one row, ``(1, *action_shape)``."""
        given = {"state": self._state, "episode_start": np.array([self._starting]), "deterministic": True}
        chosen = {name: value for name, value in given.items() if name in self._accepted}
        answer = self._controller.predict(observation, **chosen)
        action, self._state = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, None)
        self._starting = False
        return action

    @property
    def has_state(self) -> bool:
        """Whether it has returned one."""
        return self._state is not None


def remembers(controller: Any, first: Observations, second: Observations) -> bool:
    """Whether the actions of ``controller`` depend on more than the observation of the moment.

    It does if it returns a state, or if a copy of it answers ``first`` otherwise after it has seen ``second``.

    Args:
        controller: has ``predict``.
        first, second: one row each, as it is to see them.
    """
    if _copied(controller) is controller:  # not to be tried out
        return "state" in _accepted(controller)
    memory = Memory(controller)
    try:
        actions = [np.asarray(memory(observation)) for observation in (first, second, first)]
    except Exception:  # observations that the task never shows may be beyond it
        return "state" in _accepted(controller)
    return memory.has_state or not np.array_equal(actions[0], actions[2])


def _copied(controller: Any) -> Any:
    try:
        return copy.deepcopy(controller)
    except Exception:  # whatever its class raises: locks, solvers, sockets
        return controller


def _accepted(controller: Any) -> set[str]:
    parameters = inspect.signature(controller.predict).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return {"state", "episode_start", "deterministic"}
    return set(parameters)


def one_row(space: Any, seed: int) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """A random observation of ``space`` as a batch of one."""
    space = copy.deepcopy(space)
    space.seed(seed)
    sample = space.sample()
    if isinstance(sample, dict):
        return {key: np.asarray(value)[None] for key, value in sample.items()}
    return np.asarray(sample)[None]
