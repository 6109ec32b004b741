"""How small a Lipschitz constant may be before an equilibrium cannot be held any more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike

from lipsrl._validation import positive_finite
from lipsrl.feasibility._arguments import (
    check_action,
    check_spaces,
    check_state,
    observation_gains,
    spread,
)
from lipsrl.feasibility.gain_floor import gain_floor
from lipsrl.feasibility.gain_search import lqr_gain, smallest_gain, stabilises
from lipsrl.feasibility.linearise import Linearisation, linearise
from lipsrl.feasibility.modes import Complex, hautus, movable_part
from lipsrl.feasibility.plant import Array, GetState, SetState, borrowed, plant_of


@dataclass(frozen=True)
class FeasibilityFloor:
    """What a static policy needs to hold one equilibrium, in action units per unit of the policy's observation.

    Attributes:
        floor: a theorem about ``linearisation``: under every gain ``G`` = ∂action/∂observation with ‖G‖₂ < floor
            an eigenvalue of ``a + b G c`` stays outside the unit disc. 0 if the equilibrium is stable by itself,
            infinite if exact zeros in ``linearisation`` prove that no static gain stabilises.
        method: how ``floor`` is proven: ``"stable"``, ``"neutral"``, ``"polynomial"`` or ``"eigenvalue path"``.
        found: ‖G‖₂ of the smallest gain found that stabilises every system within ``accuracy`` of
            ``linearisation``, an upper estimate of the infimum; infinite if there was none.
        found_gain: (action, observation) that gain, or ``None``.
        lqr: ‖G‖₂ of the linear-quadratic regulator; infinite if it does not stabilise through the observation.
        lqr_gain: (action, observation) ``-K c⁺``, the smallest gain that acts as ``-K`` on the state, or ``None``.
        eigenvalues: (modes,) complex, of ``a``.
        unstable: those outside the unit circle.
        controllability: for each unstable mode the smallest singular value of ``[a - λI, b/‖b‖]``; 0 means that
            no action reaches it.
        left_out: eigenvalues on the unit circle that no action reaches or no observation shows, such as the
            position along a floor; ``linearisation`` is without them.
        linearisation: ``δx⁺ = a δx + b δu``, ``δo = c δx`` in raw units.
        observation_gain: (observation,) units of the observation that the gains above are stated in, per raw unit.
        normalised: whether "raw" is what comes out of a NormalizeObservation with frozen statistics.
    """

    floor: float
    method: str
    found: float
    found_gain: Array | None
    lqr: float
    lqr_gain: Array | None
    eigenvalues: Complex
    unstable: Complex
    controllability: tuple[float, ...]
    left_out: Complex
    linearisation: Linearisation
    observation_gain: Array
    normalised: bool = False

    def floor_for(self, observation_gain: ArrayLike) -> float:
        """``floor`` for other units of the observation (see :func:`feasibility_floor`); milliseconds for one action."""
        system = self.linearisation
        gain = observation_gains(observation_gain, len(system.c))
        return gain_floor(system.a, system.b, gain[:, None] * system.c, system.eigenvalue_accuracy)[0]

    def in_units(self, observation_gain: ArrayLike) -> FeasibilityFloor:
        """The same for other units of the observation, without the environment; seconds where the search is long."""
        system = self.linearisation
        gain = observation_gains(observation_gain, len(system.c))
        seen = gain[:, None] * system.c
        inverse = np.linalg.pinv(seen, rcond=system.eigenvalue_accuracy)
        regulator = None
        if self.lqr_gain is not None:  # the smallest gain that acts on the state as this one does
            state_gain = self.lqr_gain @ (self.observation_gain[:, None] * system.c)
            regulator = _stabilising(state_gain @ inverse, system, gain)
        floor, method = gain_floor(system.a, system.b, seen, system.eigenvalue_accuracy)
        known = [g * self.observation_gain / gain for g in (self.found_gain, self.lqr_gain) if g is not None]
        smallest = self.found_gain if method == "stable" else _smallest(system, gain, known)
        return replace(
            self,
            floor=floor,
            method=method,
            found=_norm(smallest),
            found_gain=smallest,
            lqr=_norm(regulator),
            lqr_gain=regulator,
            observation_gain=gain,
        )

    def warning(self, lipschitz_bound: float) -> str | None:
        """What to tell whoever trains a policy with this bound in the same units; ``None`` if it may do."""
        if lipschitz_bound < self.floor:
            return (
                f"lipschitz_bound={lipschitz_bound:g} is below the feasibility floor {self.floor:.4g}: no static "
                "policy with it that is differentiable there can stabilise this equilibrium. Raise it, or expect "
                f"another behaviour than balance (smallest stabilising gain found: {self.found:.4g}; linear-quadratic "
                f"regulator: {self.lqr:.4g})."
            )
        if lipschitz_bound < self.found:
            return (
                f"lipschitz_bound={lipschitz_bound:g} lies between the feasibility floor {self.floor:.4g} and the "
                f"smallest stabilising gain that was found, {self.found:.4g}: whether a policy with it can "
                "stabilise this equilibrium is not known."
            )
        return None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; ``None`` for infinity, complex numbers as [real, imaginary]."""
        numbers = {"floor": self.floor, "found": self.found, "lqr": self.lqr}
        return {
            **{name: value if np.isfinite(value) else None for name, value in numbers.items()},
            "method": self.method,
            "found_gain": None if self.found_gain is None else self.found_gain.tolist(),
            "lqr_gain": None if self.lqr_gain is None else self.lqr_gain.tolist(),
            "unstable": [[value.real, value.imag] for value in self.unstable.tolist()],
            "controllability": list(self.controllability),
            "left_out": [[value.real, value.imag] for value in self.left_out.tolist()],
            "observation_gain": self.observation_gain.tolist(),
            "accuracy": self.linearisation.accuracy,
        }

    def __str__(self) -> str:
        proof = {
            "stable": "stable without any control",
            "neutral": "not unstable: modes on the unit circle, which the smallest gain may move inside",
            "polynomial": "one input or output: no smaller gain moves all poles into the unit disc",
            "eigenvalue path": "no smaller gain moves the unstable pole out; may be far below the truth",
        }
        lines = [
            "Feasibility floor, action per unit of observation (l2), for a static policy differentiable there",
            f"  floor        {self.floor:.6g}   proven ({proof[self.method]})",
            f"  found        {self.found:.6g}   smallest stabilising gain found",
            f"  LQR          {self.lqr:.6g}   linear-quadratic regulator",
        ]
        for value, reach in zip(self.unstable, self.controllability, strict=True):
            lines.append(
                f"  unstable     λ = {value:.6g}, |λ| = {abs(value):.6g}, controllability {reach:.3g}"
            )
        if len(self.left_out):
            lines.append("  left out     " + ", ".join(f"λ = {value:.6g}" for value in self.left_out))
        lines.append(f"  accuracy     {self.linearisation.accuracy:.1g} of the finite differences")
        return "\n".join(lines)


def feasibility_floor(
    env: gym.Env[Any, Any],
    state: ArrayLike,
    action: ArrayLike,
    *,
    observation_gain: ArrayLike = 1.0,
    observation_cost: ArrayLike = 1.0,
    action_cost: float = 1.0,
    get_state: GetState | None = None,
    set_state: SetState | None = None,
    observe: GetState | None = None,
    step: float = 0.1,
    tolerance: float = 1e-6,
) -> FeasibilityFloor:
    """The smallest gain from observation to action that can hold an equilibrium, bounded from both sides.

    A policy whose Lipschitz constant is K has a Jacobian with ‖J‖₂ ≤ K at the equilibrium's observation. If K is
    below the floor, no such Jacobian stabilises the linearisation, whatever the policy does elsewhere.

    Environments whose state can be set: Gymnasium's MuJoCo ones (``state = [qpos, qvel]``), those that keep their
    state in an attribute ``state`` (classic control), and any other with ``get_state`` and ``set_state``. The
    environment is left as it was.

    Args:
        env: one Gymnasium environment; action and observation wrappers count, wrappers with a memory are refused.
        state: (state,) of the equilibrium, as ``get_state`` returns it.
        action: (action,) that holds it, in units of ``env.action_space``, strictly inside its limits.
        observation_gain: (observation,) or scalar: units of the observation that the policy's constant is stated
            in, per raw unit. ``1/sqrt(var + ε)`` under VecNormalize, ``1/observation_scale`` for that option.
        observation_cost, action_cost: diagonal weights of the linear-quadratic regulator, on the squared raw
            deviations of the observation, (observation,) or scalar, and of the action.
        get_state, set_state: ``get_state(env.unwrapped)`` returns the state as a vector, and
            ``set_state(env.unwrapped, state)`` makes it the environment's. Next states are subtracted.
        observe: ``observe(env.unwrapped)`` returns its observation without a step; ``_get_obs()`` if not given.
        step: largest finite-difference step; smaller ones are tried too.
        tolerance: how far one step may move the equilibrium, relative to ``1 + max|state|``.

    Raises:
        ValueError: discrete actions, no equilibrium (shows the residual), an action at its limit, a state that
            cannot be set, noise or memory, not differentiable there, an unstable mode that no action reaches or
            no observation shows.
        TypeError: ``env`` is no Gymnasium environment.

    Example:
        >>> import gymnasium as gym
        >>> env = gym.make("Pendulum-v1")
        >>> _ = env.reset(seed=0)
        >>> upright = feasibility_floor(env, state=[0, 0], action=[0])
        >>> f"{upright.floor:.3f}"  # N·m per unit of (cos θ, sin θ, θ̇)
        '5.000'
        >>> upright.warning(10.0) is None
        True
    """
    check_spaces(env)
    plant = plant_of(env, get_state, set_state, observe)
    step, tolerance = positive_finite("step", step), positive_finite("tolerance", tolerance)
    with borrowed(plant, restore=set_state is not None):
        at = check_state(plant, state)
        system = linearise(plant, at, check_action(env, action), step, tolerance)
    gain = observation_gains(observation_gain, len(system.c))
    cost = spread("observation_cost", observation_cost, len(system.c))

    blur = system.eigenvalue_accuracy
    a, b, c, left_out = movable_part(system.a, system.b, system.c, blur)
    movable = Linearisation(a, b, c, system.accuracy)
    seen = gain[:, None] * c
    floor, method = gain_floor(a, b, seen, blur)
    regulator = _regulator(a, b, c, cost, positive_finite("action_cost", action_cost))
    inverse = np.linalg.pinv(seen, rcond=blur)
    lqr = _stabilising(-regulator[0] @ inverse, movable, gain)
    starts = [-k @ inverse for k in regulator]
    smallest = np.zeros_like(starts[0]) if method == "stable" else _smallest(movable, gain, starts)
    eigenvalues = np.linalg.eigvals(a).astype(np.complex128)
    unstable = eigenvalues[np.abs(eigenvalues) > 1 + blur]
    return FeasibilityFloor(
        floor=floor,
        method=method,
        found=_norm(smallest),
        found_gain=smallest,
        lqr=_norm(lqr),
        lqr_gain=lqr,
        eigenvalues=eigenvalues,
        unstable=unstable,
        controllability=tuple(hautus(a, b, value)[0] for value in unstable),
        left_out=left_out,
        linearisation=movable,
        observation_gain=gain,
        normalised=plant.normalised,
    )


def _regulator(a: Array, b: Array, c: Array, cost: Array, action_cost: float) -> list[Array]:
    """(m, n) gains of the regulator asked for, and of one whose actions cost ten thousand times as much."""
    eye = np.eye(b.shape[1])
    try:
        return [
            lqr_gain(a, b, c.T @ (cost[:, None] * c), factor * action_cost * eye) for factor in (1.0, 1e4)
        ]
    except np.linalg.LinAlgError as error:
        raise ValueError(
            f"the linear-quadratic regulator does not exist ({error}). Give every sensor that shows an unstable or "
            "neutral mode a positive observation_cost."
        ) from error


def _smallest(system: Linearisation, units: Array, starts: list[Array]) -> Array | None:
    seen = units[:, None] * system.c

    def counts(gain: Array) -> bool:
        return _stabilising(gain, system, units) is not None

    return min((smallest_gain(system.a, system.b, seen, start, counts) for start in starts), key=_norm)


def _stabilising(gain: Array, system: Linearisation, units: Array) -> Array | None:
    """``gain`` if it stabilises whatever the environment is within the accuracy of the finite differences."""
    stable = stabilises(system.a, system.b, system.c, gain * units, system.accuracy)
    return gain if stable else None


def _norm(gain: Array | None) -> float:
    return float("inf") if gain is None else float(np.linalg.norm(gain, 2))
