"""An environment as two pure functions of its state: the next state and the observation."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium import wrappers
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor

Array: TypeAlias = NDArray[np.float64]
GetState: TypeAlias = Callable[[Any], Any]
SetState: TypeAlias = Callable[[Any, Array], object]

#: Wrappers that hand observations and actions on as they are.
_PASSING_ON = (
    gym.RewardWrapper,
    Monitor,
    wrappers.Autoreset,
    wrappers.HumanRendering,
    wrappers.NormalizeReward,
    wrappers.OrderEnforcing,
    wrappers.PassiveEnvChecker,
    wrappers.RecordEpisodeStatistics,
    wrappers.RecordVideo,
    wrappers.RenderCollection,
    wrappers.TimeLimit,
)
_RK4 = 1  # mujoco.mjtIntegrator.mjINT_RK4


class Plant:
    """``x⁺ = f(x, a)`` and ``o = h(x)`` of an environment whose state can be set.

    ``f`` is one ``step`` of ``env.unwrapped``; the action wrappers above it act first, the observation wrappers
    on what ``h`` returns. Use it inside :func:`borrowed`.

    Raises:
        ValueError: a state that cannot be set, an observation that cannot be had without a step, a wrapper with
            memory.
    """

    def __init__(
        self, env: gym.Env[Any, Any], get_state: GetState, set_state: SetState, observe: GetState | None
    ) -> None:
        self.env = env
        self.base: Any = env.unwrapped
        self._get, self._set, self._observe = get_state, set_state, observe
        self._wrappers = list(_transforming(env))

    @property
    def normalised(self) -> bool:
        """Whether a NormalizeObservation is among the wrappers."""
        return any(isinstance(wrapper, wrappers.NormalizeObservation) for wrapper in self._wrappers)

    def get(self) -> Array:
        """(state,) as it is now."""
        return np.array(self._get(self.base), dtype=np.float64).reshape(-1)

    def put(self, state: Array) -> None:
        """Make ``state`` the environment's."""
        self._set(self.base, state.copy())

    def next_state(self, state: Array, action: Array) -> Array:
        """``f``: (state,), (action,) → (state,)."""
        self.put(state)
        self.base.step(self.inner_action(action))
        return self.get()

    def observation(self, state: Array) -> Array:
        """``h``: (state,) → (observation,), as the outermost wrapper shows it."""
        self.put(state)
        seen = self.observe()
        for wrapper in reversed(self._wrappers):
            if isinstance(wrapper, gym.ObservationWrapper):
                seen = wrapper.observation(seen)
        return np.array(seen, dtype=np.float64).reshape(-1)

    def inner_action(self, action: Array) -> Any:
        """What ``env.unwrapped.step`` receives when the outermost wrapper is given ``action``."""
        inner: Any = action.reshape(self.env.action_space.shape or action.shape)
        for wrapper in self._wrappers:
            if isinstance(wrapper, gym.ActionWrapper):
                inner = wrapper.action(inner)
        return inner

    def observe(self) -> Any:
        """The innermost observation of the state that is set."""
        if self._observe is not None:
            return self._observe(self.base)
        if hasattr(self.base, "_get_obs"):
            return self.base._get_obs()
        state = self.get()
        if state.size == np.prod(self.base.observation_space.shape or (0,)):
            seen = self.base.step(self.inner_action(_middle(self.env.action_space)))[0]
            after = self.get()
            if np.array_equal(np.asarray(seen, dtype=np.float64).reshape(-1), after):
                self.put(state)
                return state
        raise ValueError(
            f"{type(self.base).__name__} has no _get_obs() and does not show its state, so the observation of a "
            "state is unknown. Pass observe=, a function of env.unwrapped that returns the observation."
        )

    def moved(self, state: Array, step: Array) -> Array:
        """``state`` displaced by ``step``, (state,) and (tangent,) → (state,)."""
        return state + step

    def difference(self, state: Array, origin: Array) -> Array:
        """The displacement from ``origin`` to ``state``, (tangent,)."""
        return state - origin


class MujocoPlant(Plant):
    """A Gymnasium MuJoCo environment; its state is ``[qpos, qvel, act]``, displacements are in the tangent space.

    Free and ball joints have quaternions in ``qpos`` (nq > nv); displacements are (2·nv + na,).
    """

    def __init__(self, env: gym.Env[Any, Any], observe: GetState | None) -> None:
        super().__init__(env, _mujoco_state, self._set_mujoco_state, observe)
        self._mujoco = importlib.import_module("mujoco")
        self.model = self.base.model

    def _set_mujoco_state(self, base: Any, state: Array) -> None:
        data, (nq, nv) = base.data, (self.model.nq, self.model.nv)
        data.qpos[:], data.qvel[:], data.act[:] = np.split(state, [nq, nq + nv])
        data.qacc_warmstart[:] = 0  # the constraint solver must not remember the previous call
        self._mujoco.mj_forward(self.model, data)
        self._mujoco.mj_rnePostConstraint(
            self.model, data
        )  # contact forces, which MujocoEnv.step computes too

    def moved(self, state: Array, step: Array) -> Array:
        nq, nv = self.model.nq, self.model.nv
        position = state[:nq].copy()
        self._mujoco.mj_integratePos(self.model, position, step[:nv].copy(), 1.0)
        return np.concatenate([position, state[nq:] + step[nv:]])

    def difference(self, state: Array, origin: Array) -> Array:
        nq, nv = self.model.nq, self.model.nv
        velocity = np.zeros(nv)
        self._mujoco.mj_differentiatePos(self.model, velocity, 1.0, origin[:nq].copy(), state[:nq].copy())
        return np.concatenate([velocity, state[nq:] - origin[nq:]])

    def control(self, action: Array) -> Array:
        """(nu,) ``data.ctrl`` that ``step(action)`` sets."""
        self.base.step(self.inner_action(action))
        return np.array(self.base.data.ctrl, dtype=np.float64)

    @property
    def has_transition_derivative(self) -> bool:
        """``mjd_transitionFD`` refuses the Runge-Kutta integrator, which most of Gymnasium's models use."""
        return int(self.model.opt.integrator) != _RK4

    def transition(self, state: Array, action: Array, step: float = 1e-6) -> tuple[Array, Array]:
        """``∂x⁺/∂x`` and ``∂x⁺/∂ctrl`` over one ``env.step``: ``mjd_transitionFD`` chained over ``frame_skip``.

        Source: MuJoCo documentation, ``mjd_transitionFD`` (centred differences of one ``mj_step``).
        """
        self.put(state)
        control = self.control(action)
        self.put(state)
        data, size = self.base.data, 2 * self.model.nv + self.model.na
        data.ctrl[:] = control
        a, b = np.eye(size), np.zeros((size, self.model.nu))
        for _ in range(self.base.frame_skip):
            a_frame, b_frame = np.zeros_like(a), np.zeros_like(b)
            self._mujoco.mjd_transitionFD(self.model, data, step, True, a_frame, b_frame, None, None)
            a, b = a_frame @ a, a_frame @ b + b_frame
            self._mujoco.mj_step(self.model, data)
        return a, b


def plant_of(
    env: gym.Env[Any, Any], get_state: GetState | None, set_state: SetState | None, observe: GetState | None
) -> Plant:
    """The plant of ``env``: by the given functions, by MuJoCo, or by an attribute ``state``.

    Raises:
        ValueError: none of them is there.
    """
    base: Any = env.unwrapped
    if (get_state is None) != (set_state is None):
        raise ValueError("get_state and set_state come as a pair: pass both or neither.")
    if get_state is not None and set_state is not None:
        return Plant(env, get_state, set_state, observe)
    if type(getattr(base, "data", None)).__module__.startswith("mujoco"):
        return MujocoPlant(env, observe)
    if getattr(base, "state", None) is None:
        raise ValueError(
            f"{type(base).__name__} has no state that can be set: it is no MuJoCo environment and has no attribute "
            "`state`. If it has one after a reset, call env.reset() first; otherwise pass get_state=, a function "
            "of env.unwrapped, and set_state=, a function of env.unwrapped and the state."
        )
    return Plant(env, lambda b: b.state, lambda b, state: setattr(b, "state", state), observe)


@contextmanager
def borrowed(plant: Plant, restore: bool) -> Iterator[None]:
    """Let the environment work on copies of its arrays, containers, generator and MuJoCo data, then put it back.

    Args:
        plant: whose environment.
        restore: also put the state back by the plant's own function, which the caller's ``set_state`` needs.
    """
    base, before = plant.base, dict(vars(plant.base))
    state = plant.get() if restore else None
    for name, value in before.items():
        data = type(value).__module__.startswith("mujoco") and type(value).__name__ == "MjData"
        if data or isinstance(value, (np.ndarray, list, dict, set, np.random.Generator)):
            setattr(base, name, copy.deepcopy(value))
    try:
        yield
    finally:
        if state is not None:
            plant.put(state)
        vars(base).clear()
        vars(base).update(before)


def _transforming(env: gym.Env[Any, Any]) -> Iterator[gym.Env[Any, Any]]:
    """The wrappers that change observations or actions, outermost first."""
    while isinstance(env, gym.Wrapper):
        if _is_a_function(env):
            yield env
        elif not isinstance(env, _PASSING_ON):
            advice = (
                "Set env.update_running_mean = False first."
                if isinstance(env, wrappers.NormalizeObservation)
                else "Pass the environment below it; if it changes neither observations nor actions, nothing is "
                "lost."
            )
            raise ValueError(
                f"env has the wrapper {type(env).__name__}, whose observation or action may depend on the past, "
                f"so there is no function of the state to linearise. {advice}"
            )
        env = env.env


def _is_a_function(wrapper: gym.Wrapper[Any, Any, Any, Any]) -> bool:
    """Whether it maps each observation or each action by itself: what remembers has to begin anew in ``reset``."""
    if getattr(wrapper, "update_running_mean", False):
        return False
    kind: type[Any] | None = next(
        (kind for kind in (gym.ObservationWrapper, gym.ActionWrapper) if isinstance(wrapper, kind)), None
    )
    own = type(wrapper)
    return kind is not None and own.step is kind.step and own.reset is kind.reset


def _mujoco_state(base: Any) -> Array:
    return np.concatenate([base.data.qpos, base.data.qvel, base.data.act])


def _middle(space: Any) -> Array:
    finite = np.isfinite(space.low) & np.isfinite(space.high)
    return np.where(finite, (np.where(finite, space.low, 0) + np.where(finite, space.high, 0)) / 2, 0.0)
