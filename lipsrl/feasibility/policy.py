"""A policy against the feasibility floor: both in the same units (docs/feasibility.md)."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike
from stable_baselines3.common.base_class import BaseAlgorithm

from lipsrl._digits import rounded_up
from lipsrl.actors import ActorParts, actor_parts
from lipsrl.actors.normalization import NormalizeLike, normalization_of, observation_gains
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


def policy_units(
    model: BaseAlgorithm, vec_normalize: NormalizeLike = None, *, parts: ActorParts | None = None
) -> Array:
    """(observation,) units that the promise of ``model`` is per, per raw unit: an ``observation_gain``.

    ``1/sqrt(var + ε)`` of VecNormalize as its statistics are now, over the ``observation_scale`` of the policy; ones
    without either.

    Args:
        model: an SB3 model; its mode (training or evaluation) is kept.
        vec_normalize: as in :func:`lipsrl.certify`.
        parts: of the model, if they are at hand.

    Raises:
        ValueError: observations that are no Box; as :func:`lipsrl.certify`.
    """
    space = model.observation_space
    if not isinstance(space, spaces.Box):
        raise ValueError(f"the units of a policy are known for Box observations only, received {space}.")
    _, gain, _ = observation_gains(normalization_of(model, vec_normalize), int(np.prod(space.shape)))
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
    floor in the policy's own units, and the certified bound against the floor in raw units.

    Args:
        floor: in raw units (``observation_gain=1``).
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
