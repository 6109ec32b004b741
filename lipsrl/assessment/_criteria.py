"""Each criterion: one number, its interval, its limit, in words that stay on the worse side when rounded."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm

from lipsrl._digits import rounded_up
from lipsrl.actors.normalization import NormalizeLike
from lipsrl.assessment.card import Criterion
from lipsrl.certificates import Certificate, FeasibilityFloor, certify, feasibility_warnings, policy_units
from lipsrl.feasibility.policy import memory_in_words
from lipsrl.reporting.numbers import interval, number, percent
from lipsrl.statistics import bootstrap_ci, paired_difference

Array = NDArray[np.float64]


_STUCK = "not stated: no actuator has a range, low = high"
_NOTHING = "not measured: the return of random actions is not finite"


def _range(space: Any) -> Array | None:
    """(actuators,) what each can do; None where that is not bounded, or actions are no numbers."""
    if not isinstance(space, spaces.Box) or not space.is_bounded():
        return None
    return (space.high.astype(np.float64) - space.low.astype(np.float64)).reshape(-1)


#: Of fewer episodes an interval is a point, or nearly, and passes where it should not.
LEAST_EPISODES = 5


def enough(episodes: int) -> list[Criterion]:
    """Nothing where there are enough episodes."""
    if episodes >= LEAST_EPISODES:
        return []
    return [
        Criterion(
            "episodes",
            f"≥ {LEAST_EPISODES}",
            str(episodes),
            False,
            "measured",
            episodes,
            limit=LEAST_EPISODES,
        )
    ]


def proven(
    certificate: Certificate | None, refused: str, space: Any, sensors: int, limit: float
) -> Criterion:
    """How far an actuator can move while every sensor is anywhere inside its tolerance.

    In l2 per tolerance the certificate bounds it by √sensors times its bound, and by the sum of the sensors' own.
    """
    name, asked = "action inside the tolerances", f"≤ {100 * limit:g} % of the range"
    if certificate is None:
        return Criterion(name, asked, f"no certificate: {refused}", False, "proven", limit=limit)
    reach = _range(space)
    if reach is None:
        said = (
            "not stated: no bounded continuous actions (lipsrl certify --epsilon: margins of discrete ones)"
        )
        return Criterion(
            name, asked, said, False if isinstance(space, spaces.Box) else None, "proven", limit=limit
        )
    bound = min(math.sqrt(sensors) * certificate.upper_bound, sum(certificate.per_sensor)) * (1 + 1e-12)
    movable = reach[reach > 0]
    if not len(movable):
        return Criterion(name, asked, _STUCK, False, "proven", limit=limit)
    share = bound / float(movable.min())
    worst = rounded_up(100 * share, 3)
    return Criterion(
        name,
        asked,
        f"≤ {worst} % of the range",
        share <= limit,
        "proven",
        value=share,
        limit=limit,
    )


def steepness(certificate: Certificate | None) -> list[Criterion]:
    """Stated: the bound per tolerance, and how much of a promised K is used."""
    if certificate is None:
        return []
    bound, low = certificate.upper_bound, certificate.lower_bound
    said = [
        Criterion(
            "slope per tolerance, l2", "", f"{number(low, rounding='down')} found, {rounded_up(bound, 3)} proven", None,
            "stated", value=bound,
        )
    ]  # fmt: skip
    if certificate.promise is not None:
        used = certificate.network.lower_bound / certificate.promise
        text = f"{percent(used)} of K = {number(certificate.promise)}"
        said.append(Criterion("share of K that is used", "", text, None, "stated", value=used))
    return said


def feasible(
    floor: FeasibilityFloor | None,
    per_tolerance: Certificate | None,
    refused: str,
    model: BaseAlgorithm,
    vec_normalize: NormalizeLike,
    frame_stack: int | None,
) -> list[Criterion]:
    """Whether a controller of that bound can hold the plant at all; for information if it has a memory."""
    if floor is None:
        return []
    name, asked = "holds the equilibrium", f"a slope ≥ {number(floor.floor)}"
    memory = memory_in_words(per_tolerance, model, frame_stack)
    if memory:
        text = f"does not apply: the policy has a memory ({memory})"
        return [Criterion(name, asked, text, None, "stated", limit=floor.floor)]
    if per_tolerance is None:
        text = f"no certificate: {refused}"
        return [Criterion(name, asked, text, False, "proven")]
    certificate = certify(model, vec_normalize=vec_normalize, frame_stack=frame_stack)
    warnings = feasibility_warnings(floor, certificate, policy_units(model, vec_normalize))
    text = "; ".join(warnings) or f"bound {rounded_up(certificate.upper_bound, 3)} per raw unit"
    return [
        Criterion(name, asked, text, not warnings, "proven", value=certificate.upper_bound, limit=floor.floor)
    ]


def clean(returns: Array, nothing: float, limit: float | None) -> Criterion:
    """The return without any fault."""
    least = nothing if limit is None else limit
    if math.isnan(least):
        return Criterion("clean return", "> that of random actions", _NOTHING, False, "measured")
    asked = f"> {number(least)} (random actions)" if limit is None else f"≥ {number(least)}"
    if np.isnan(returns).any():
        return _not_finite("clean return", asked, returns, limit=least)
    mean, low, high = bootstrap_ci(returns, np.mean)
    text = f"{number(mean)} {interval(low, high)}"
    return Criterion(
        "clean return", asked, text, bool(low > least or low == limit), "measured", mean, low, high, least
    )


def kept(name: str, returns: Array, undisturbed: Array, nothing: float, limit: float) -> Criterion:
    """The share of the clean return, above that of random actions, that is kept."""
    asked = f"≥ {100 * limit:g} % kept"
    if np.isnan(returns).any() or np.isnan(undisturbed).any():
        return _not_finite(name, asked, returns, limit=limit)
    if math.isnan(nothing):
        return Criterion(name, asked, _NOTHING, False, "measured", limit=limit)
    earned = float(undisturbed.mean()) - nothing
    if earned <= 0:
        return Criterion(
            name, asked, "nothing to keep: no more than random actions", False, "measured", limit=limit
        )
    share, low, high = (1 + gap / earned for gap in paired_difference(returns, undisturbed, np.mean))
    text = f"{percent(low, rounding='down')} to {percent(high)} ({number(float(returns.mean()))})"
    return Criterion(name, asked, text, low >= limit, "measured", share, low, high, limit)


def chatter(fluctuation: Array, space: Any, limit: float) -> Criterion:
    """The mean change of the action per step, as a share of the range (l2 over the actuators)."""
    name, asked = "chatter in white noise", f"≤ {100 * limit:g} % of the range"
    known, reach = fluctuation[np.isfinite(fluctuation)], _range(space)
    if reach is None:
        what = "not stated: no bounded continuous actions"
        return Criterion(
            name, asked, what, False if isinstance(space, spaces.Box) else None, "measured", limit=limit
        )
    if not reach.any():
        return Criterion(name, asked, _STUCK, False, "measured", limit=limit)
    if not len(known):
        return Criterion(
            name, asked, "not measured: no episode has two steps", False, "measured", limit=limit
        )
    mean, low, high = (x / float(np.linalg.norm(reach)) for x in bootstrap_ci(known, np.mean))
    text = f"{percent(low, rounding='down')} to {percent(high, rounding='up')}"
    return Criterion(name, asked, text, high <= limit, "measured", mean, low, high, limit)


def _not_finite(name: str, asked: str, returns: Array, limit: float) -> Criterion:
    bad = int(np.isnan(returns).sum())
    text = f"{bad} of {len(returns)} episodes ended at a value that is not finite"
    return Criterion(name, asked, text, False, "measured", limit=limit)
