"""A policy against the feasibility floor: both in the same units (docs/feasibility.md)."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike
from stable_baselines3.common.base_class import BaseAlgorithm

from lipsrl._digits import rounded_up
from lipsrl.actors import ActorParts, actor_parts
from lipsrl.actors.frames import frames_of
from lipsrl.actors.normalization import NormalizeLike, observation_chain
from lipsrl.feasibility.floor import FeasibilityFloor
from lipsrl.feasibility.plant import Array
from lipsrl.policies._unwrapped import policy_of


class Certified(Protocol):
    """What is asked of a :class:`lipsrl.Certificate`."""

    @property
    def norm(self) -> str: ...
    @property
    def sensor_scale(self) -> Any: ...
    @property
    def promise(self) -> float | None: ...
    @property
    def upper_bound(self) -> float: ...


def memory_in_words(
    certificate: Certified | None = None, model: BaseAlgorithm | None = None, frame_stack: int | None = None
) -> str:
    """What a policy remembers, as the end of a sentence; ``""`` for a static one, which is what the floor is about.

    Args:
        certificate: of the policy, if there is one; it knows of frames and of rl-zoo's HistoryWrapper.
        model: an SB3 model, which may also be recurrent.
        frame_stack: as :func:`lipsrl.certify`.
    """
    if model is not None and hasattr(policy_of(model), "lstm_actor"):
        return "it is recurrent"
    frames = 1 if model is None else frames_of(model, frame_stack)
    window = getattr(certificate, "window", None)
    if window is not None:
        frames = max(frames, window.frames)
        if window.past_actions is not None:
            return f"it sees the last {frames} observations and actions"
    if frames > 1:
        return f"it sees {frames} observations"
    stacked = any(factor.name == "frame_stack" for factor in getattr(certificate, "factors", ()))
    return "it sees several observations" if stacked or window is not None else ""


def policy_units(
    model: BaseAlgorithm,
    vec_normalize: NormalizeLike = None,
    *,
    frame_stack: int | None = None,
    parts: ActorParts | None = None,
) -> Array:
    """(observation,) units that the promise of ``model`` is per, per raw unit: an ``observation_gain``.

    ``1/sqrt(var + ε)`` of VecNormalize as its statistics are now, and of gymnasium's NormalizeObservation inside the
    environment, over the ``observation_scale`` of the policy; ones without any. The same gains as those that
    :func:`lipsrl.certify` counts.

    Args:
        model: an SB3 model; its mode (training or evaluation) is kept.
        vec_normalize, frame_stack: as in :func:`lipsrl.certify`.
        parts: of the model, if they are at hand.

    Raises:
        ValueError: observations that are no Box; as :func:`lipsrl.certify`.
    """
    space = model.observation_space
    if not isinstance(space, spaces.Box):
        raise ValueError(f"the units of a policy are known for Box observations only, received {space}.")
    chain, size = observation_chain(model, vec_normalize, frame_stack), int(np.prod(space.shape))
    _, gain, _ = chain.gains(size)
    if chain.inner is not None:
        inside = np.tile(chain.inner[1], chain.frames)
        if inside.size != size:
            raise ValueError(
                f"NormalizeObservation inside the environment normalises {inside.size // chain.frames} values, but the "
                f"model receives {size} of {chain.frames} frame(s). Use VecNormalize around the environment instead."
            )
        gain = inside * gain
    if parts is None:
        training = policy_of(model).training
        parts = actor_parts(model)
        policy_of(model).set_training_mode(training)
    return gain if parts.constrained is None else np.asarray(gain / parts.constrained.input_scale)


def feasibility_warnings(
    floor: FeasibilityFloor, certificate: Certified, observation_gain: ArrayLike
) -> tuple[str, ...]:
    """What keeps the policy of ``certificate`` from holding the equilibrium of ``floor``, in words; empty if nothing.

    Two necessary conditions (docs/feasibility.md), of which neither implies the other: the promise K against the
    floor in the policy's own units, and the certified bound against the floor in raw units. Nothing is said about a
    policy with a memory (:func:`memory_in_words`), which the floor is not about.

    Args:
        floor: in raw units (``observation_gain=1``), of the environment below any NormalizeObservation that the
            certificate counts.
        certificate: l2, in raw units.
        observation_gain: (observation,) :func:`policy_units`.

    Raises:
        ValueError: units or norms that do not fit.
    """
    if (
        certificate.norm != "l2"
        or certificate.sensor_scale is not None
        or (floor.observation_gain != 1).any()
    ):
        raise ValueError(
            "the floor and the certificate must both be in l2 and raw units: leave out sensor_scale= and "
            "observation_gain=, and certify with norm='l2'."
        )
    if memory_in_words(certificate):
        return ()
    counted = any(factor.name == "normalize_observation" for factor in getattr(certificate, "factors", ()))
    if counted and floor.normalised:
        raise ValueError(
            "the floor is of an environment with NormalizeObservation, whose gain the certificate counts as well: it "
            "would count twice. Pass the floor of the environment below that wrapper."
        )
    gains, seen = np.asarray(observation_gain, dtype=np.float64), len(floor.linearisation.c)
    if gains.size not in (1, seen):
        raise ValueError(
            f"the floor is of an observation of {seen} value(s), but the policy receives {gains.size}: it is about "
            "another observation. Pass the floor of the environment as the policy sees it; for a policy that sees "
            "earlier observations or actions there is none."
        )
    texts = []
    promise = certificate.promise
    if promise is not None and promise < floor.floor_for(observation_gain):
        texts.append(str(floor.in_units(observation_gain).warning(promise)))
    if certificate.upper_bound < floor.floor:
        texts.append(
            f"the certified bound {rounded_up(certificate.upper_bound, 4)} (action per raw unit) is below the "
            f"feasibility floor {floor.floor:.4g}: the policy as it is now cannot stabilise this equilibrium."
        )
    return tuple(texts)
