"""Attacks, alone or as parts of other disturbances, and their target models."""

from __future__ import annotations

from typing import Any

from lipsrl.actors.normalization import NormalizeLike
from lipsrl.attacks._base import Attack
from lipsrl.disturbances import Disturbance, InParts


def holds_attack(disturbance: Disturbance | None) -> bool:
    """Whether it is an attack, or a `Compose` or `Mixture` with one in it."""
    if isinstance(disturbance, InParts):
        return any(map(holds_attack, disturbance.disturbances))
    return isinstance(disturbance, Attack)


def holds_attack_with_target(disturbance: Disturbance) -> bool:
    """Whether one of the attacks in it has a target model already."""
    if isinstance(disturbance, InParts):
        return any(map(holds_attack_with_target, disturbance.disturbances))
    return isinstance(disturbance, Attack) and disturbance.target is not None


def searches_in_a_factory(disturbance: Disturbance) -> Attack | None:
    """The attack in it whose environment is a callable: what that makes, nobody can tell."""
    if isinstance(disturbance, InParts):
        return next(filter(None, map(searches_in_a_factory, disturbance.disturbances)), None)
    found = isinstance(disturbance, Attack) and callable(getattr(disturbance, "env", None))
    return disturbance if isinstance(disturbance, Attack) and found else None


def with_target(
    disturbance: Disturbance,
    model: Any,
    vec_normalize: NormalizeLike = None,
    frame_stack: int | None = None,
) -> Disturbance:
    """The disturbance with ``model`` as the target of its attacks, including those inside a `Compose` or `Mixture`.

    Raises:
        TypeError, ValueError: see `Attack.against`.
    """
    if isinstance(disturbance, Attack):
        return disturbance.against(model, vec_normalize, frame_stack)
    if isinstance(disturbance, InParts) and holds_attack(disturbance):
        return disturbance.with_parts(
            [with_target(part, model, vec_normalize, frame_stack) for part in disturbance.disturbances]
        )
    return disturbance


def refresh(disturbance: Disturbance, model: Any) -> None:
    """Let the attacks in it, whose target is ``model``, follow its weights; see :meth:`Attack.refresh`.

    Raises:
        ValueError: one that cannot.
    """
    if isinstance(disturbance, Attack):
        disturbance.refresh(model)
    elif isinstance(disturbance, InParts):
        for part in disturbance.disturbances:
            refresh(part, model)
