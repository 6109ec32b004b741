"""A panel as SVG that lives inside a page: its text and grid take the page's colours, light or dark.

No script is needed to see it, and it prints. Every panel is drawn 400 wide, so that its text can be read when a phone
shows it one to one; a wide page sets several side by side.
"""

from __future__ import annotations

import html
from collections.abc import Mapping

import numpy as np

from lipsrl.reporting.charts.figure import Array, Figure, Heat, Level, Plot, Series
from lipsrl.reporting.charts.heat import colour_stops, png_uri
from lipsrl.reporting.charts.scales import Place, limits_of, place, runs, ticks_of, wrapped
from lipsrl.reporting.numbers import number
from lipsrl.reporting.style import AgentStyle

WIDTH, HEIGHT = 400.0, 264.0
_CHARACTER = 7.2  # width of a figure at 11 px, in the widest of the usual fonts
_DASHES = {"solid": "", "dash": "7 4", "dot": "2 3", "dashdot": "8 3 2 3"}


def figure_svgs(figure: Figure) -> list[str]:
    """One ``<svg>`` per panel; agents are numbered as in `Figure.labels`."""
    numbers = {label: i for i, label in enumerate(figure.labels)}
    return [svg(plot, numbers, f"{figure.name}-{i}", figure.title) for i, plot in enumerate(figure.plots)]


def svg(plot: Plot, numbers: Mapping[str, int], name: str, title: str) -> str:
    """One panel.

    Args:
        plot: the panel.
        numbers: agent → the number by which the page's legend switches it.
        name: unique in the page.
        title: of the figure; what the panel is called for whoever cannot see it.
    """
    limits = {which: limits_of(plot, which) for which in ("x", "y")}
    ticks = {"x": ticks_of(plot.x, limits["x"]), "y": ticks_of(plot.y, limits["y"])}
    left = 10 + _CHARACTER * max((len(t) for t in ticks["y"].values()), default=1)
    right = WIDTH - (64 if plot.heat is not None else 12)
    head = wrapped(plot.heading, WIDTH - 4, 12.5)[:3]
    top_title = wrapped(plot.y.title, WIDTH - 8)
    below = wrapped(plot.x.title, right - left)
    top = 6 + 16 * len(head) + 15 * len(top_title)
    bottom = HEIGHT - 22 - 15 * len(below)
    x, y = place(plot.x, limits["x"], left, right), place(plot.y, limits["y"], bottom, top)
    parts = [_image(plot.heat, x, y)] if plot.heat is not None else []
    parts.append(_grid(ticks, x, y, (left, right, top, bottom), grid=plot.heat is None))
    parts += [f'<text class="h" x="0" y="{12 + 16 * i}">{_text(line)}</text>' for i, line in enumerate(head)]
    parts += [
        f'<text x="0" y="{6 + 16 * len(head) + 15 * i + 6}">{_text(line)}</text>'
        for i, line in enumerate(top_title)
    ]
    parts += [
        f'<text x="{_n((left + right) / 2)}" y="{_n(bottom + 33 + 15 * i)}" text-anchor="middle">{_text(line)}</text>'
        for i, line in enumerate(below)
    ]
    inside = (
        f'<clipPath id="{name}-clip"><rect x="{_n(left)}" y="{_n(top - 5)}" width="{_n(right - left + 5)}" '
        f'height="{_n(bottom - top + 10)}"/></clipPath>'
    )
    drawn = [_series(s, numbers.get(s.label, 0), x, y) for s in plot.series]
    parts.append(f'{inside}<g clip-path="url(#{name}-clip)">{"".join(drawn)}</g>')
    parts += [_level(level, x, y, (left, right, top, bottom)) for level in plot.levels]
    if plot.heat is not None:
        parts.append(_scale(plot.heat, name, right + 10, top, bottom))
    label = ". ".join(
        part for part in (title, plot.heading, f"{plot.y.title} against {plot.x.title}") if part
    )
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{html.escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def swatch(look: AgentStyle) -> str:
    """The line and marker of an agent, for legends and tables; nothing to read aloud."""
    return (
        '<svg class="swatch" viewBox="0 0 26 12" aria-hidden="true">'
        f'<path d="M0 6H26" {_stroke(look)}/>{_marker(look, 13, 6, False, "")}</svg>'
    )


def _text(text: str) -> str:
    return html.escape(text, quote=False)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _stroke(look: AgentStyle) -> str:
    dash = _DASHES[look.dash]
    return f'fill="none" stroke="{look.color}" stroke-width="2"' + (
        f' stroke-dasharray="{dash}"' if dash else ""
    )


def _grid(
    ticks: Mapping[str, Mapping[float, str]],
    x: Place,
    y: Place,
    box: tuple[float, float, float, float],
    grid: bool,
) -> str:
    left, right, top, bottom = box
    lines, texts = [], []
    for value, text in ticks["y"].items():
        at = float(y(np.array(value)))
        lines.append(f"M{_n(left)} {_n(at)}H{_n(right)}")
        texts.append(
            f'<text class="t" x="{_n(left - 6)}" y="{_n(at + 4)}" text-anchor="end">{_text(text)}</text>'
        )
    end = -1e9
    for value, text in sorted(ticks["x"].items()):
        at = float(x(np.array(value)))
        lines.append(f"M{_n(at)} {_n(top)}V{_n(bottom)}")
        half = _CHARACTER * len(text) / 2
        if at - half > end + 4:  # a number that would touch the one before is left out, its line is not
            end = at + half
            middle = min(at, WIDTH - half)
            texts.append(
                f'<text class="t" x="{_n(middle)}" y="{_n(bottom + 16)}" text-anchor="middle">{_text(text)}</text>'
            )
    drawn = f'<path class="g" d="{"".join(lines)}"/>' if grid else ""
    return f'{drawn}<path class="a" d="M{_n(left)} {_n(top)}V{_n(bottom)}H{_n(right)}"/>{"".join(texts)}'


def _series(series: Series, agent: int, x: Place, y: Place) -> str:
    px, py = x(series.x), y(series.y)
    parts = []
    if series.low is not None and series.high is not None:
        parts.append(_band(series, x, y) if series.join != "none" else _bars(series, x, py))
    if series.join != "none":
        drawn = "".join(_path(px[part], py[part], series.join == "held") for part in runs(px, py))
        width = "" if series.markers else ' style="stroke-width:1.4"'
        parts.append(f'<path d="{drawn}" {_stroke(series.look)}{width}/>' if drawn else "")
    if series.markers:
        for i in np.flatnonzero(np.isfinite(px) & np.isfinite(py)):
            said = (
                f"{series.label}: {series.said[int(i)]}"
                if series.said
                else f"{series.label}: {number(float(series.y[i]))}"
            )
            parts.append(_marker(series.look, float(px[i]), float(py[i]), series.hollow, said))
    return f'<g data-agent="{agent}">{"".join(parts)}</g>'


def _path(x: Array, y: Array, held: bool) -> str:
    pieces = [f"M{_n(x[0])} {_n(y[0])}"]
    for i in range(1, len(x)):
        pieces.append(f"H{_n(x[i])}V{_n(y[i])}" if held else f"L{_n(x[i])} {_n(y[i])}")
    return "".join(pieces)


def _band(series: Series, x: Place, y: Place) -> str:
    assert series.low is not None
    assert series.high is not None
    px, low, high = x(series.x), y(series.low), y(series.high)
    drawn = ""
    for part in runs(px, low + high):
        there = " ".join(f"{_n(a)},{_n(b)}" for a, b in zip(px[part], high[part], strict=True))
        back = " ".join(f"{_n(a)},{_n(b)}" for a, b in zip(px[part][::-1], low[part][::-1], strict=True))
        drawn += f'<polygon points="{there} {back}" fill="{series.look.color}" fill-opacity=".18"/>'
    return drawn


def _bars(series: Series, x: Place, py: Array) -> str:
    """Intervals in x: points that are not joined stand in rows."""
    assert series.low is not None
    assert series.high is not None
    low, high = x(series.low), x(series.high)
    drawn = "".join(
        f"M{_n(a)} {_n(b)}H{_n(c)}" for a, b, c in zip(low, py, high, strict=True) if np.isfinite(a + b + c)
    )
    return f'<path d="{drawn}" fill="none" stroke="{series.look.color}" stroke-width="2"/>' if drawn else ""


_SHAPES = {
    "square": "M-4 -4H4V4H-4Z",
    "diamond": "M0 -5.2L5.2 0L0 5.2L-5.2 0Z",
    "triangle-up": "M0 -5L5 4H-5Z",
    "triangle-down": "M0 5L5 -4H-5Z",
    "cross": "M-1.6 -5H1.6V-1.6H5V1.6H1.6V5H-1.6V1.6H-5V-1.6H-1.6Z",
    "x": "M-5 -3L-3 -5L0 -2L3 -5L5 -3L2 0L5 3L3 5L0 2L-3 5L-5 3L-2 0Z",
}


def _marker(look: AgentStyle, x: float, y: float, hollow: bool, said: str) -> str:
    paint = (
        f'fill="{look.color}"' if not hollow else f'class="hollow" stroke="{look.color}" stroke-width="1.6"'
    )
    title = f"<title>{_text(said)}</title>" if said else ""
    if look.marker == "circle":
        return f'<circle cx="{_n(x)}" cy="{_n(y)}" r="4.2" {paint}>{title}</circle>'
    return f'<path transform="translate({_n(x)} {_n(y)})" d="{_SHAPES[look.marker]}" {paint}>{title}</path>'


def _level(level: Level, x: Place, y: Place, box: tuple[float, float, float, float]) -> str:
    left, right, top, bottom = box
    if level.axis == "x":
        at = float(x(np.array(level.value)))
        anchor, shift = ("end", -4) if at > (left + right) / 2 else ("start", 4)
        return (
            f'<path class="l" d="M{_n(at)} {_n(top)}V{_n(bottom)}"/>'
            f'<text class="t" x="{_n(at + shift)}" y="{_n(top + 10)}" text-anchor="{anchor}">{_text(level.text)}</text>'
        )
    at = float(y(np.array(level.value)))
    return (
        f'<path class="l" d="M{_n(left)} {_n(at)}H{_n(right)}"/>'
        f'<text class="t" x="{_n(right)}" y="{_n(at - 4)}" text-anchor="end">{_text(level.text)}</text>'
    )


def _image(heat: Heat, x: Place, y: Place) -> str:
    left, right = (float(x(np.array(v))) for v in heat.x)
    bottom, top = (float(y(np.array(v))) for v in heat.y)
    return (
        f'<image x="{_n(left)}" y="{_n(top)}" width="{_n(right - left)}" height="{_n(bottom - top)}" '
        f'preserveAspectRatio="none" href="{png_uri(heat)}"/>'
    )


def _scale(heat: Heat, name: str, x: float, top: float, bottom: float) -> str:
    stops = colour_stops(heat)
    colours = "".join(
        f'<stop offset="{_n(100 * i / (len(stops) - 1))}%" stop-color="{c}"/>' for i, c in enumerate(stops)
    )
    low, high = heat.limits
    marks = [(bottom, low), ((top + bottom) / 2, (low + high) / 2), (top + 6, high)]
    texts = "".join(
        f'<text class="t" x="{_n(x + 14)}" y="{_n(at + 2)}">{_text(number(value, 1 if abs(value) < 100 else 0))}</text>'
        for at, value in marks
    )
    return (
        f'<linearGradient id="{name}-scale" x1="0" y1="1" x2="0" y2="0">{colours}</linearGradient>'
        f'<rect x="{_n(x)}" y="{_n(top)}" width="10" height="{_n(bottom - top)}" fill="url(#{name}-scale)"/>{texts}'
    )
