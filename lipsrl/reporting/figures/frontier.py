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
    """Return and chatter over K, a colour per strength, a dash per kind of agent; empty without a choice.

    Of a kind are agents that see as many frames and, where their names say more than ``K=…``, are named alike after
    that (students of a frontier: what they were shown).

    Args:
        summary: of `Evaluation.summary`.
        settings: see `settings_of`.
        disturbance: whose strengths are drawn: none, the middle one and the largest.
        reference: an agent whose clean return and chatter are drawn as levels.
    """
    ks, windows = (sorted({setting[i] for setting in settings.values()}) for i in (0, 1))
    if len(ks) < 2 and len(windows) < 2:
        return []
    here = summary[summary["disturbance"] == disturbance]
    noisy = sorted(s for s in here["strength"].unique() if s > 0)
    chosen = {0.0, *noisy[(len(noisy) - 1) // 2 :][:1], *noisy[-1:]} & set(here["strength"])
    strengths = sorted(chosen)
    over = "K" if len(ks) > 1 else "frames"
    lines = [
        (agent, k, frames, _kind(agent, frames, len(windows) > 1) if over == "K" else "")
        for agent, (k, frames) in settings.items()
    ]
    table = here.merge(pd.DataFrame(lines, columns=["agent", "K", "frames", "kind"]), on="agent")
    kinds = list(dict.fromkeys(table["kind"]))
    x_axis = Axis(
        "observations that the policy sees at once (frames)", ticks={float(w): f"{w}" for w in windows}
    )
    if over == "K":
        title = "K (action units per unit of what the policy receives)"
        x_axis = Axis(title, "log", ticks={k: f"{k:g}" for k in ks})
    plots = []
    for column, title in (("return", RETURN), ("action_fluctuation", FLUCTUATION)):
        series = []
        for (i, kind), (j, strength) in itertools.product(enumerate(kinds), enumerate(strengths)):
            rows = table[(table["kind"] == kind) & (table["strength"] == strength)].sort_values(
                [over, column]
            )
            # of several at one place the best
            rows = rows.drop_duplicates(over, keep="last" if column == "return" else "first")
            look = AgentStyle(
                PALETTE[j % len(PALETTE)], DASHES[i % len(DASHES)], MARKERS[(i + j) % len(MARKERS)]
            )
            if len(rows):
                series.append(
                    _line(rows, over, column, ", ".join(filter(None, (_where(strength), kind))), look)
                )
        clean = here[(here["agent"] == reference) & (here["strength"] == 0.0)]
        levels = [Level(float(v), f"{reference}, clean") for v in clean[column] if v == v]
        plots.append(Plot(x_axis, Axis(title, zero=column != "return"), series, levels))
    return plots


def _line(rows: pd.DataFrame, over: str, column: str, label: str, look: AgentStyle) -> Series:
    names = (over, column, f"{column}_low", f"{column}_high")
    x, y, low, high = (rows[name].to_numpy(dtype="float64") for name in names)
    said = [
        f"{agent}: {number(a)} {interval(b, c)}"
        for agent, a, b, c in zip(rows["agent"], y, low, high, strict=True)
    ]
    return Series(label, look, x, y, low, high, said=said)


def _where(strength: float) -> str:
    return "clean" if strength == 0 else f"strength {strength:g}"


def _kind(agent: str, frames: int, several: bool) -> str:
    if agent.startswith("K="):
        return agent.partition(", ")[2]
    return f"{frames} frame{'s' if frames > 1 else ''}" if several else ""
