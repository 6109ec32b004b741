"""From values to places: limits of axes, round numbers beside them, and breaking lines of text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

from lipsrl.reporting.charts.figure import Array, Axis, Plot
from lipsrl.reporting.numbers import MINUS

Place = Callable[[Array], Array]


def limits_of(plot: Plot, which: str) -> tuple[float, float]:
    """The smallest and largest value that the axis ``"x"`` or ``"y"`` of ``plot`` has to show, with some room in y."""
    axis: Axis = getattr(plot, which)
    if axis.limits is not None:
        return axis.limits
    arrays = [getattr(s, which) for s in plot.series]
    if which == "y":
        arrays += [
            edge for s in plot.series for edge in (s.low, s.high) if edge is not None and s.join != "none"
        ]
    else:
        arrays += [
            edge for s in plot.series for edge in (s.low, s.high) if edge is not None and s.join == "none"
        ]
    values = np.concatenate([np.ravel(a) for a in arrays]) if arrays else np.zeros(0)
    values = np.append(values, [level.value for level in plot.levels if level.axis == which])
    if axis.zero and axis.scale == "linear":
        values = np.append(values, 0.0)
    values = values[np.isfinite(values)]
    if axis.scale == "log":
        values = values[values > 0]
    if plot.heat is not None:
        return getattr(plot.heat, which)  # type: ignore[no-any-return]
    if not values.size:
        return (0.1, 1.0) if axis.scale == "log" else (0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    if axis.scale == "log":
        return (low / 1.6, high * 1.6) if low == high else (low / 1.15, high * 1.15)
    if low == high:
        wide = abs(low) * 0.1 or 1.0
        low, high = (min(low, 0.0) if axis.zero else low - wide), high + wide
    elif which == "y" and axis.ticks is None:
        room = 0.05 * (high - low)
        low, high = (low if axis.zero and low == 0 else low - room), high + room
    return low, high


def place(axis: Axis, limits: tuple[float, float], start: float, end: float) -> Place:
    """Values to coordinates: ``limits[0]`` at ``start``, ``limits[1]`` at ``end``; nan where there is no place."""
    low, high = limits
    if axis.scale == "log":
        logs = math.log(low), math.log(high)

        def on_log(values: Array) -> Array:
            with np.errstate(divide="ignore", invalid="ignore"):
                logged = np.where(values > 0, np.log(np.maximum(values, 1e-300)), np.nan)
            return np.asarray(start + (logged - logs[0]) / (logs[1] - logs[0]) * (end - start))

        return on_log
    return lambda values: np.asarray(start + (values - low) / (high - low) * (end - start))


def ticks_of(axis: Axis, limits: tuple[float, float], wanted: int = 5) -> dict[float, str]:
    """Position → text, inside ``limits``."""
    low, high = limits
    if axis.ticks is not None:
        return {value: text for value, text in axis.ticks.items() if low <= value <= high}
    if axis.scale == "log":
        return _decades(low, high)
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    values = [step * i for i in range(first, last + 1)]
    halves = 1 if math.isclose(step / power, 2.5) else 0
    places = max(0, halves - math.floor(math.log10(step) + 1e-9))
    return {value: tick_text(value, places) for value in values}


def tick_text(value: float, places: int) -> str:
    """``−1,200`` or ``0.05``; thousands of thousands with their letter."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= unit and places == 0:
            whole = 1e3 if letter == "k" else unit
            return f"{value / whole:.6g}{letter}".replace("-", MINUS)
    text = f"{value:,.{min(places, 6)}f}"
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text.replace("-", MINUS)


def _decades(low: float, high: float) -> dict[float, str]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    many = math.log10(high / low)
    factors = (1,) if many > 3 else (1, 3) if many > 1.5 else (1, 2, 5)
    found = {f * 10.0**p: f"{f * 10.0**p:g}" for p in powers for f in factors if low <= f * 10.0**p <= high}
    thinned = list(found)[:: 1 + len(found) // 7]
    return {value: found[value].replace("-", MINUS) for value in thinned}


def wrapped(text: str, width: float, size: float = 12.0) -> list[str]:
    """``text`` in lines of at most ``width``, broken between words; a word that is too long is cut with an ellipsis."""
    room = max(4, int(width / (0.6 * size)))  # of the widest of the usual fonts
    lines: list[str] = []
    for word in text.split():
        word = shortened(word, room)
        if lines and len(lines[-1]) + 1 + len(word) <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def shortened(text: str, room: int) -> str:
    """At most ``room`` characters, its middle left out where it is longer: names differ at both ends."""
    if len(text) <= room:
        return text
    head = room // 2
    return f"{text[:head]}…{text[len(text) - (room - 1 - head) :]}"


def runs(x: Array, y: Array) -> Iterable[slice]:
    """The stretches where both are finite."""
    good = np.isfinite(x) & np.isfinite(y)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]])))
    return [slice(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True)]
