"""Four figures at a glance: what is kept, what it costs clean, chatter, and what is proven."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lipsrl.reporting.consistency import as_float
from lipsrl.reporting.context import definition_of
from lipsrl.reporting.findings import Findings
from lipsrl.reporting.headline import smallest_noise
from lipsrl.reporting.numbers import MISSING, number, percent
from lipsrl.reporting.phrases import (
    bound_of,
    chatter_ratio,
    is_known,
    median,
    percent_of,
    share,
    share_interval,
    short,
    signed,
    spoken_of,
    spread_interval,
)
from lipsrl.reporting.wording import at_strength


@dataclass(frozen=True)
class Card:
    """One figure at a glance: what it is, the number, its interval, and what it is beside."""

    label: str
    value: str
    detail: str = ""
    beside: Sequence[str] = ()


def cards(findings: Findings, subject: str | None, doubtful: dict[str, str]) -> list[Card]:
    """The four, of the subject beside the reference; of the reference alone where there is no other."""
    agent = findings.reference if subject is None else subject
    return [
        _kept_card(findings, agent, subject, doubtful),
        _clean_card(findings, subject),
        _chatter_card(findings, subject),
        _bound_card(findings, agent, subject),
    ]


def _kept_card(findings: Findings, agent: str, subject: str | None, doubtful: dict[str, str]) -> Card:
    known = [d for d in findings.disturbances if is_known(findings, agent, d)]
    if not known:
        return Card(
            "Return kept under disturbance",
            MISSING,
            "no floor, no strengths, less than random actions, or not finite",
        )
    if agent in doubtful:
        return Card("Return kept under disturbance", MISSING, f"{short(agent)} has not learned the task")
    first, *rest = known
    spread = findings.degradation.kept[agent, first]

    def against(disturbance: str) -> str:
        other = subject is not None and is_known(findings, findings.reference, disturbance)
        return (
            f"{short(findings.reference)}: {percent_of(findings, findings.reference, disturbance)}"
            if other
            else ""
        )

    lines = [against(first)]
    lines += [
        f"{spoken_of(findings, d)}: {percent_of(findings, agent, d)}"
        + (f" ({text})" if (text := against(d)) else "")
        for d in rest
    ]
    label = f"Return kept under {spoken_of(findings, first)}"
    return Card(label, share(spread.value), share_interval(spread), [line for line in lines if line])


def _clean_card(findings: Findings, subject: str | None) -> Card:
    clean = (
        findings.summary[findings.summary["strength"] == 0.0]
        .drop_duplicates("agent")
        .set_index("agent")["return"]
    )
    if subject is None:
        value = float(clean.get(findings.reference, math.nan))
        return Card("Clean return", number(value), "sum of rewards per episode")
    spread = findings.degradation.clean(subject, findings.reference)
    beside = [
        f"{short(a)}: {number(float(clean[a]))}" for a in (subject, findings.reference) if a in clean.index
    ]
    return Card("Clean return, difference", signed(spread.value), spread_interval(spread), beside)


def _chatter_card(findings: Findings, subject: str | None) -> Card:
    first = findings.disturbances[0]
    rows = findings.summary[findings.summary["disturbance"] == first]
    strength = smallest_noise(rows["strength"])
    where = at_strength(strength, definition_of(findings.evaluation, first)).replace(" ", "\u00a0")
    here = rows[rows["strength"] == strength].set_index("agent")["action_fluctuation"]
    beside = [
        f"{short(a)}: {number(float(here[a]))} per step"
        for a in (subject, findings.reference)
        if a is not None and a in here.index
    ]
    if subject is None:
        return Card(
            f"Chatter, mean |Δa|, {where}",
            number(float(here.get(findings.reference, math.nan))),
            "action units per step",
        )
    ratio, _ = chatter_ratio(findings, subject)
    if ratio is None:
        return Card(f"Chatter, {where}", MISSING, "no episode in common", beside)
    return Card(f"Chatter, times the reference’s, {where}", ratio.text, ratio.detail, beside)


def _bound_card(findings: Findings, agent: str, subject: str | None) -> Card:
    bound = bound_of(findings, agent)
    if math.isnan(bound):
        return Card("Certified bound", MISSING, "no certificate")
    tight = median([as_float(c.get("tightness")) for c in findings.certified.get(agent, [])])
    beside = [f"tightness {percent(tight, rounding='down')}"] if tight == tight else []
    other = math.nan if subject is None else bound_of(findings, findings.reference)
    if other == other:
        beside.append(f"{short(findings.reference)}: ≤ {number(other, rounding='up')}")
    if len(findings.certified.get(agent, [])) > 1:
        beside.append("largest over training seeds")
    if findings.feasibility_floor is not None:
        beside.append(f"feasibility floor: {number(findings.feasibility_floor, rounding='down')}")
    return Card("Certified bound", f"≤ {number(bound, rounding='up')}", "action per raw sensor unit", beside)
