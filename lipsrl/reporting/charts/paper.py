"""The same figures as files for papers: vector graphics with embedded fonts, or images, at the width of a column."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lipsrl._files import atomic_path
from lipsrl._validation import lookup
from lipsrl.reporting.charts.figure import Axis, Figure, Plot, Series
from lipsrl.reporting.charts.heat import colour_stops
from lipsrl.reporting.charts.scales import limits_of, shortened, ticks_of, wrapped

#: Formats of `write_figures`, and what files need so that the same figure is the same bytes.
FORMATS: dict[str, dict[str, Any]] = {
    "svg": {"metadata": {"Date": None}},
    "pdf": {"metadata": {"CreationDate": None}},
    "png": {"dpi": 300, "metadata": {"Software": None}},
}

_STYLE: Any = {
    "font.size": 8,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine, with every sign that we use
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "lipsrl",
    "pdf.fonttype": 42,  # journals refuse Type 3
}
_MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "cross": "P",
    "x": "X",
    "triangle-down": "v",
}
_DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
_COLUMN, _PANEL_HEIGHT = 3.4, 2.3  # inches


def write_figures(
    folder: str | Path, figures: Iterable[Figure], formats: Sequence[str] = tuple(FORMATS)
) -> list[Path]:
    """Write each figure in each format as ``FOLDER/NAME.FORMAT``; the same figures give the same bytes.

    Args:
        folder: made if it is not there.
        figures: what to draw, all of their panels.
        formats: ``"svg"``, ``"pdf"``, ``"png"`` (300 dots per inch).

    Returns:
        The files.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: an unknown format.
    """
    for name in formats:
        lookup("format", name, FORMATS)
    try:
        import matplotlib
        from matplotlib.figure import Figure as Canvas
    except ImportError as error:
        raise ImportError(
            "figures for papers are drawn by matplotlib, which is not installed: pip install 'lipsrl[figures]'."
        ) from error
    written = []
    for figure in figures:
        with matplotlib.rc_context(_STYLE):
            canvas = _drawn(Canvas, figure)
            for name in formats:
                path = Path(folder) / f"{figure.name}.{name}"
                with atomic_path(path) as temporary:
                    canvas.savefig(temporary, format=name, bbox_inches="tight", **FORMATS[name])
                written.append(path)
    return written


def _drawn(canvas_class: Any, figure: Figure) -> Any:
    across = min(2, len(figure.plots))
    down = math.ceil(len(figure.plots) / across)
    canvas = canvas_class(figsize=(_COLUMN * across, _PANEL_HEIGHT * down), layout="constrained")
    panels = np.ravel(canvas.subplots(down, across, squeeze=False))
    for axes, plot in zip(panels, figure.plots, strict=False):
        _panel(canvas, axes, plot)
    for axes in panels[len(figure.plots) :]:
        axes.set_axis_off()
    if figure.legend and figure.labels:
        handles: dict[str, Any] = {}
        for axes in panels:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)
        canvas.legend(
            handles.values(),
            [_plain(shortened(name.strip(), 40)) for name in handles],
            loc="outside lower center",
            ncols=min(3, len(handles)),
            frameon=False,
        )
    return canvas


def _panel(canvas: Any, axes: Any, plot: Plot) -> None:
    for which, axis in (("x", plot.x), ("y", plot.y)):
        limits = limits_of(plot, which)
        _axis(axes, which, axis, limits)
    if plot.heading:
        axes.set_title(_plain("\n".join(wrapped(plot.heading, 260, 10))), loc="left")
    if plot.heat is not None:
        from matplotlib.colors import LinearSegmentedColormap

        image = axes.imshow(
            plot.heat.values,
            origin="lower",
            aspect="auto",
            extent=(*plot.heat.x, *plot.heat.y),
            vmin=plot.heat.limits[0],
            vmax=plot.heat.limits[1],
            cmap=LinearSegmentedColormap.from_list("lipsrl", colour_stops(plot.heat)),
        )
        canvas.colorbar(image, ax=axes)  # the heading says of what
    else:
        axes.grid(alpha=0.25, linewidth=0.5)
    for series in plot.series:
        _series(axes, series)
    for level in plot.levels:
        line = axes.axvline if level.axis == "x" else axes.axhline
        line(level.value, color="#777777", linestyle=":", linewidth=1)
        if level.axis == "y":
            axes.annotate(
                _plain(level.text), (1, level.value), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                color="#555555", fontsize=7,
            )  # fmt: skip
        else:
            axes.annotate(
                _plain(level.text), (level.value, 1), xycoords=("data", "axes fraction"), ha="left", va="top",
                color="#555555", fontsize=7,
            )  # fmt: skip


def _axis(axes: Any, which: str, axis: Axis, limits: tuple[float, float]) -> None:
    getattr(axes, f"set_{which}scale")(axis.scale)
    ticks = ticks_of(axis, limits)
    getattr(axes, f"set_{which}ticks")(list(ticks), [_plain(text) for text in ticks.values()])
    getattr(axes, f"set_{which}ticks")([], minor=True)
    getattr(axes, f"set_{which}lim")(*limits)
    room = 300 if which == "x" else 210  # a panel is wider than it is high
    getattr(axes, f"set_{which}label")(_plain("\n".join(wrapped(axis.title, room))))


def _series(axes: Any, series: Series) -> None:
    look = series.look
    joined = series.join != "none"
    if series.low is not None and series.high is not None:
        if joined:
            axes.fill_between(series.x, series.low, series.high, color=look.color, alpha=0.18, linewidth=0)
        else:
            axes.hlines(series.y, series.low, series.high, color=look.color, linewidth=1)
    axes.plot(
        series.x,
        series.y,
        label=f" {series.label}",  # matplotlib hides names that begin with an underscore
        color=look.color,
        linestyle=_DASHES[look.dash] if joined else "none",
        linewidth=1.2 if series.markers else 0.9,
        drawstyle="steps-post" if series.join == "held" else "default",
        marker=_MARKERS[look.marker] if series.markers else None,
        markersize=4,
        clip_on=not series.markers,  # a marker at the edge is drawn whole
        markerfacecolor="none" if series.hollow else look.color,
    )


def _plain(text: str) -> str:
    """A dollar sign begins mathematics in matplotlib."""
    return text.replace("$", r"\$")
