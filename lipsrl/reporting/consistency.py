"""Check that certificates belong to the evaluation and agree with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from lipsrl.evaluation import Evaluation
from lipsrl.reporting.numbers import number

#: ``{"agent": str, "seed": int | None, **Certificate.to_dict()}``
Certificate: TypeAlias = Mapping[str, Any]


def as_float(value: object) -> float:
    """``value`` as a float; ``nan`` for None and whatever is no number."""
    return float(value) if isinstance(value, (int, float, np.number)) else float("nan")


def by_agent(certificates: Iterable[Certificate]) -> dict[str, list[Certificate]]:
    """The certificates of each agent, in the order given.

    Raises:
        ValueError: a certificate without an agent, or two of one agent and training seed.
    """
    grouped: dict[str, list[Certificate]] = {}
    for certificate in certificates:
        agent = certificate.get("agent")
        if not isinstance(agent, str) or not agent:
            raise ValueError(
                "each certificate must be a dict with its agent's name, {'agent': ..., 'seed': ..., "
                f"**certificate.to_dict()}}, received agent={agent!r}."
            )
        same = grouped.setdefault(agent, [])
        if any(other.get("seed") == certificate.get("seed") for other in same):
            raise ValueError(
                f"certificates has two of agent {agent!r} with training seed {certificate.get('seed')}: give "
                "agents different names, or each certificate its training seed."
            )
        same.append(certificate)
    return grouped


def contradictions(certificates: Sequence[Certificate], evaluation: Evaluation) -> list[str]:
    """What cannot be if every number is right: a bound below a slope that was found or measured.

    The usual cause is a certificate of another policy or normalisation than the one evaluated.
    """
    found = []
    for certificate in certificates:
        upper, lower = as_float(certificate.get("upper_bound")), as_float(certificate.get("lower_bound"))
        agent, seed = str(certificate.get("agent")), certificate.get("seed")
        who = agent if seed is None else f"{agent} (training seed {seed})"
        if lower > upper:
            found.append(f"{who}: the lower bound {number(lower)} is above the upper bound {number(upper)}.")
        rows = evaluation.frame[evaluation.frame["agent"] == agent]
        if seed is not None:
            rows = rows[(rows["seed"] == seed).fillna(False)]
        measured = float(rows["action_sensitivity"].max()) if len(rows) else float("nan")
        # one part in a hundred for the float32 actions that the sensitivity is a difference of
        if certificate.get("norm", "l2") == "l2" and measured > 1.01 * upper:
            found.append(
                f"{who}: the measured action sensitivity {number(measured)} is above the upper bound "
                f"{number(upper)}; the certificate is not that of the policy, or of the VecNormalize, that "
                "was evaluated."
            )
    return found
