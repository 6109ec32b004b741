"""What a reader must know before believing a number: agents that have learned nothing yet."""

from __future__ import annotations

import math

import pandas as pd

from lipsrl.evaluation import Evaluation
from lipsrl.reporting.context import agents_of
from lipsrl.reporting.numbers import number

#: share of the way from random actions to the best known return below which an agent counts as untrained
LITTLE = 0.25


def untrained(
    evaluation: Evaluation, floor: float | None, reference_return: float | None = None
) -> dict[str, str]:
    """Agent → a sentence, for all whose clean return is hardly above that of random actions.

    That is: above it by less than half the spread (standard deviation) of its own episodes, or by less than a quarter
    of what the best known return is above it. "Known" are the agents' and, if given, ``reference_return``.

    A share of "what is kept" of such a return is near 1 and says nothing.
    """
    if floor is None:
        return {}
    clean = evaluation.frame[evaluation.frame["strength"] == 0.0]
    returns = {agent: _episodes(clean, agent) for agent in agents_of(evaluation)}
    means = {agent: float(values.mean()) for agent, values in returns.items() if len(values)}
    best = max(
        [m for m in [*means.values(), reference_return] if m is not None and math.isfinite(m)], default=floor
    )
    found = {}
    for agent, mean in means.items():
        gain, spread = mean - floor, float(returns[agent].std(ddof=0))
        if gain <= 0.5 * spread or gain <= LITTLE * (best - floor):
            known = f" (best known: {number(best)})" if best > mean and best > floor else ""
            found[agent] = (
                f"{agent} hardly beats random actions: {number(mean)} without disturbance against {number(floor)}"
                f"{known}. It is not trained yet, or its files do not belong together. The share that it keeps of "
                "such a return has no meaning."
            )
    return found


def _episodes(clean: pd.DataFrame, agent: str) -> pd.Series:
    rows = clean[clean["agent"] == agent]
    return (
        rows[rows["disturbance"] == rows["disturbance"].iloc[0]]["return"].dropna()
        if len(rows)
        else pd.Series([], dtype=float)
    )
