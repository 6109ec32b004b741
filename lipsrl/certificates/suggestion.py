"""Which K to start with, from what a stock agent needs, what its plant needs, or how large its sensors' signals are."""

from __future__ import annotations

import numbers
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import nn

from lipsrl._digits import rounded_up
from lipsrl._validation import positive_int
from lipsrl.actors import actor_network
from lipsrl.actors.agent import load_agent
from lipsrl.actors.normalization import NormalizeLike
from lipsrl.certificates._clean_episodes import EnvLike, environments
from lipsrl.certificates.deterministic._certify import certify
from lipsrl.feasibility.floor import FeasibilityFloor, feasibility_floor
from lipsrl.feasibility.plant import Array
from lipsrl.feasibility.policy import policy_units
from lipsrl.layers import spectral_norm
from lipsrl.layers._plain import Scale
from lipsrl.networks import scale_vector

#: Times the slope that a stock agent ends with: what benchmarks/pace.py trains at (docs/pace.md).
ROOM = 2.0

#: Half ranges of the action per standard deviation of the observation, where nothing but the spaces is known.
HALF_RANGES = 8.0


@dataclass(frozen=True)
class SuggestedBound:
    """A ``lipschitz_bound`` to begin with; ``lipsrl frontier`` measures what smaller ones cost.

    Attributes:
        bound: K, l2, action (or logits, Q-values) per unit of what the policy receives over ``observation_scale``.
        slope: steepest pair that was found in the agent, in the same unit; ``None`` without an agent.
        floor: what the plant needs, in the same unit; ``None`` where no equilibrium was named.
        observation_scale: (observation,) unit of each sensor that ``bound`` is per; ``None``: as the agent has it.
        reason: in words.
    """

    bound: float
    slope: float | None
    floor: FeasibilityFloor | None
    observation_scale: tuple[float, ...] | None
    reason: str

    @property
    def policy_kwargs(self) -> dict[str, Any]:
        """For the SB3 model that is to be trained."""
        scale = None if self.observation_scale is None else list(self.observation_scale)
        return {"lipschitz_bound": self.bound} | ({} if scale is None else {"observation_scale": scale})

    def __str__(self) -> str:
        given = ", ".join(f"{name}={value}" for name, value in self.policy_kwargs.items())
        return f"{self.reason}; try {given}. `lipsrl frontier` measures what a smaller one costs."


def suggest_bound(
    source: BaseAlgorithm | EnvLike | Path,
    vec_normalize: NormalizeLike = None,
    *,
    env: EnvLike | None = None,
    equilibrium: ArrayLike | None = None,
    equilibrium_action: ArrayLike | None = None,
    observation_scale: ArrayLike | None = None,
    steps: int = 2000,
    max_episode_steps: int | None = None,
    seed: int = 0,
) -> SuggestedBound:
    """A K to start with, in the policy's own units (l2).

    Twice the slope of an agent that works, for a Q-network at least the product of its layers' norms; and not less than
    twice the linear-quadratic regulator's, where an equilibrium is named. Without an agent and an equilibrium: such
    that the action may sweep its whole range within a quarter of a standard deviation of the observation, under random
    actions; a coarse start, in any task.

    Args:
        source: an SB3 model, its zip or folder (:func:`lipsrl.load_agent`), or an environment (id, factory or
            instance).
        vec_normalize: that the model was trained with (object or file).
        env: of the equilibrium, where ``source`` is an agent.
        equilibrium, equilibrium_action: as in :func:`feasibility_floor`; zeros if no action is given.
        observation_scale: (observation,) or one number: unit of each sensor, where ``source`` is an environment. The
            standard deviation, to one digit, if not given.
        steps, seed: of the random actions.
        max_episode_steps: after which the environment is reset, if its episodes have not ended; None: not before
            they end, so that one that never does is seen from one start.

    Raises:
        TypeError: neither an agent nor an environment.
        ValueError: observations that are no vector where they must be; an equilibrium without an environment; as
            :func:`lipsrl.certify` and :func:`feasibility_floor`.

    Example:
        >>> import lipsrl
        >>> lipsrl.suggest_bound("Pendulum-v1", equilibrium=[0, 0], observation_scale=[1, 1, 8]).bound
        19.0
    """
    if isinstance(source, nn.Module):
        raise TypeError(
            f"source must be an SB3 model, its file or an environment, received the network {type(source).__name__}: "
            "pass the model that it belongs to."
        )
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or seed < 0:
        raise ValueError(f"seed must be an integer >= 0, received {seed!r}.")
    if equilibrium is None and equilibrium_action is not None:
        raise ValueError(
            "equilibrium_action is of an equilibrium, and none was given: pass equilibrium= too."
        )
    if isinstance(source, Path) or (
        isinstance(source, str) and source and (source.endswith(".zip") or Path(source).is_dir())
    ):
        agent = load_agent(source, vec_normalize="auto" if vec_normalize is None else vec_normalize)
        source, vec_normalize = agent.model, agent.vec_normalize
    if isinstance(source, BaseAlgorithm):
        if observation_scale is not None:
            raise ValueError(
                "observation_scale is only for an environment; an agent has its own units. Leave it out."
            )
        found = _from_agent(source, vec_normalize, seed)
        units, plant = None, env
        if equilibrium is not None:
            units = policy_units(source, vec_normalize)
    else:
        if vec_normalize is not None or env is not None:
            raise ValueError("vec_normalize and env belong to an agent; source is the environment here.")
        found = _from_environment(
            source, observation_scale, positive_int("steps", steps), max_episode_steps, seed
        )
        units, plant = 1.0 / np.asarray(found.observation_scale), source
    if equilibrium is None:
        return found
    if plant is None:
        raise ValueError("equilibrium needs env, whose state it is: pass env=.")
    floor = _floor(plant, equilibrium, equilibrium_action, units, seed)
    return _with_floor(found, floor)


def suggestion_for(slope: float, model: BaseAlgorithm | None = None) -> SuggestedBound:
    """Of an agent whose steepest pair has ``slope`` in the policy's own units.

    Args:
        model: the agent. Of a network of Q-values the layers' norms are asked for, too: their level is carried by one
            direction of each layer, and their product is many times the slope (docs/pace.md). A bound that is proven
            layer by layer below that product stops the layers before the stock agent's are stopped.
    """
    bound = ROOM * slope
    reason = f"this agent's slope is {slope:.3g} per unit of what its policy receives"
    product = _product_of_norms(model)
    if product is not None and product > bound:
        bound = product
        reason += f", and its Q-network's layers have norms whose product is {product:.3g}"
    return SuggestedBound(float(rounded_up(bound, 2)) if bound > 0 else 1.0, slope, None, None, reason)


def _product_of_norms(model: BaseAlgorithm | None) -> float | None:
    """Of the layers of a network of Q-values; ``None`` of other agents, and where it has other parts than layers."""
    if not any(hasattr(getattr(model, "policy", None), name) for name in ("q_net", "quantile_net")):
        return None
    assert model is not None
    policy: Any = model.policy
    constrained = getattr(policy, "lipschitz_network", None)
    if constrained is not None:  # its own units; of Sandwich layers the merged norms say nothing
        online = policy.q_net if hasattr(policy, "q_net") else policy.quantile_net
        behind_extractor = any(True for _ in online.features_extractor.parameters())
        return None if behind_extractor else float(constrained.lipschitz_bound())
    product = 1.0
    for part in actor_network(model):
        if isinstance(part, nn.Linear):
            product *= spectral_norm(part.weight)
        elif isinstance(part, Scale):
            product *= abs(part.factor)
        elif any(True for _ in part.parameters()):
            return None
    return product


def _from_agent(model: BaseAlgorithm, vec_normalize: NormalizeLike, seed: int) -> SuggestedBound:
    certificate = certify(model, vec_normalize=vec_normalize, seed=seed)
    return suggestion_for(certificate.network.lower_bound, model)


def _from_environment(
    source: EnvLike,
    observation_scale: ArrayLike | None,
    steps: int,
    max_episode_steps: int | None,
    seed: int,
) -> SuggestedBound:
    with environments(source, 1, None, max_episode_steps) as (env,):
        space = env.observation_space
        if not (isinstance(space, spaces.Box) and len(space.shape) == 1):
            raise ValueError(
                f"a bound from an environment alone needs observations that are a vector, received {space}. Train a "
                "stock agent and pass that."
            )
        size = space.shape[0]
        deviation = _deviation(env, steps, seed)
        half = _half_range(env.action_space)
    scale = deviation
    if scale_vector("observation_scale", observation_scale, size) is not None:
        scale = np.broadcast_to(np.asarray(observation_scale, dtype=np.float64).reshape(-1), (size,))
    # in units of the scale, one deviation of all sensors is this long per sensor
    signal = float(np.sqrt(np.mean((deviation / scale) ** 2)))
    bound = float(rounded_up(HALF_RANGES * half / signal, 2))
    reason = (
        f"the action has a half range of {half:.3g}, the observations deviate by {signal:.3g} "
        "observation_scale (root mean square, random actions)"
    )
    return SuggestedBound(bound, None, None, tuple(scale.tolist()), reason)


def _deviation(env: gym.Env[Any, Any], steps: int, seed: int) -> Array:
    """(observation,) standard deviation under random actions, to one digit; 1 for what never moves."""
    env.action_space.seed(seed)
    observation, _ = env.reset(seed=seed)
    seen = [observation]
    for _ in range(steps):
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        seen.append(observation)
        if terminated or truncated:
            seen.append(env.reset()[0])
    deviation = np.std(np.asarray(seen, dtype=np.float64), axis=0)
    return np.array([float(f"{value:.0e}") if value > 1e-9 else 1.0 for value in deviation])


def _half_range(space: spaces.Space[Any]) -> float:
    """Length of the half range of all actuators; 1 for one without limits and for logits."""
    if not isinstance(space, spaces.Box):
        return 1.0
    half = (space.high.astype(np.float64) - space.low) / 2
    return float(np.linalg.norm(np.where(np.isfinite(half), half, 1.0)))


def _floor(
    plant: EnvLike, state: ArrayLike, action: ArrayLike | None, units: Array | None, seed: int
) -> FeasibilityFloor:
    with environments(plant, 1, None) as (env,):
        env.reset(seed=seed)
        held = np.zeros(env.action_space.shape or (1,)) if action is None else action
        floor = feasibility_floor(env, state, held)
    return floor if units is None else floor.in_units(units)


def _with_floor(found: SuggestedBound, floor: FeasibilityFloor) -> SuggestedBound:
    """An agent's own need if it is larger; else that of the plant, with the same room."""
    needed = floor.lqr if np.isfinite(floor.lqr) else floor.found
    if not np.isfinite(needed) or needed <= 0:
        return replace(found, floor=floor)
    bound = float(rounded_up(ROOM * needed, 2))
    words = f"its equilibrium needs {floor.found:.3g} (linear-quadratic regulator: {floor.lqr:.3g})"
    if found.slope is None:
        return replace(found, bound=bound, floor=floor, reason=words)
    return replace(found, bound=max(found.bound, bound), floor=floor, reason=f"{found.reason}; {words}")
