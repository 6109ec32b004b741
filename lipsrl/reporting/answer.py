"""The answer first: who degrades least, what it costs without disturbance, what is proven; and four figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lipsrl.reporting.consistency import as_float
from lipsrl.reporting.degradation import NOTHING
from lipsrl.reporting.doubts import untrained
from lipsrl.reporting.findings import Findings
from lipsrl.reporting.glance import Card, cards
from lipsrl.reporting.numbers import number
from lipsrl.reporting.phrases import (
    bound_of,
    chatter_ratio,
    is_known,
    kept,
    listed,
    percent_of,
    short,
    signed,
    spoken_of,
    spread_interval,
    turned,
)


@dataclass(frozen=True)
class Answer:
    """What the report says in one breath.

    Attributes:
        subject: the agent that is spoken of; None: the reference alone.
        sentences: of the answer.
        cards: four figures at a glance.
        untrained: agent → a warning.
    """

    subject: str | None
    sentences: Sequence[str]
    cards: Sequence[Card]
    untrained: dict[str, str]


def answer(findings: Findings) -> Answer:
    """The answer of a report.

    The subject is the agent other than the reference that keeps most of its return, on average over the disturbances
    (`Evaluation.normalized_auc`), of all that have learned anything. "Degrades less" means that the 95 % interval of
    the paired difference of the two losses (clean return minus mean return over the strengths) leaves out 0.
    """
    doubtful = untrained(findings.evaluation, findings.floor, findings.reference_return)
    subject = _subject(findings, doubtful)
    if findings.agents and all(agent in doubtful for agent in findings.agents):
        said = [
            "There is no answer yet: no agent here does better than random actions by more than a little."
        ]
        return Answer(subject, said, cards(findings, subject, doubtful), doubtful)
    said = [
        *_under_disturbance(findings, subject, doubtful),
        _clean(findings, subject),
        _proven(findings, subject),
    ]
    return Answer(subject, [s for s in said if s], cards(findings, subject, doubtful), doubtful)


def _subject(findings: Findings, doubtful: dict[str, str]) -> str | None:
    others = [a for a in findings.agents[1:] if a not in doubtful] or findings.agents[1:]
    if not others:
        return None
    known, change = findings.degradation.mean_kept, findings.degradation.change

    def worth(agent: str) -> float:
        losses = [change[agent, d].value for d in findings.disturbances if (agent, d) in change]
        value = known.get(agent, float(np.mean(losses)) if losses and not known else -math.inf)
        return -math.inf if math.isnan(value) else value

    return max(others, key=worth)


def _under_disturbance(findings: Findings, subject: str | None, doubtful: dict[str, str]) -> list[str]:
    reference = findings.reference
    if subject is None:
        shares = [f"{kept(findings, reference, d)} under {spoken_of(findings, d)}" for d in findings.disturbances
                  if is_known(findings, reference, d)]  # fmt: skip
        return [f"{short(reference)} keeps {listed(shares)} of its return."] if shares else []
    if reference in doubtful:
        return [f"{short(reference)} has not learned the task, so nothing can be said against it."]
    if subject in doubtful:
        return [
            f"{short(subject)} has not learned the task, so the share of its return that it keeps has no meaning."
        ]
    paired = findings.degradation.against(subject, reference)
    groups: dict[int, list[str]] = {1: [], 0: [], -1: []}
    for disturbance in findings.disturbances:
        spread = paired.get(disturbance, NOTHING)
        if not math.isnan(spread.value):
            groups[spread.sign].append(disturbance)
    said: list[str] = []
    for sign, names in groups.items():
        if names:
            alone = len(names) == sum(map(len, groups.values()))
            said.append(_clause(findings, subject, sign, names, first=not said, alone=alone))
    if len(findings.agents) > 2 and said:
        said += [text for text in [_ranks(findings, doubtful)] if text]
    return said or [f"Who degrades less cannot be said: {_unknown(findings, subject)}."]


def _unknown(findings: Findings, subject: str) -> str:
    """Why two agents have no difference under any disturbance."""
    both = findings.summary[findings.summary["agent"].isin([subject, findings.reference])]
    broken = both[both["n_nonfinite"] > 0]
    if len(broken):
        who = listed([short(str(agent)) for agent in broken["agent"].unique()])
        return f"{who} had episodes that were not finite, and nothing is averaged over them"
    if not (both["strength"] == 0.0).any() or not (both["strength"] > 0.0).any():
        return "that takes episodes with and without disturbance"
    return f"{short(subject)} and {short(findings.reference)} have no training seed and episode in common"


def _clause(
    findings: Findings, subject: str, sign: int, names: Sequence[str], *, first: bool, alone: bool
) -> str:
    reference = short(findings.reference)
    does = {1: "degrades less than", -1: "degrades more than", 0: "cannot be told apart from"}[sign]
    one = len(names) == 1 and not alone  # named at the verb then
    said = [_numbers(findings, subject, d, whole=i == 0, named=not one) for i, d in enumerate(names)]
    where = f" under {spoken_of(findings, names[0])}" if one else ""
    return f"{short(subject) if first else 'It'} {does} {reference}{where}: it {', '.join(said)}."


def _numbers(findings: Findings, subject: str, disturbance: str, *, whole: bool, named: bool) -> str:
    """What is kept under one disturbance, and what the reference keeps; of several the first is a whole clause."""
    under = f" under {spoken_of(findings, disturbance)}" if named else ""
    if all(is_known(findings, a, disturbance) for a in (subject, findings.reference)):
        own, other = (
            kept(findings, subject, disturbance),
            percent_of(findings, findings.reference, disturbance),
        )
        if whole:
            return f"keeps {own} of its return{under} ({short(findings.reference)}: {other})"
        return f"{own}{under} ({other})"
    spread = findings.degradation.against(subject, findings.reference)[disturbance]
    way = "less" if spread.value > 0 else "more"
    size = f"{number(abs(spread.value))} {spread_interval(spread if spread.value > 0 else turned(spread))}"
    return f"{'loses ' if whole else ''}{size} {way} of return{under}"


def _ranks(findings: Findings, doubtful: dict[str, str]) -> str:
    """Who keeps most, disturbance by disturbance, of more than two agents that have learned anything."""
    best: dict[str, list[str]] = {}
    learned = [agent for agent in findings.agents if agent not in doubtful]
    if len(learned) < 3:
        return ""
    for disturbance in findings.disturbances:
        shares = {a: findings.degradation.kept[a, disturbance].value for a in learned
                  if (a, disturbance) in findings.degradation.kept}  # fmt: skip
        if shares:
            best.setdefault(max(shares, key=lambda a: shares[a]), []).append(spoken_of(findings, disturbance))
    if not best:
        return ""
    parts = [f"{short(agent)} under {listed(names)}" for agent, names in best.items()]
    return f"Of the {len(learned)} agents{' that learned' if doubtful else ''} most is kept by {'; by '.join(parts)}."


def _clean(findings: Findings, subject: str | None) -> str:
    if subject is None:
        return ""
    spread = findings.degradation.clean(subject, findings.reference)
    if math.isnan(spread.value):
        return ""
    if spread.sign < 0:
        said = f"it earns {number(-spread.value)} {spread_interval(turned(spread))} less"
    elif spread.sign > 0:
        said = f"it earns {number(spread.value)} {spread_interval(spread)} more"
    else:
        between = f"difference {signed(spread.value)} {spread_interval(spread)}".rstrip()
        said = f"the two cannot be told apart by what they earn ({between})"
    ratio, where = chatter_ratio(findings, subject)
    calm = "" if ratio is None else f"; its chatter is {ratio.text} {ratio.detail} times as large ({where})"
    return f"Without disturbance {said}{calm}."


def _proven(findings: Findings, subject: str | None) -> str:
    agent = findings.reference if subject is None else subject
    bound = bound_of(findings, agent)
    if math.isnan(bound):
        return "Nothing is proven: there is no certificate."
    if math.isinf(bound):
        return "Nothing is proven: the certified bound is infinite."
    said = f"Proven: its action moves by at most {number(bound, rounding='up')} per raw unit of sensor error"
    said += _of_seeds(findings, agent)
    other = math.nan if subject is None else bound_of(findings, findings.reference)
    if math.isfinite(other):
        said += f"; that of {short(findings.reference)} by {number(other, rounding='up')}"
        said += _of_seeds(findings, findings.reference)
    return f"{said}."


def _of_seeds(findings: Findings, agent: str) -> str:
    """Of how many training seeds a bound is, where there are several."""
    rows = findings.evaluation.frame[findings.evaluation.frame["agent"] == agent]
    seeds = int(rows["seed"].nunique(dropna=False))
    proven = sum(not math.isnan(as_float(c.get("upper_bound"))) for c in findings.certified.get(agent, []))
    if max(seeds, proven) < 2:
        return ""
    if proven < seeds:
        return f" ({proven} of {seeds} training seeds)"
    return f" (the largest of {proven} training seeds)"
