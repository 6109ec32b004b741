"""Pieces of sentences that the answer and the figures at a glance are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lipsrl.reporting.charts.scales import shortened
from lipsrl.reporting.consistency import as_float
from lipsrl.reporting.context import definition_of
from lipsrl.reporting.degradation import Spread
from lipsrl.reporting.findings import Findings
from lipsrl.reporting.headline import fluctuation_ratio, smallest_noise
from lipsrl.reporting.numbers import decimals, interval, number
from lipsrl.reporting.rows import Cell
from lipsrl.reporting.wording import at_strength, spoken

_NAME = 48  # characters of a name within a sentence


def chatter_ratio(findings: Findings, subject: str) -> tuple[Cell | None, str]:
    """The ratio of the subject's chatter to the reference's at the smallest noise, and where that is."""
    first = findings.disturbances[0]
    rows = findings.summary[findings.summary["disturbance"] == first]
    strength = smallest_noise(rows["strength"])
    where = at_strength(strength, definition_of(findings.evaluation, first))
    ratio = fluctuation_ratio(findings.evaluation, first, subject, strength)
    return (None if ratio is None or math.isnan(ratio.value) else ratio), where


def bound_of(findings: Findings, agent: str) -> float:
    """What is proven of all certified models of an agent: the largest bound; nan without a certificate."""
    known = [as_float(c.get("upper_bound")) for c in findings.certified.get(agent, [])]
    return max((bound for bound in known if not math.isnan(bound)), default=math.nan)


def median(values: Sequence[float]) -> float:
    """Of those that are known; nan of none."""
    finite = [v for v in values if not math.isnan(v)]
    return float(np.median(finite)) if finite else math.nan


def is_known(findings: Findings, agent: str, disturbance: str) -> bool:
    """Whether the share of the return that is kept is known."""
    return (agent, disturbance) in findings.degradation.kept


def kept(findings: Findings, agent: str, disturbance: str) -> str:
    """The share of its return that an agent keeps, with the interval."""
    spread = findings.degradation.kept[agent, disturbance]
    return f"{share(spread.value)} {share_interval(spread)}".rstrip()


def percent_of(findings: Findings, agent: str, disturbance: str) -> str:
    """The share of its return that an agent keeps, without the interval."""
    return share(findings.degradation.kept[agent, disturbance].value)


def share(value: float) -> str:
    """A fraction as whole percents."""
    return f"{number(100 * value, 0)} %"


def share_interval(spread: Spread) -> str:
    """The interval of a fraction in whole percents."""
    return interval(100 * spread.low, 100 * spread.high, 0)


def signed(value: float) -> str:
    """With a plus where it is positive."""
    return f"+{number(value)}" if value > 0 else number(value)


def spread_interval(spread: Spread) -> str:
    """The interval, with the decimals of the estimate."""
    return interval(
        spread.low, spread.high, decimals(max(abs(spread.value), abs(spread.low), abs(spread.high)))
    )


def turned(spread: Spread) -> Spread:
    """A loss without its minus."""
    return Spread(-spread.value, -spread.high, -spread.low)


def spoken_of(findings: Findings, disturbance: str) -> str:
    """What the disturbance is called in a sentence."""
    return spoken(disturbance, definition_of(findings.evaluation, disturbance))


def short(name: str) -> str:
    """A name within a sentence."""
    return shortened(name, _NAME)


def listed(parts: Sequence[str]) -> str:
    """``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
