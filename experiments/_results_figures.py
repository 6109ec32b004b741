"""The figures of docs/results.md."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from experiments._scores import SCORES, Scores
from lipsrl._files import atomic_path
from lipsrl.reporting.charts.figure import Axis, Figure, Level, Plot, Series
from lipsrl.reporting.charts.paper import write_figures
from lipsrl.reporting.style import AgentStyle, agent_styles
from lipsrl.statistics import Interval

SCORE = "normalised score (0 = floor, 1 = plain agent's clean return)"
_THRESHOLDS = np.linspace(0.0, 1.1, 56)


def figures(scores: Scores) -> list[Figure]:
    """IQM, performance profiles and probability of improvement; those that there is something to draw in."""
    study, looks = scores.study, agent_styles(scores.study.agents)
    others = [agent for agent in study.agents if agent != study.plain]
    iqms = {name: _known({agent: scores.iqm(agent, name) for agent in study.agents}) for name in SCORES}
    chances = {name: _known({agent: scores.improvement(agent, name) for agent in others}) for name in SCORES}
    ends = [end for found in iqms.values() for one in found.values() for end in (one.low, one.high)]
    score = Axis(SCORE, limits=(min(0.0, *ends), max(1.1, *ends))) if ends else Axis(SCORE)
    chance = Axis(f"probability that a run scores higher than one of {study.plain}", limits=(-0.02, 1.02))

    def dots(name: str, found: dict[str, Interval], x: Axis, levels: Sequence[Level] = ()) -> Plot:
        return _dots(name, found, {agent: scores.tasks(agent, name) for agent in found}, looks, x, levels)

    found = [
        Figure(
            f"results-{study.name}-iqm", "IQM", "",
            [dots(name, each, score) for name, each in iqms.items() if each], legend=False,
        ),
        Figure(
            f"results-{study.name}-profiles", "Profiles", "",
            [plot for name in SCORES if (plot := _profiles(scores, name, looks)) is not None],
        ),
        Figure(
            f"results-{study.name}-improvement", "Probability of improvement", "",
            [dots(name, each, chance, [Level(0.5, "", axis="x")]) for name, each in chances.items() if each],
            legend=False,
        ),
    ]  # fmt: skip
    return [figure for figure in found if figure.plots]


def _known(found: dict[str, Interval | None]) -> dict[str, Interval]:
    return {agent: one for agent, one in found.items() if one is not None}


def _dots(
    heading: str,
    drawn: dict[str, Interval],
    tasks: dict[str, int],
    looks: dict[str, AgentStyle],
    x: Axis,
    levels: Sequence[Level],
) -> Plot:
    """A point with its interval per agent, the first one on top; hollow where some tasks are missing."""
    heights = {agent: float(len(drawn) - place) for place, agent in enumerate(drawn)}
    most = max(tasks.values())
    series = [
        Series(agent, looks[agent], np.array([one.estimate]), np.array([heights[agent]]), np.array([one.low]),
               np.array([one.high]), join="none", hollow=tasks[agent] < most)
        for agent, one in drawn.items()
    ]  # fmt: skip
    ticks = {
        height: agent if tasks[agent] == most else f"{agent} ({tasks[agent]} of {most} tasks)"
        for agent, height in heights.items()
    }
    return Plot(x, Axis("", ticks=ticks, limits=(0.5, len(drawn) + 0.5)), series, levels, heading=heading)


def _profiles(scores: Scores, name: str, looks: dict[str, AgentStyle]) -> Plot | None:
    """Of the agents that were measured on all tasks: others have another distribution for that alone."""
    series = []
    most = max(scores.tasks(agent, name) for agent in scores.study.agents)
    for agent in (one for one in scores.study.agents if scores.tasks(one, name) == most):
        found = scores.profile(agent, name, _THRESHOLDS)
        if found is not None:
            series.append(
                Series(
                    agent, looks[agent], found.thresholds, found.share, found.low, found.high, markers=False
                )
            )
    y = Axis("share of runs above τ", limits=(0.0, 1.0))
    return Plot(Axis(f"τ, {SCORE}"), y, series, heading=name) if series else None


def write(scores: Scores, folder: Path) -> list[Path]:
    """Leave the figures in ``folder``; the same study gives the same bytes.

    Raises:
        ImportError: matplotlib is not installed.
    """
    written = []
    with tempfile.TemporaryDirectory() as aside:
        for drawn in write_figures(aside, figures(scores), ["png"]):
            with Image.open(drawn) as image, atomic_path(folder / drawn.name) as file:
                size = (image.width // 2, image.height // 2)  # as wide as a page needs it
                small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
                small.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
                    file, optimize=True
                )
            written.append(folder / drawn.name)
    return written
