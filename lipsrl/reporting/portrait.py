"""A policy over the plane of two of its sensors: the action, and how steep it is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from lipsrl._threads import one_thread
from lipsrl.actors.normalization import NormalizeLike, normalization_of
from lipsrl.evaluation._controller import Controller
from lipsrl.evaluation._environments import EnvironmentSource, EnvLike

Array = NDArray[np.float64]
_POINTS = 61
#: step of the differences that slopes are read from, as a share of the plane's half width: float32 actions still
#: differ in four digits
_STEP = 1e-3


@dataclass(frozen=True, eq=False)
class Portrait:
    """What a policy does over a plane of observations.

    Attributes:
        x, y: outer edges of the plane.
        x_title, y_title: what is varied, with its unit.
        action: ``(rows, columns)`` the first action channel, lowest y first.
        slope: ``(rows, columns)`` ‖∂action/∂observation‖₂, action units per raw sensor unit, by central differences;
            all frames displaced alike where the policy sees several.
        said: what is held fixed, one sentence; may be empty.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    x_title: str
    y_title: str
    action: Array
    slope: Array
    said: str = ""


@dataclass(frozen=True)
class _Plane:
    """Two numbers to an observation; ``back`` is what of an observation lies in the plane, for trajectories."""

    x: tuple[float, float]
    y: tuple[float, float]
    x_title: str
    y_title: str
    observe: Callable[[Array, Array], Array]
    back: Callable[[Array], tuple[Array, Array]]
    said: str = ""


def phase_portrait(
    model: Any,
    env: EnvLike,
    *,
    vec_normalize: NormalizeLike = None,
    frame_stack: int | None = None,
) -> Portrait | None:
    """The policy over a plane of its observations; None where the environment offers no such plane.

    There is one for Pendulum (angle and velocity), for observations of two bounded numbers, and, with all else at 0,
    for CartPole and InvertedPendulum (angle and angular velocity of the pole). A policy of several frames is shown the
    same one in all of them, as if the plant stood still.

    Args:
        model, env, vec_normalize, frame_stack: as `lipsrl.evaluate`, for one model.

    Returns:
        None too for discrete actions and for policies with a state of their own.

    Example:
        >>> from lipsrl.reporting.portrait import phase_portrait
        >>> damping = phase_portrait(lambda o: -0.5 * o[:, 2:], "Pendulum-v1")
        >>> damping.action.shape, round(float(damping.slope.max()), 3)
        ((61, 61), 0.5)
    """
    source = EnvironmentSource.of(env, None)
    (environment,) = source.make(1)
    try:
        plane = plane_of(environment)
        if plane is None or not isinstance(environment.action_space, spaces.Box):
            return None
        normalization = normalization_of(model, vec_normalize)
        controller = Controller(model, environment, normalization, "the policy", frame_stack)
        if controller.recurrent or controller.keeps_state:
            return None
        with one_thread():
            return _portrait(controller, plane)
    finally:
        source.close([environment])


def trajectory(
    observations: Any, env_id: str, env_kwargs: Mapping[str, Any] | None = None
) -> tuple[Array, Array] | None:
    """An episode's path in the plane; None where there is no plane."""
    try:
        environment = gym.make(env_id, disable_env_checker=True, **(env_kwargs or {}))
    except Exception:  # whatever the environment's own code raises: a line in a picture is not worth a report
        return None
    plane = plane_of(environment)
    environment.close()
    array = np.asarray(observations, dtype=np.float64)
    return None if plane is None or array.ndim != 2 or not array.size else plane.back(array)


def plane_of(env: gym.Env[Any, Any]) -> _Plane | None:
    """The plane that portraits of ``env`` are drawn in."""
    space = env.observation_space
    name = env.spec.id.split("/")[-1].split("-")[0] if env.spec is not None else ""
    shape = space.shape if isinstance(space, spaces.Box) else None
    if name == "Pendulum" and shape == (3,):
        return _Plane(
            (-np.pi, np.pi), (-8.0, 8.0), "angle from upright θ (rad)", "angular velocity θ̇ (rad/s)",
            lambda x, y: np.stack([np.cos(x), np.sin(x), y], axis=-1),
            lambda o: (np.arctan2(o[:, 1], o[:, 0]), o[:, 2]),
        )  # fmt: skip
    held = "All other sensors are held at 0."
    if name in ("CartPole", "InvertedPendulum") and shape == (4,):
        angle, velocity = (2, 3) if name == "CartPole" else (1, 3)
        return _slice(
            (-0.25, 0.25),
            (-2.5, 2.5),
            "pole angle (rad)",
            "angular velocity (rad/s)",
            angle,
            velocity,
            4,
            held,
        )
    if shape == (2,) and np.isfinite([space.low, space.high]).all():  # type: ignore[attr-defined]
        low, high = space.low, space.high  # type: ignore[attr-defined]
        names = ("position (m)", "velocity (m/step)") if name.startswith("MountainCar") else (
            "observation 1 (raw units)", "observation 2 (raw units)"
        )  # fmt: skip
        return _slice((low[0], high[0]), (low[1], high[1]), *names, 0, 1, 2, "")
    return None


def _slice(
    x: tuple[float, float],
    y: tuple[float, float],
    x_title: str,
    y_title: str,
    i: int,
    j: int,
    dim: int,
    said: str,
) -> _Plane:
    def observe(a: Array, b: Array) -> Array:
        found = np.zeros((*a.shape, dim))
        found[..., i], found[..., j] = a, b
        return found

    across, up = ((float(low), float(high)) for low, high in (x, y))
    return _Plane(across, up, x_title, y_title, observe, lambda o: (o[:, i], o[:, j]), said)


def _portrait(controller: Controller, plane: _Plane) -> Portrait:
    x, y = np.meshgrid(np.linspace(*plane.x, _POINTS), np.linspace(*plane.y, _POINTS))
    observations = plane.observe(x.ravel(), y.ravel())
    half = np.maximum(np.abs(observations).max(axis=0), 1e-3)
    actions = _act(controller, observations)
    columns = []
    for sensor, width in enumerate(half):
        moved = [observations.copy(), observations.copy()]
        for sign, where in zip((1, -1), moved, strict=True):
            where[:, sensor] += sign * _STEP * width
        columns.append((_act(controller, moved[0]) - _act(controller, moved[1])) / (2 * _STEP * width))
    slopes = np.linalg.norm(np.stack(columns, axis=-1), ord=2, axis=(1, 2))
    said = plane.said
    if controller.frames > 1:
        said = f"{said} The policy sees {controller.frames} frames: the same one in all of them.".strip()
    return Portrait(
        plane.x, plane.y, plane.x_title, plane.y_title,
        actions[:, 0].reshape(x.shape), slopes.reshape(x.shape), said,
    )  # fmt: skip


def _act(controller: Controller, observations: Array) -> Array:
    """``(n, channels)`` what the environment receives."""
    rows = observations.astype(np.float32)
    if controller.frames > 1 and controller.normalizes_frames:
        seen = np.concatenate([controller.normalized(rows)] * controller.frames, axis=-1)
    else:
        seen = controller.normalized(np.concatenate([rows] * controller.frames, axis=-1))
    actions = controller.execute(controller.blockwise(seen))
    return np.asarray(actions, dtype=np.float64).reshape(len(rows), -1)


def sensitivities(
    model: Any,
    env: EnvLike,
    trace: Mapping[str, Any],
    *,
    vec_normalize: NormalizeLike = None,
    frame_stack: int | None = None,
    std: float = 0.01,
) -> list[float]:
    """`lipsrl.metrics.sensor_sensitivity` around the observations of a recorded episode; empty where there is none.

    Args:
        model, env, vec_normalize, frame_stack: as `lipsrl.evaluate`, for one model. Of several frames all are
            displaced alike.
        trace: of `lipsrl.evaluation.rollout_trace`.
        std: of the displacements, raw sensor units.
    """
    from lipsrl.metrics import sensor_sensitivity

    source = EnvironmentSource.of(env, None)
    (environment,) = source.make(1)
    try:
        normalization = normalization_of(model, vec_normalize)
        controller = Controller(model, environment, normalization, "the policy", frame_stack)
        states = np.asarray(trace["observations"], dtype=np.float64)
        discrete = not isinstance(environment.action_space, spaces.Box)
        if (
            discrete
            or controller.recurrent
            or controller.keeps_state
            or states.ndim != 2
            or not states.shape[1]
        ):
            return []
        with one_thread():
            found = sensor_sensitivity(lambda o: _act(controller, np.asarray(o)), states, std=std)
            return [float(value) for value in found]
    finally:
        source.close([environment])
