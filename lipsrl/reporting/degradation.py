"""What disturbances cost: the share of the return that is kept, and the paired difference of two agents' losses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from lipsrl.evaluation import Evaluation
from lipsrl.reporting.context import agents_of, disturbances_of

_UNIT = ["agent", "seed", "disturbance", "episode"]


@dataclass(frozen=True)
class Spread:
    """An estimate and its 95 % interval; nan where there is none."""

    value: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """-1 or 1 where the interval leaves out 0, else 0."""
        return -1 if self.high < 0 else 1 if self.low > 0 else 0


NOTHING = Spread(math.nan, math.nan, math.nan)


@dataclass(frozen=True, eq=False)
class Degradation:
    """What each disturbance costs each agent.

    Attributes:
        evaluation: the table.
        floor: the return that counts as nothing; None: shares are not known.
    """

    evaluation: Evaluation
    floor: float | None

    @cached_property
    def kept(self) -> dict[tuple[str, str], Spread]:
        """(agent, disturbance) → `Evaluation.normalized_auc`; what it cannot be computed of is left out."""
        found: dict[tuple[str, str], Spread] = {}
        if self.floor is None:
            return found
        for (agent, disturbance), rows in self.evaluation.frame.groupby(["agent", "disturbance"], sort=False):
            try:
                row = Evaluation(rows).normalized_auc(self.floor).iloc[0]
            except ValueError:  # a strength is missing, or there is but one: others are still worth showing
                continue
            name = "normalized_auc"
            spread = _spread(row, name)
            if _units(rows) < 2:
                spread = Spread(spread.value, math.nan, math.nan)
            if not math.isnan(spread.value):  # a clean return below the floor
                found[str(agent), str(disturbance)] = spread
        return found

    @cached_property
    def mean_kept(self) -> dict[str, float]:
        """Agent → mean share kept, over all disturbances; only who has all of them."""
        names = disturbances_of(self.evaluation)
        shares = {
            agent: [self.kept[agent, d].value for d in names if (agent, d) in self.kept]
            for agent in agents_of(self.evaluation)
        }
        return {agent: sum(v) / len(v) for agent, v in shares.items() if len(v) == len(names)}

    @cached_property
    def changes(self) -> Evaluation | None:
        """The table with, as return, an episode's mean over all strengths minus its clean return; or None."""
        return changes(self.evaluation)

    @cached_property
    def change(self) -> dict[tuple[str, str], Spread]:
        """(agent, disturbance) → how the return changes on average over the strengths (below 0: a loss)."""
        if self.changes is None:
            return {}
        return {
            (str(row["agent"]), str(row["disturbance"])): _spread(row, "return")
            for _, row in self.changes.summary(["return"]).iterrows()
        }

    def against(self, agent: str, reference: str) -> dict[str, Spread]:
        """Disturbance → the agent's change minus the reference's, paired; above 0: it degrades less."""
        return _compared(self.changes, agent, reference)

    def clean(self, agent: str, reference: str) -> Spread:
        """Clean return minus that of the reference, paired; the first disturbance that has it."""
        frame = self.evaluation.frame
        clean = frame[frame["strength"] == 0.0]
        found = _compared(Evaluation(clean), agent, reference) if len(clean) else {}
        return next(iter(found.values()), NOTHING)


def changes(evaluation: Evaluation) -> Evaluation | None:
    """See `Degradation.changes`; episodes that lack a strength, or have no clean twin, are left out."""
    frame = evaluation.frame
    noisy, clean = frame[frame["strength"] > 0.0], frame[frame["strength"] == 0.0]
    wanted = noisy.groupby("disturbance")["strength"].nunique()
    rows = noisy.groupby(_UNIT, dropna=False, sort=False).agg(
        mean=("return", "mean"),
        known=("return", "count"),
        count=("return", "size"),
        broken=("nonfinite", "max"),
    )
    rows["mean"] = rows["mean"].where(rows["known"] == rows["count"])
    both = clean.merge(rows.reset_index(), on=_UNIT)
    both = both[both["count"] == both["disturbance"].map(wanted)]
    if both.empty:
        return None
    ended = both["nonfinite"].where(both["nonfinite"] != "", both["broken"])
    table = both.assign(**{"return": both["mean"] - both["return"]}, nonfinite=ended, strength=1.0)
    return Evaluation(table.drop(columns=["mean", "known", "count", "broken"]))


def _compared(evaluation: Evaluation | None, agent: str, reference: str) -> dict[str, Spread]:
    if evaluation is None:
        return {}
    try:
        table = evaluation.compare(agent, reference, "return")
    except ValueError:  # nothing in common, so nothing that could be paired
        return {}
    return {
        str(row["disturbance"]): _spread(row, "difference")
        if row["n_pairs"] > 1
        else Spread(float(row["difference"]), math.nan, math.nan)
        for _, row in table.iterrows()
    }


def _units(rows: pd.DataFrame) -> int:
    """What an interval is over: training seeds where there are several, else episodes; of one there is none."""
    seeds = int(rows["seed"].nunique(dropna=False))
    return seeds if seeds > 1 else int(rows["episode"].nunique())


def _spread(row: pd.Series, column: str) -> Spread:
    return Spread(*(float(row[c]) for c in (column, f"{column}_low", f"{column}_high")))
