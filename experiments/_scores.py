"""What a study says of each run, in units in which tasks can be put together, and the statistics over tasks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from experiments._study import MEASURED, Run, Study
from lipsrl.statistics import (
    Interval,
    Profile,
    Statistic,
    bootstrap_ci,
    iqm,
    paired_ratio,
    probability_of_improvement,
)

CLEAN, WHITE, AR1, WORST = "clean", "white noise", "AR(1) noise", "worst attack"
#: Scores, the higher the better: name → what it is.
SCORES = {
    CLEAN: "return without disturbance",
    WHITE: "mean return over the noise levels from 0 to the largest: the area under the return curve over its width",
    AR1: "the same under noise with a memory (ρ = 0.9)",
    WORST: "mean return under the attack that harms the run most",
}
#: Mean |Δa| under the small white noise, the lower the better.
FLUCTUATION = "fluctuation"

_KINDS = {WHITE: "white", AR1: "ar1"}


@dataclass(frozen=True)
class Scores:
    """Numbers of the runs of one study."""

    study: Study

    @cached_property
    def _measured(self) -> dict[tuple[str, str, int], dict[tuple[str, str, float], tuple[float, float]]]:
        """Run → (family, disturbance, strength) → return and fluctuation."""
        found: dict[tuple[str, str, int], dict[tuple[str, str, float], tuple[float, float]]] = {}
        columns = ["setting", "agent", "seed", "family", "disturbance", "strength", *MEASURED[:2]]
        rows = zip(*(self.study.conditions[column].tolist() for column in columns), strict=True)
        for setting, agent, seed, *condition, earned, fluctuation in rows:
            found.setdefault((setting, agent, seed), {})[tuple(condition)] = (earned, fluctuation)
        return found

    @cached_property
    def _raw(self) -> dict[tuple[str, str, str], dict[int, float]]:
        return {}

    def runs(self, setting: str, agent: str) -> list[Run]:
        """By seed."""
        found = [run for run in self.study.runs if run.setting == setting and run.agent == agent]
        return sorted(found, key=lambda run: run.seed)

    def raw(self, setting: str, agent: str, quantity: str) -> dict[int, float]:
        """Seed → the quantity in its own units: returns, or mean |Δa|.

        A run that was not measured in it is not there; ``nan`` where an episode had no return.
        """
        key = (setting, agent, quantity)
        if key not in self._raw:
            seeds = [run.seed for run in self.runs(setting, agent)]
            values = {seed: self._one((setting, agent, seed), quantity) for seed in seeds}
            self._raw[key] = {seed: value for seed, value in values.items() if value is not None}
        return self._raw[key]

    def _one(self, run: tuple[str, str, int], quantity: str) -> float | None:
        about, measured = self.study.settings[run[0]], self._measured.get(run, {})
        if quantity == CLEAN:
            return measured.get(("noise", "white", 0.0), (None,))[0]
        if quantity == FLUCTUATION:
            return measured.get(("noise", "white", about.chatter_strength), (None, None))[1]
        if quantity == WORST:
            under = [value for (family, _, strength), (value, _) in measured.items()
                     if family == "attacks" and strength == about.epsilon]  # fmt: skip
            return float(np.min(under)) if under else None  # nan, if one of them is
        curve = [measured.get(("noise", _KINDS[quantity], strength)) for strength in about.strengths]
        if len(curve) < 2 or any(point is None for point in curve):
            return None
        returns = [point[0] for point in curve if point is not None]
        return float(np.trapezoid(returns, about.strengths) / about.strengths[-1])

    def span(self, setting: str, quantity: str) -> tuple[float, float] | None:
        """What counts as 0 and as 1 there; None where that is not known.

        Of scores the floor and the plain agents' clean return (IQM over seeds); of the fluctuation none and the plain
        agents' (IQM).
        """
        floor = 0.0 if quantity == FLUCTUATION else self.study.settings[setting].floor
        plain = self.raw(setting, self.study.plain, FLUCTUATION if quantity == FLUCTUATION else CLEAN)
        if floor is None or not plain:
            return None
        one = float(iqm(list(plain.values())))
        return (floor, one) if one > floor else None

    def normalized(self, setting: str, agent: str, quantity: str) -> dict[int, float]:
        """Seed → score on the scale of :meth:`span`; empty where there is none."""
        span = self.span(setting, quantity)
        if span is None:
            return {}
        floor, one = span
        values = self.raw(setting, agent, quantity)
        return {seed: (value - floor) / (one - floor) for seed, value in values.items()}

    def strata(self, agent: str, quantity: str) -> dict[str, dict[int, float]]:
        """Setting → :meth:`normalized`, of the settings where all runs of the agent have a finite one."""
        found = {name: self.normalized(name, agent, quantity) for name in self.study.settings}
        return {
            name: values
            for name, values in found.items()
            if values and all(map(math.isfinite, values.values()))
        }

    def tasks(self, agent: str, quantity: str) -> int:
        """On how many of the settings the agent has scores."""
        return len(self.strata(agent, quantity))

    def iqm(self, agent: str, quantity: str) -> Interval | None:
        """IQM of the normalised scores of all runs, each task of the same weight; runs are drawn within tasks."""
        strata = _lists(self.strata(agent, quantity).values())
        return bootstrap_ci(strata, task_iqm(list(map(len, strata)))) if strata else None

    def profile(self, agent: str, quantity: str, thresholds: np.ndarray) -> Profile | None:
        """Share of the runs above each threshold, each task of the same weight, with a pointwise interval."""
        strata = _lists(self.strata(agent, quantity).values())
        if not strata:
            return None
        places = balanced(list(map(len, strata)))

        def above(threshold: float) -> Interval:
            return bootstrap_ci(
                strata, lambda samples, *, axis: (samples[..., places] > threshold).mean(axis=axis)
            )

        share, low, high = np.array([above(threshold) for threshold in thresholds]).T
        return Profile(thresholds, share, low, high)

    def improvement(self, agent: str, quantity: str) -> Interval | None:
        """Probability that a run scores higher than one of the plain agent, mean over the tasks of both."""
        own, plain = self.strata(agent, quantity), self.strata(self.study.plain, quantity)
        common = [name for name in own if name in plain]
        if not common:
            return None
        return probability_of_improvement(
            _lists(own[name] for name in common), _lists(plain[name] for name in common)
        )

    def ratio(self, agent: str, quantity: str) -> Interval | None:
        """IQM of the agent over that of the plain agent, over the seeds that both have, each task of the same weight.

        None where there are no such seeds, or nothing above the floor to divide by.
        """
        pairs = self._pairs(agent, quantity)
        return None if pairs is None else paired_ratio(*pairs)

    def nothing_lost(self, agent: str, quantity: str) -> float | None:
        """:meth:`ratio` if the agent earned the plain agents' clean return in every disturbance: what is above it lies
        above their clean return. None where there is no ratio.
        """
        pairs = self._pairs(agent, quantity)
        return None if pairs is None else 1.0 / float(pairs[2](np.concatenate(pairs[1]), axis=-1))

    def _pairs(
        self, agent: str, quantity: str
    ) -> tuple[list[list[float]], list[list[float]], Statistic] | None:
        """Scores of the agent and of the plain one by task, of the seeds that both have, and the IQM over tasks."""
        own, plain = self.strata(agent, quantity), self.strata(self.study.plain, quantity)
        pairs = {name: sorted(own[name].keys() & plain[name].keys()) for name in own if name in plain}
        pairs = {name: seeds for name, seeds in pairs.items() if seeds}
        ours = [[own[name][seed] for seed in seeds] for name, seeds in pairs.items()]
        theirs = [[plain[name][seed] for seed in seeds] for name, seeds in pairs.items()]
        if not pairs:
            return None
        statistic = task_iqm(list(map(len, ours)))
        return (ours, theirs, statistic) if statistic(np.concatenate(theirs), axis=-1) > 0 else None


def balanced(lengths: Sequence[int]) -> np.ndarray:
    """Places of the values of strata that were put one behind the other, repeated until each stratum has as many.

    Example:
        >>> from experiments._scores import balanced
        >>> balanced([2, 1]).tolist()
        [0, 1, 2, 2]
    """
    each, starts = math.lcm(*lengths), np.cumsum([0, *lengths])
    return np.concatenate(
        [np.repeat(np.arange(start, start + n), each // n) for start, n in zip(starts, lengths, strict=False)]
    )


def task_iqm(lengths: Sequence[int]) -> Statistic:
    """IQM where every task weighs the same, however many runs it has; with as many runs each, it is the IQM.

    Agarwal et al. (2021) have as many runs on every task.
    """
    places = balanced(lengths)
    return lambda samples, /, *, axis: iqm(np.take(samples, places, axis=axis), axis=axis)


def _lists(strata: Iterable[dict[int, float]]) -> list[list[float]]:
    return [list(values.values()) for values in strata]


def seconds(runs: Iterable[Run]) -> tuple[float, int]:
    """Sum over the runs that say it, and how many do."""
    known = [run.seconds for run in runs if run.seconds is not None]
    return sum(known), len(known)
