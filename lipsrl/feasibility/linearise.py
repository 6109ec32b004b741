"""The linearisation of an environment around an equilibrium, by finite differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lipsrl.feasibility.plant import Array, MujocoPlant, Plant

#: Steps of the finite differences, relative to the largest; the level that agrees best with the next is taken. Not
#: powers of two, which float32 would round alike.
LEVELS = 0.6 ** np.arange(14)[:, None]

#: Steps after which an earlier action or state must not show, and the slope below which it does not.
MEMORY, FORGOTTEN = 8, 1e-6


@dataclass(frozen=True)
class Linearisation:
    """``δx⁺ = a δx + b δu``, ``δo = c δx``, in raw units.

    Attributes:
        a, b, c: (state, state), (state, action), (observation, state).
        accuracy: largest entry by which two orders of the differences disagree.
    """

    a: Array
    b: Array
    c: Array
    accuracy: float

    @property
    def eigenvalue_accuracy(self) -> float:
        """How far an eigenvalue of ``a`` may be off: a double one moves by the square root of an error."""
        return max(float(np.sqrt(self.accuracy)), 1e-7)


def linearise(plant: Plant, state: Array, action: Array, step: float, tolerance: float) -> Linearisation:
    """Linearise ``plant`` around the equilibrium ``state = f(state, action)``.

    Args:
        plant: what to linearise.
        state, action: (state,), (action,).
        step: largest finite-difference step.
        tolerance: how far the next state may lie from ``state``, relative to ``1 + max|state|``.

    Raises:
        ValueError: no equilibrium (shows the residual and a Newton step), no function of state and action, or
            not differentiable there.
    """
    reached = plant.next_state(state, action)
    residual = plant.difference(reached, state)
    if not np.abs(residual).max() <= tolerance * (1 + np.abs(state).max()):
        raise ValueError(_not_an_equilibrium(plant, state, action, step, residual))

    def state_moves(displacement: Array) -> Array:
        return plant.difference(plant.next_state(plant.moved(state, displacement), action), reached)

    def action_moves(displacement: Array) -> Array:
        return plant.difference(plant.next_state(state, action + displacement), reached)

    seen = plant.observation(state)

    def observation_moves(displacement: Array) -> Array:
        return plant.observation(plant.moved(state, displacement)) - seen

    size = len(residual)
    if isinstance(plant, MujocoPlant) and plant.has_transition_derivative:
        a, b, error = _mujoco_transition(plant, state, action, step)
    else:
        a, error_a = _jacobian(state_moves, size, step, "the next state", "state")
        b, error_b = _jacobian(action_moves, len(action), step, "the next state", "action")
        error = max(error_a, error_b)
    c, error_c = _jacobian(observation_moves, size, step, "the observation", "state")
    if not (
        np.array_equal(plant.next_state(state, action), reached)
        and np.array_equal(plant.observation(state), seen)
    ):
        raise ValueError(
            "the same state and action led to different results: the environment has noise, or a memory that "
            "the state does not hold. Switch the noise off, or pass get_state= and set_state= for the whole state."
        )
    error = max(error, error_c, _memory(plant, state, action, reached, seen, step))
    return Linearisation(a, b, c, error)


def _memory(plant: Plant, state: Array, action: Array, reached: Array, seen: Array, step: float) -> float:
    """By how much what went before still shows in a state that has been set, per unit of it; 0 without a memory.

    A policy that sees the last action is not static in the state, and ``a + b G c`` is not its closed loop.

    Raises:
        ValueError: it shows by more than rounding.
    """
    rng = np.random.default_rng(0)  # a direction in which nothing cancels by chance
    away = step * rng.uniform(0.3, 1.0, len(plant.difference(reached, state)))
    other = action + step * rng.uniform(0.3, 1.0, len(action))
    largest = 0.0
    for what, before, acted in (("actions", state, other), ("states", plant.moved(state, away), action)):
        plant.next_state(before, acted)
        for _ in range(MEMORY):
            shown, moved = plant.observation(state), plant.next_state(state, action)
            for of, found, expected in (("observation", shown, seen), ("next state", moved, reached)):
                slope = float(np.abs(found - expected).max(initial=0.0)) / step
                if not slope <= FORGOTTEN * (1 + np.abs(expected).max(initial=0.0)):
                    raise ValueError(
                        f"the {of} of one and the same state depends on earlier {what} (by {slope:.2g} per unit): the "
                        "environment has a memory that the state does not hold, and the floor is for a policy without "
                        "any. Pass get_state= and set_state= for the whole state, or leave what is remembered out of "
                        "the observation."
                    )
                largest = max(largest, slope)
    return largest


def _mujoco_transition(
    plant: MujocoPlant, state: Array, action: Array, step: float
) -> tuple[Array, Array, float]:
    a, b = plant.transition(state, action)
    finer_a, finer_b = plant.transition(state, action, 1e-5)
    plant.put(state)
    control = plant.control(action)

    def control_moves(displacement: Array) -> Array:
        plant.put(state)
        return plant.control(action + displacement) - control

    actuation, error = _jacobian(control_moves, len(action), step, "data.ctrl", "action")
    return a, b @ actuation, max(error, np.abs(a - finer_a).max(), np.abs(b - finer_b).max())


def _jacobian(
    moves: Callable[[Array], Array], size: int, step: float, of: str, by: str
) -> tuple[Array, float]:
    """(out, size) derivative at 0 of ``moves``, which vanishes there, and an estimate of its error."""
    columns, errors = zip(*(_column(moves, unit, step, of, by) for unit in np.eye(size)), strict=True)
    return np.stack(columns, axis=1), max(errors)


def _column(
    moves: Callable[[Array], Array], unit: Array, step: float, of: str, by: str
) -> tuple[Array, float]:
    """Romberg's extrapolation of central differences, at the step where it agrees best with the next finer one."""
    steps = step * LEVELS
    up = np.stack([moves(h * unit) for h in steps])
    down = np.stack([moves(-h * unit) for h in steps])
    central = (up - down) / (2 * steps)
    extrapolated = (central[1:] - 0.36 * central[:-1]) / 0.64
    errors = np.abs(np.diff(extrapolated, axis=0)).max(axis=1)
    best = int(errors.argmin())
    slope, error = extrapolated[best], float(errors[best])
    size = 1 + np.abs(slope).max()
    # of a smooth function the one-sided slopes agree as the step shrinks; at a kink they never do
    kink = (np.abs(up + down) / steps).max(axis=1).min()
    if not (error <= 1e-3 * size and kink <= 0.05 * size):
        raise ValueError(
            f"{of} is not differentiable by {by}[{int(unit.argmax())}] at this equilibrium (finite differences "
            f"disagree by {error:.2g}, the slopes of both sides by {kink:.2g}): a contact, a limit, a clip or a "
            f"dead zone lies within reach. Choose an equilibrium away from it, or pass a step below {step:g}."
        )
    return slope, error


def _not_an_equilibrium(plant: Plant, state: Array, action: Array, step: float, residual: Array) -> str:
    text = (
        f"state={state.tolist()} is no equilibrium under action={action.tolist()}: one step moves it by "
        f"{residual.tolist()}. "
    )
    reached = plant.next_state(state, action)
    try:
        a, _ = _jacobian(
            lambda d: plant.difference(plant.next_state(plant.moved(state, d), action), reached),
            len(residual), step, "the next state", "state",
        )  # fmt: skip
    except ValueError:
        return text + "Pass a state that stays where it is."
    step_there: Array = np.linalg.lstsq(np.eye(len(a)) - a, residual, rcond=1e-9)[0].astype(np.float64)
    newton = plant.moved(state, step_there)
    return text + f"A Newton step leads to state={newton.tolist()}: try that, or another action."
