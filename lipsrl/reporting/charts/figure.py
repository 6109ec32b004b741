"""What a figure is: panels with axes and series. How it looks on a page or on paper is said elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lipsrl.reporting.style import AgentStyle

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        title: with the unit in brackets.
        scale: ``"log"`` leaves out what is not positive.
        zero: whether 0 belongs to the axis.
        ticks: position → text; None: round numbers.
        limits: None: what the series need.
    """

    title: str
    scale: Literal["linear", "log"] = "linear"
    zero: bool = False
    ticks: Mapping[float, str] | None = None
    limits: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Series:
    """What one agent has in one panel.

    Attributes:
        label: the agent's name; the same in every panel of a figure.
        look: its colour, dash and marker.
        x, y: ``(n,)``; a gap where one of the two is not finite.
        low, high: ``(n,)`` edges of a band, or of bars where the points are not joined.
        join: how points are joined: by lines, as a value that is held, or not.
        markers: whether each point has its marker.
        hollow: markers as outlines.
        said: ``(n,)`` text of each point, for whoever points at it.
    """

    label: str
    look: AgentStyle
    x: Array
    y: Array
    low: Array | None = None
    high: Array | None = None
    join: Literal["line", "held", "none"] = "line"
    markers: bool = True
    hollow: bool = False
    said: Sequence[str] = ()


@dataclass(frozen=True)
class Level:
    """A dotted line across the panel at one value, such as a floor. ``axis`` is the one that it is a value of."""

    value: float
    text: str
    axis: Literal["x", "y"] = "y"


@dataclass(frozen=True, eq=False)
class Heat:
    """A value for each point of a grid.

    Attributes:
        values: ``(rows, columns)``; the first row is the lowest y.
        x, y: the outer edges of the grid.
        title: of the colours, with the unit.
        limits: of the colours.
        diverging: two hues from the middle on, for values that have a sign; else one, from light to dark.
    """

    values: Array
    x: tuple[float, float]
    y: tuple[float, float]
    title: str
    limits: tuple[float, float]
    diverging: bool = False


@dataclass(frozen=True, eq=False)
class Plot:
    """One panel: two axes and what is drawn between them. ``heading`` stands above it."""

    x: Axis
    y: Axis
    series: Sequence[Series] = ()
    levels: Sequence[Level] = ()
    heat: Heat | None = None
    heading: str = ""


@dataclass(frozen=True, eq=False)
class Figure:
    """Panels that belong together.

    Attributes:
        name: of its element and file, such as ``"return-gaussian"``; letters, digits and hyphens.
        title: what is shown, a few words.
        caption: how to read it.
        plots: the panels; those after the first ``open`` are folded away on a page.
        open: how many are shown at once.
        legend: whether agents are named beside the panels; not where each has a panel of its own.
    """

    name: str
    title: str
    caption: str
    plots: Sequence[Plot]
    open: int = 1000
    legend: bool = True
    looks: Mapping[str, AgentStyle] = field(default_factory=dict)

    @property
    def labels(self) -> dict[str, AgentStyle]:
        """The agents that are drawn, in order, each once."""
        return {s.label: s.look for plot in self.plots for s in plot.series} | dict(self.looks)
