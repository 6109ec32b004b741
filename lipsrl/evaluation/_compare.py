"""Two agents on the same episodes."""

from __future__ import annotations

import functools
from typing import Any

import pandas as pd

from lipsrl._validation import unknown_name
from lipsrl.evaluation._summary import spread
from lipsrl.evaluation._units import check_column, interval_or_nan, per_unit, resampling, seeds_of
from lipsrl.statistics import paired_difference, paired_ratio


def compare(
    frame: pd.DataFrame, a: str, b: str, column: str, *, confidence: float, n_resamples: int, seed: int
) -> pd.DataFrame:
    """See `Evaluation.compare`."""
    check_column(column)
    agents = list(frame["agent"].unique())
    for argument, agent in (("a", a), ("b", b)):
        if agent not in agents:
            raise unknown_name(argument, agent, agents)
    sides = [frame[frame["agent"] == agent] for agent in (a, b)]
    if all(seeds_of(side) == 1 for side in sides):
        # one model each: only the episodes are paired
        sides = [side.assign(seed=pd.array([pd.NA] * len(side), dtype="Int64")) for side in sides]
    key = ["disturbance", "strength", "seed", "episode"]
    first, second = (
        side.loc[side[column].notna() | (side["nonfinite"] != ""), [*key, column, "nonfinite"]]
        for side in sides
    )
    pairs = first.merge(second, on=key, suffixes=("_a", "_b"))
    pairs["nonfinite"] = pairs.pop("nonfinite_a") + pairs.pop("nonfinite_b")
    if pairs.empty:
        raise ValueError(
            f"{a!r} and {b!r} have no {column!r} in common: no disturbance, strength, training seed and "
            "episode that both were evaluated on."
        )
    of_a, of_b = f"{column}_a", f"{column}_b"
    lines: list[dict[str, Any]] = []
    for (disturbance, strength), rows in pairs.groupby(["disturbance", "strength"], sort=False):
        what, statistic = resampling(seeds_of(rows))
        values = per_unit(rows, [of_a, of_b], what)
        options: dict[str, Any] = {"confidence": confidence, "n_resamples": n_resamples, "seed": seed}
        both = (values[:, 0], values[:, 1], statistic)
        difference = interval_or_nan(values, functools.partial(paired_difference, *both, **options))
        ratio = interval_or_nan(values, functools.partial(paired_ratio, *both, **options))
        nonfinite = int((rows["nonfinite"] != "").sum())
        # where one is not finite, one row of nan stands for all
        units = seeds_of(rows) if what == "seeds" else len(rows)
        n_pairs = units if nonfinite else len(values)
        measured = sum(
            int(((s["disturbance"] == disturbance) & (s["strength"] == strength)).sum()) for s in sides
        )
        lines.append(
            {
                "disturbance": disturbance,
                "strength": strength,
                "column": column,
                "a": float(statistic(values[:, 0], axis=0)),
                "b": float(statistic(values[:, 1], axis=0)),
                **spread("difference", difference),
                **spread("ratio", ratio),
                "n_pairs": n_pairs,
                "resampled": what,
                "n_unpaired": measured - 2 * len(rows),
                "n_nonfinite": nonfinite,
            }
        )
    return pd.DataFrame(lines)
