"""Figures as plain data, and the two ways to draw them: SVG inside a page, and files for papers."""

from __future__ import annotations

from lipsrl.reporting.charts.figure import Axis, Figure, Heat, Level, Plot, Series
from lipsrl.reporting.charts.paper import FORMATS, write_figures
from lipsrl.reporting.charts.svg import figure_svgs, svg

__all__ = [
    "FORMATS",
    "Axis",
    "Figure",
    "Heat",
    "Level",
    "Plot",
    "Series",
    "figure_svgs",
    "svg",
    "write_figures",
]
