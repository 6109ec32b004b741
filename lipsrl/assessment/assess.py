"""Certify, disturb and attack one agent by the tolerances of its sensors, and compare with stated limits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import pandas as pd
from gymnasium import spaces
from gymnasium.wrappers import NormalizeObservation
from numpy.typing import ArrayLike, NDArray
from stable_baselines3.common.base_class import BaseAlgorithm

from lipsrl._validation import positive_int
from lipsrl.actors.frames import attached_frames
from lipsrl.actors.normalization import NormalizeLike
from lipsrl.assessment._criteria import chatter, clean, enough, feasible, kept, proven, steepness
from lipsrl.assessment.card import Assessment, Criterion
from lipsrl.assessment.limits import Limits
from lipsrl.attacks import ConstantBiasAttack, MADAttack, MinimumOverAttacks, RandomAttack, worst_attacks
from lipsrl.certificates import Certificate, FeasibilityFloor, certify
from lipsrl.disturbances import (
    AutoregressiveNoise,
    Bias,
    Compose,
    Delay,
    Dropout,
    GaussianNoise,
    Quantization,
)
from lipsrl.evaluation import NonFiniteError, evaluate, random_return, rollout_trace
from lipsrl.evaluation._words import environment_in_words

#: An id, or what makes an environment.
EnvLike: TypeAlias = str | Callable[[], gym.Env[Any, Any]]

#: Clean episodes whose readings say how large a sensor's signal is, and the share of it that is its tolerance.
_LOOKED_AT, _SHARE = 5, 0.01


def assess(
    model: BaseAlgorithm,
    env: EnvLike,
    *,
    tolerance: ArrayLike | None = None,
    limits: Limits | None = None,
    vec_normalize: NormalizeLike = None,
    frame_stack: int | None = None,
    n_episodes: int = 50,
    seed: int = 0,
    max_episode_steps: int | None = None,
    feasibility: FeasibilityFloor | None = None,
    name: str = "model",
) -> Assessment:
    """Whether an agent meets stated limits under faults that are sized by the tolerances of its sensors.

    Proven: how far an actuator can move while each sensor is off by up to its tolerance (:func:`lipsrl.certify`).
    Measured, in paired episodes: what is kept of the return under white noise, AR(1) noise and a constant bias, each
    with a standard deviation of one tolerance (a third of their errors is larger than it), readings rounded to two, a
    tenth of them lost and all of them a step late, and under the worst of random, MAD and constant-bias attack inside
    the tolerances; and the chatter in the white noise. A measured criterion holds where the worse end of its 95 %
    interval does. What cannot be proven or measured does not hold.

    Args:
        model: an SB3 model on vector observations.
        env: id or zero-argument factory.
        tolerance: (sensors,) or one number, raw units: by how much each sensor may be off, as on its datasheet. None:
            1 % of the standard deviation of its readings in clean episodes, which the card says.
        limits: what is asked; the defaults of :class:`Limits` if not given.
        vec_normalize, frame_stack, max_episode_steps: as :func:`lipsrl.evaluate`.
        n_episodes: per fault and attack.
        seed: of the episodes.
        feasibility: of the plant, raw units; as :func:`lipsrl.certificates.feasibility_floor` returns it.
        name: of the agent, for the card.

    Raises:
        ValueError, TypeError: no vector observations, a tolerance that does not fit; as :func:`lipsrl.evaluate`.

    Example:
        >>> from stable_baselines3 import PPO
        >>> from lipsrl.assessment import assess
        >>> model = PPO("MlpPolicy", "Pendulum-v1", seed=0, device="cpu")  # untrained
        >>> card = assess(model, "Pendulum-v1", tolerance=[0.01, 0.01, 0.1], n_episodes=2, max_episode_steps=20)
        >>> card.passed
        False
    """
    limits = Limits() if limits is None else limits
    if not isinstance(limits, Limits):
        raise TypeError(f"limits must be a Limits, received {type(limits).__name__}.")
    if isinstance(env, gym.Env):
        raise TypeError("env must be a Gymnasium id or a zero-argument factory, received an environment.")
    positive_int("n_episodes", n_episodes)
    _refuse_normalisation_inside(model, env)
    running: dict[str, Any] = {
        "vec_normalize": vec_normalize, "frame_stack": frame_stack, "max_episode_steps": max_episode_steps,
    }  # fmt: skip
    assumptions: list[str] = []
    sensors = _tolerances(model, env, tolerance, seed, running, assumptions)
    faults = {
        "white noise": GaussianNoise(sensors),
        "AR(1) noise": AutoregressiveNoise(sensors, 0.9),
        "bias": Bias(sensors),
        "resolution": Quantization(2 * sensors),
        "dropout and delay": Compose([Dropout(0.1), Delay(1)]),
    }
    asked: dict[str, Any] = {
        **running,
        "n_episodes": n_episodes,
        "seed": seed,
        "on_nonfinite_action": "record",
    }
    evaluation = evaluate({name: model}, env, disturbances=faults, strengths=(0.0, 1.0), **asked)
    frame = evaluation.frame
    undisturbed = _returns(frame, "white noise", 0.0)
    try:
        nothing = random_return(env, n_episodes=n_episodes, seed=seed, max_episode_steps=max_episode_steps)
    except NonFiniteError:
        nothing = math.nan  # no criterion that is measured from it holds
    certificate, refused = _certified(model, sensors, vec_normalize, frame_stack)

    criteria: list[Criterion] = [
        *enough(n_episodes),
        proven(certificate, refused, model.action_space, len(sensors), limits.max_move),
        *steepness(certificate),
        *feasible(feasibility, certificate, refused, model, vec_normalize, frame_stack),
        clean(undisturbed, nothing, limits.min_return),
        *(
            kept(fault, _returns(frame, fault, 1.0), undisturbed, nothing, limits.min_kept)
            for fault in faults
        ),
        _attacked(model, env, sensors, asked, undisturbed, nothing, limits),
        chatter(
            _column(frame, "white noise", 1.0, "action_fluctuation"), model.action_space, limits.max_chatter
        ),
    ]
    if certificate is not None:
        assumptions += (*certificate.warnings, *certificate.assumptions)
    assumptions += [
        "White noise, AR(1) noise and bias have a standard deviation of one tolerance, so some of their errors are "
        "larger than the tolerance; the attacks and the proven move of the action stay inside.",
        "The simulation is the plant: what it does not model (actuators, timing, friction) was not tried.",
    ]
    return Assessment(
        name=name,
        env=environment_in_words(evaluation.metadata) or str(env),
        criteria=tuple(criteria),
        assumptions=tuple(dict.fromkeys(assumptions)),
        tolerance=tuple(sensors.tolist()),
        episodes=n_episodes,
        seed=seed,
        weights_sha256=None if certificate is None else certificate.weights_sha256,
        versions=dict(evaluation.metadata.get("versions") or {}),
    )


def _refuse_normalisation_inside(model: BaseAlgorithm, env: EnvLike) -> None:
    """The certificate reads through it, faults and attacks act behind it: a tolerance would mean two things.

    Raises:
        ValueError: there is one.
    """
    own = model.get_env()
    inside = own is not None and any(own.env_is_wrapped(NormalizeObservation))
    layer: Any = gym.make(env) if isinstance(env, str) else env()
    try:
        while not inside and isinstance(layer, gym.Wrapper):
            inside, layer = isinstance(layer, NormalizeObservation), layer.env
    finally:
        layer.close()
    if inside:
        raise ValueError(
            "an assessment needs raw readings, but gymnasium's NormalizeObservation stands around the environment: "
            "tolerances would be of what comes out of it. Train behind SB3's VecNormalize instead."
        )


def _tolerances(
    model: BaseAlgorithm,
    env: EnvLike,
    given: ArrayLike | None,
    seed: int,
    running: dict[str, Any],
    assumptions: list[str],
) -> NDArray[np.float64]:
    """(sensors,) raw units, > 0."""
    space = model.observation_space
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise ValueError(
            f"an assessment needs vector observations, a Box of shape (sensors,), received {space}."
        )
    n_sensors = space.shape[0] // (running["frame_stack"] or attached_frames(model) or 1)
    if given is None:
        try:
            traces = [rollout_trace(model, env, seed=seed, episode=e, **running) for e in range(_LOOKED_AT)]
        except NonFiniteError as error:
            raise ValueError(
                f"no tolerances were given, and they cannot be taken from clean episodes: {error} Give those of the "
                "datasheets (tolerance=, --sensor-scale)."
            ) from error
        spread = np.concatenate([trace["observations"] for trace in traces]).std(axis=0)
        constant = np.flatnonzero(spread == 0)
        assumptions.append(
            f"No tolerances were given: each sensor's is taken as {_SHARE:.0%} of the standard deviation of its "
            f"readings in {_LOOKED_AT} clean episodes. Give those of the datasheets."
        )
        if len(constant):
            known = spread[spread > 0]
            spread[constant] = known.min() if len(known) else 1.0
            assumptions.append(
                f"Sensors {', '.join(map(str, constant))} did not move in those episodes: theirs is "
                + ("the smallest of the others." if len(known) else f"{_SHARE:g}.")
            )
        return np.asarray(_SHARE * spread, dtype=np.float64)
    found = np.asarray(given, dtype=np.float64)
    if found.ndim == 0 or found.shape == (1,):
        found = np.full(n_sensors, float(found.reshape(())))
    if found.shape != (n_sensors,) or not (np.isfinite(found) & (found > 0)).all():
        raise ValueError(
            f"tolerance must be one finite number > 0, or one for each of the {n_sensors} sensors; received "
            f"{given!r}."
        )
    return found


def _certified(
    model: BaseAlgorithm, sensors: NDArray[Any], vec_normalize: NormalizeLike, frame_stack: int | None
) -> tuple[Certificate | None, str]:
    """The certificate per tolerance, or why there is none."""
    try:
        found = certify(model, vec_normalize=vec_normalize, sensor_scale=sensors, frame_stack=frame_stack)
    except (ValueError, TypeError) as error:
        return None, str(error)
    return found, ""


def _attacked(
    model: BaseAlgorithm,
    env: EnvLike,
    sensors: NDArray[Any],
    asked: dict[str, Any],
    undisturbed: NDArray[Any],
    nothing: float,
    limits: Limits,
) -> Criterion:
    """The worst attack inside the tolerances."""
    units: dict[str, Any] = {"units": sensors}
    bias = ConstantBiasAttack(None, 1.0, env=env, max_episode_steps=asked["max_episode_steps"], **units)
    attacks = MinimumOverAttacks([RandomAttack(None, 1.0, **units), MADAttack(None, 1.0, **units), bias])
    try:
        frame = evaluate({"agent": model}, env, disturbances=attacks, strengths=(1.0,), **asked).frame
    except (ValueError, TypeError) as error:
        return Criterion("worst attack", "measured", f"not measured: {error}", False, "measured")
    worst = str(worst_attacks(frame)["attack"].iloc[0])
    returns = _returns(frame, worst, 1.0)
    name = f"worst attack ({worst})"
    return kept(name, returns, undisturbed, nothing, limits.min_kept_attacked)


def _column(frame: pd.DataFrame, disturbance: str, strength: float, column: str) -> NDArray[np.float64]:
    rows = frame[(frame["disturbance"] == disturbance) & (frame["strength"] == strength)]
    return rows.sort_values("episode")[column].to_numpy(np.float64)


def _returns(frame: pd.DataFrame, disturbance: str, strength: float) -> NDArray[np.float64]:
    """By episode; nan where one ended at a value that is not finite."""
    found = _column(frame, disturbance, strength, "return")
    return np.where(np.isfinite(found), found, math.nan)
