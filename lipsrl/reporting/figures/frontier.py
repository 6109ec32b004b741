"""What a constant costs and buys: return and chatter over K, or over the number of frames seen."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import pandas as pd

from lipsrl.reporting.charts.figure import Axis, Level, Plot, Series
from lipsrl.reporting.consistency import Certificate, as_float
from lipsrl.reporting.figures.curves import FLUCTUATION, RETURN
from lipsrl.reporting.numbers import interval, number
from lipsrl.reporting.style import DASHES, MARKERS, PALETTE, AgentStyle

#: an agent → the constant it promises and how many observations it sees
Settings = Mapping[str, tuple[float, int]]


def settings_of(certified: Mapping[str, Sequence[Certificate]]) -> dict[str, tuple[float, int]]:
    """Agent → (promised K, frames), of all that promise one and the same constant in all their training runs."""
    found = {}
    for agent, certificates in certified.items():
        promises = {as_float(c.get("promise")) for c in certificates}
        frames = {int((c.get("window") or {}).get("frames") or 1) for c in certificates}
        if len(promises) == len(frames) == 1 and 0 < (promise := promises.pop()) < float("inf"):
            found[agent] = (promise, frames.pop())
    return found


def frontier_plots(
    summary: pd.DataFrame, settings: Settings, disturbance: str, reference: str | None = None
) -> list[Plot]:
    """Return and chatter over K, one line per number of frames and strength; empty where there is nothing to choose.

    Args:
        summary: of `Evaluation.summary`.
        settings: see `settings_of`.
        disturbance: whose strengths are drawn: none, the middle one and the largest.
        reference: an agent whose clean return and chatter are drawn as levels.
    """
    ks = sorted({k for k, _ in settings.values()})
    windows = sorted({frames for _, frames in settings.values()})
    if len(ks) < 2 and len(windows) < 2:
        return []
    here = summary[(summary["disturbance"] == disturbance)]
    noisy = sorted(s for s in here["strength"].unique() if s > 0)
    strengths = sorted(
        {0.0, *({noisy[(len(noisy) - 1) // 2], noisy[-1]} if noisy else set())} & set(here["strength"])
    )
    over_k = len(ks) >= 2
    table = pd.DataFrame([(a, k, f) for a, (k, f) in settings.items()], columns=["agent", "K", "frames"])
    merged = here.merge(table, on="agent")
    other = "frames" if over_k else "K"
    x_axis = (
        Axis("K (action units per unit of what the policy receives)", "log", ticks={k: f"{k:g}" for k in ks})
        if over_k
        else Axis(
            "observations that the policy sees at once (frames)", ticks={float(w): f"{w}" for w in windows}
        )
    )
    plots = []
    for column, title in (("return", RETURN), ("action_fluctuation", FLUCTUATION)):
        series = []
        kinds = list(itertools.product(sorted(merged[other].unique()), strengths))
        for i, (kind, strength) in enumerate(kinds):
            rows = merged[(merged[other] == kind) & (merged["strength"] == strength)]
            rows = rows.sort_values([("K" if over_k else "frames"), column])
            # of several at one K the best: they differ in what they were shown
            keep = "last" if column == "return" else "first"
            rows = rows.drop_duplicates("K" if over_k else "frames", keep=keep)
            if rows.empty:
                continue
            number_of = strengths.index(strength)
            look = AgentStyle(
                PALETTE[number_of % len(PALETTE)],
                DASHES[(i // len(strengths)) % len(DASHES)],
                MARKERS[(i // len(strengths) + number_of) % len(MARKERS)],
            )
            x, y, low, high = (
                rows[c].to_numpy(dtype="float64")
                for c in ("K" if over_k else "frames", column, f"{column}_low", f"{column}_high")
            )
            said = [
                f"{agent}: {number(a)} {interval(b, c)}"
                for agent, a, b, c in zip(rows["agent"], y, low, high, strict=True)
            ]
            series.append(
                Series(
                    _label(kind, strength, other, len({k for k, _ in kinds}) > 1),
                    look,
                    x,
                    y,
                    low,
                    high,
                    said=said,
                )
            )
        clean = here[(here["agent"] == reference) & (here["strength"] == 0.0)]
        levels = [Level(float(v), f"{reference}, clean") for v in clean[column] if v == v]
        plots.append(Plot(x_axis, Axis(title, zero=column != "return"), series, levels))
    return plots


def _label(kind: float, strength: float, other: str, several: bool) -> str:
    where = "clean" if strength == 0 else f"strength {strength:g}"
    if not several:
        return where
    return (
        f"{where}, {int(kind)} frame{'s' if kind > 1 else ''}"
        if other == "frames"
        else f"{where}, K = {kind:g}"
    )
