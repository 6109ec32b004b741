"""All that a report is made of, checked once: what was measured, proven and recorded, and who is the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from lipsrl._validation import lookup, unknown_name
from lipsrl.evaluation import Evaluation
from lipsrl.evaluation._words import environment_in_words
from lipsrl.reporting.consistency import Certificate, as_float, by_agent
from lipsrl.reporting.context import agents_of, disturbances_of
from lipsrl.reporting.degradation import Degradation
from lipsrl.reporting.portrait import Portrait
from lipsrl.reporting.style import AgentStyle, agent_styles

#: agents that are drawn where lines share a panel; the tables have all of them
DRAWN = 8


@dataclass(frozen=True, eq=False)
class Findings:
    """See `findings_of`. The reference is the first agent of ``evaluation``."""

    evaluation: Evaluation
    certificates: Sequence[Certificate]
    traces: Mapping[str, Mapping[str, Any]]
    attacks: Evaluation | None
    learning: Mapping[str, Sequence[pd.DataFrame]]
    portraits: Mapping[str, Portrait]
    sensitivities: Mapping[str, Sequence[float]]
    sensors: Sequence[str]
    floor: float | None
    reference_return: float | None
    feasibility_floor: float | None
    title: str
    recommendations: Sequence[str] = field(default_factory=tuple)

    @cached_property
    def agents(self) -> list[str]:
        """Who was evaluated, the reference first."""
        return agents_of(self.evaluation)

    @property
    def reference(self) -> str:
        return self.agents[0]

    @cached_property
    def disturbances(self) -> list[str]:
        return disturbances_of(self.evaluation)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """`Evaluation.summary` of what was evaluated."""
        return self.evaluation.summary()

    @cached_property
    def degradation(self) -> Degradation:
        """What disturbances cost each agent."""
        return Degradation(self.evaluation, self.floor)

    @cached_property
    def certified(self) -> dict[str, list[Certificate]]:
        return by_agent(self.certificates)

    @cached_property
    def styles(self) -> dict[str, AgentStyle]:
        """A look for everybody who is named anywhere."""
        attacked = [] if self.attacks is None else agents_of(self.attacks)
        return agent_styles([*self.agents, *self.certified, *self.traces, *attacked, *self.learning])

    @cached_property
    def drawn(self) -> list[str]:
        """Whose lines are drawn where there are too many: the reference and those that keep most of their return."""
        if len(self.agents) <= DRAWN:
            return self.agents
        kept = self.degradation.mean_kept
        others = sorted(self.agents[1:], key=lambda a: -kept.get(a, float("-inf")))
        return [a for a in self.agents if a in {self.reference, *others[: DRAWN - 1]}]

    @cached_property
    def drawn_frame(self) -> pd.DataFrame:
        frame = self.evaluation.frame
        return frame[frame["agent"].isin(self.drawn)]


def findings_of(
    *,
    evaluation: Evaluation,
    certificates: Sequence[Certificate] = (),
    traces: Mapping[str, Mapping[str, Any]] | None = None,
    attacks: Evaluation | None = None,
    learning: Mapping[str, Sequence[pd.DataFrame]] | None = None,
    portraits: Mapping[str, Portrait] | None = None,
    sensitivities: Mapping[str, Sequence[float]] | None = None,
    sensors: Sequence[str] = (),
    reference: str | None = None,
    floor: float | None = None,
    reference_return: float | None = None,
    feasibility_floor: float | None = None,
    title: str | None = None,
    recommendations: Sequence[str] = (),
) -> Findings:
    """Check the parts of a report against each other. The arguments are those of `lipsrl.reporting.write_report`.

    Raises:
        ValueError: an empty table or one that does not follow the evaluation's schema, certificates without an agent
            or twice for one agent and training seed, or a reference that was not evaluated.
    """
    checked = Evaluation(evaluation.frame, evaluation.metadata)
    if checked.frame.empty:
        raise ValueError("evaluation must hold at least one episode, received an empty table.")
    by_agent(certificates)
    first = reference_of(agents_of(checked), certificates, reference)
    checked = with_first(checked, first)
    noisy, worst = _apart(checked)
    if attacks is not None:
        worst = Evaluation(attacks.frame, attacks.metadata)
        if first in agents_of(worst):
            worst = with_first(worst, first)
    return Findings(
        noisy,
        list(certificates),
        dict(_reference_first(traces, first)),
        worst,
        dict(_reference_first(learning, first)),
        dict(_reference_first(portraits, first)),
        dict(_reference_first(sensitivities, first)),
        list(sensors),
        checked.metadata.get("floor") if floor is None else floor,
        reference_return,
        feasibility_floor,
        title or _title(noisy),
        tuple(recommendations),
    )


def reference_of(
    agents: Sequence[str], certificates: Sequence[Certificate], wanted: str | None = None
) -> str:
    """Whom ratios and differences are against: the wanted one, else the first that has no promised constant.

    Raises:
        ValueError: ``wanted`` is none of ``agents``.
    """
    if wanted is not None:
        if wanted not in agents:
            raise unknown_name("reference", wanted, agents)
        return lookup("reference", wanted, {agent: agent for agent in agents})
    free = [agent for agent, given in by_agent(certificates).items() if all(map(_unconstrained, given))]
    return next((agent for agent in agents if agent in free), agents[0])


def _unconstrained(certificate: Certificate) -> bool:
    promise = as_float(certificate.get("promise"))
    return not promise < float("inf")


def with_first(evaluation: Evaluation, agent: str) -> Evaluation:
    """The same rows, those of ``agent`` first: ratios are to the first."""
    frame = evaluation.frame
    chosen = frame["agent"] == agent
    return Evaluation(pd.concat([frame[chosen], frame[~chosen]], ignore_index=True), evaluation.metadata)


def _reference_first(parts: Mapping[str, Any] | None, reference: str) -> dict[str, Any]:
    given = dict(parts or {})
    return {name: given[name] for name in sorted(given, key=lambda name: name != reference)}


def _apart(evaluation: Evaluation) -> tuple[Evaluation, Evaluation | None]:
    """What does not look at the policy, and the attacks; the whole twice where there is nothing else."""
    names = evaluation.attacks
    if not names:
        return evaluation, None
    attacked = evaluation.frame["disturbance"].isin(names)
    worst = Evaluation(evaluation.frame[attacked], evaluation.metadata)
    if attacked.all():
        return evaluation, worst
    return Evaluation(evaluation.frame[~attacked], evaluation.metadata), worst


def _title(evaluation: Evaluation) -> str:
    agents, env = agents_of(evaluation), environment_in_words(evaluation.metadata)
    who = " against ".join(agents) if len(agents) <= 2 else f"{len(agents)} agents"
    return f"{who} on {env}" if env else f"{who} under disturbance"
