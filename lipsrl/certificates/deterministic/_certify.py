"""``certify``: read the agent once, bound, search, and say what was assumed."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from lipsrl._threads import one_thread
from lipsrl._validation import positive_int, unknown_name
from lipsrl.actors import ActorParts
from lipsrl.actors.fingerprint import weights_sha256
from lipsrl.actors.normalization import NormalizeLike, observation_chain
from lipsrl.actors.pipeline import Pipeline
from lipsrl.certificates.bounds._local import local_bounds
from lipsrl.certificates.bounds._search import NORMS
from lipsrl.certificates.bounds._upper import Bound, promising, upper_bounds
from lipsrl.certificates.deterministic._gains import factors, per_sensor
from lipsrl.certificates.deterministic._over_time import window_bounds
from lipsrl.certificates.deterministic._pairs import steepest_pairs
from lipsrl.certificates.deterministic._reading import Reading, balls
from lipsrl.certificates.deterministic._statement import LocalBounds, NetworkBound
from lipsrl.certificates.deterministic._window import Asked
from lipsrl.certificates.deterministic._words import assumptions, left_out, versions, warnings
from lipsrl.certificates.deterministic.certificate import Certificate
from lipsrl.policies._unwrapped import policy_of

METHODS = ("auto", "lipsdp", "eclipse-fast", "product", "construction")


#: Parameters of a network up to which one thread is faster than several (2×64: 6,000; 2×256: 70,000).
SMALL = 50_000


def certify(
    model: BaseAlgorithm,
    *,
    norm: str = "l2",
    method: str = "auto",
    vec_normalize: NormalizeLike = None,
    states: Any = None,
    radius: float | None = None,
    sensor_scale: Any = None,
    frame_stack: int | None = None,
    seed: int = 0,
    n_starts: int = 8192,
    _parts: ActorParts | None = None,
) -> Certificate:
    """Bounds of the Lipschitz constant of the deterministic policy: how far the action moves per unit of the raw
    observation.

    Works on stock SB3 models (PPO, A2C, SAC, TD3, DDPG, DQN; TRPO, TQC, QRDQN, MaskablePPO, ARS of sb3-contrib) as on
    Lipschitz ones, on vectors, images (per grey level), discrete values (per unit of the one-hot vector) and Dicts of
    those. The bound includes VecNormalize, gymnasium's NormalizeObservation and VecFrameStack around the model's
    environment. With k stacked frames, the bound is per unit of error in *each* frame. :attr:`Certificate.window` has
    the bounds for an error in the newest frame alone, for signals over time and for constant
    errors. The policy is put in evaluation mode,
    as ``predict`` does.

    Args:
        model: an SB3 model.
        norm: ``"l2"``, ``"linf"`` or ``"l1"``, of observations and actions alike.
        method: ``"lipsdp"`` (l2, activations that act unit by unit: LipSDP-Neuron, verified in float64),
            ``"eclipse-fast"`` (the same in closed form, looser), ``"construction"`` (Lipschitz policies, in their own
            norm: the bound of the constrained layers), ``"product"`` (any: float64 operator norms), or ``"auto"``, the
            smallest bound of all methods that apply.
        vec_normalize: the ``VecNormalize`` the model was trained with, or its file. If the model's environment has
            one, it is used.
        states, radius: raw observations (n, obs) and the l2 radius of a ball around each: bounds that hold inside
            these balls, in :attr:`Certificate.local`.
        sensor_scale: (sensors,) or one number: the unit of each sensor, such as its tolerance in the datasheet; the
            raw unit if not given. An image is one sensor, also if images are stacked.
        frame_stack: number of stacked frames, for a model without its environment.
        seed, n_starts: of the search for the lower bound.

    Raises:
        ValueError: the actor has a part that cannot be bounded, weights that are not finite, a normalisation of
            another size, an unknown norm or method, or one that does not fit the model.
    """
    if norm not in NORMS:
        raise unknown_name("norm", norm, NORMS)
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    if not isinstance(model, BaseAlgorithm):
        raise TypeError(f"model must be a Stable-Baselines3 model, received {type(model).__name__}.")
    pipeline = Pipeline.of(model, observation_chain(model, vec_normalize, frame_stack), _parts)
    reading = Reading.of(pipeline, norm, sensor_scale)
    positive_int("n_starts", n_starts)
    if isinstance(model.observation_space, (spaces.Discrete, spaces.MultiDiscrete)) and states is not None:
        raise ValueError(
            f"states are for observations that can be off by a little; those of {model.observation_space} are codes. "
            "Leave states and radius out."
        )
    around = balls(states, radius, pipeline)
    small = sum(parameter.numel() for parameter in pipeline.network.parameters()) <= SMALL
    with one_thread(small):
        raw, own = upper_bounds(pipeline, method, norm, reading.units)
        upper = raw.value * reading.stacked * (1 + 1e-15 * (reading.stacked != 1))
        found = steepest_pairs(reading, seed, n_starts)
        sensors = per_sensor(reading, raw, own)
        window, untold = window_bounds(Asked(reading, raw, own, method), model, upper, sensors)
    if found.slope > upper or found.network_slope > own.value:
        raise AssertionError(
            f"lipsrl found a pair of slope {found.slope:.9g} (network {found.network_slope:.9g}) above its own "
            f"bound {upper:.9g} (network {own.value:.9g}): a bug in lipsrl, please report it with the model."
        )
    constrained = promising(pipeline, norm)
    policy = type(policy_of(model))
    return Certificate(
        upper_bound=upper,
        lower_bound=found.slope,
        norm=norm,
        method=raw.method,
        factors=tuple(factors(reading, raw, own)),
        network=NetworkBound(own.value, found.network_slope),
        per_sensor=tuple(sensors),
        sensors=pipeline.names,
        promise=None if constrained is None else constrained.bound,
        algorithm=type(model).__name__,
        policy=f"{policy.__module__}.{policy.__qualname__}",
        witness={
            "observation": (found.pair.x * reading.units).tolist(),
            "observation_prime": (found.pair.x_prime * reading.units).tolist(),
            "action": found.pair.y.tolist(),
            "action_prime": found.pair.y_prime.tolist(),
        },
        assumptions=assumptions(pipeline),
        warnings=warnings(pipeline) + left_out(raw, method) + untold,
        weights_sha256=weights_sha256(pipeline.parts.network),
        versions=versions(),
        sensor_scale=None if sensor_scale is None else reading.by_sensor(),
        local=None if around is None else _local(reading, *around, raw),
        window=window,
    )


def _local(reading: Reading, states: Tensor, radius: float, raw: Bound) -> LocalBounds:
    if reading.norm != "l2":
        raise ValueError(f"local bounds are in l2 only, received norm={reading.norm!r}.")
    values = local_bounds(reading.pipeline, states, radius, raw.value, reading.units) * reading.stacked
    return LocalBounds(radius, tuple(values.tolist()))
