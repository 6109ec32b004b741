"""Numbers as text: three to four significant digits, the same decimals for an estimate and its interval."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Literal

Rounding = Literal["nearest", "up", "down"]

_MODES = {"nearest": ROUND_HALF_EVEN, "up": ROUND_CEILING, "down": ROUND_FLOOR}

MINUS = "\N{MINUS SIGN}"
MISSING = "\N{EN DASH}"


def decimals(value: float) -> int:
    """Decimals that show about three significant digits of ``value``, at most six."""
    if not math.isfinite(value) or value == 0.0:
        return 2
    return min(6, max(0, 2 - math.floor(math.log10(abs(value)))))


def number(value: float | None, places: int | None = None, *, rounding: Rounding = "nearest") -> str:
    """``value`` with ``places`` decimals (default: about three significant digits); "–" for None and NaN.

    An upper bound is to be rounded up and a lower bound down, so that what is printed is still a bound.
    """
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    exact = Decimal(repr(float(value)))
    # gains can reach 1e4 and more (a constant sensor under VecNormalize); tiny values keep their exponent
    if value != 0.0 and not 1e-4 <= abs(value) < 1e7:
        step = Decimal(1).scaleb(exact.adjusted() - 2)
        text = f"{exact.quantize(step, _MODES[rounding]):.2e}"
    else:
        step = Decimal(1).scaleb(-(decimals(value) if places is None else places))
        text = f"{exact.quantize(step, _MODES[rounding]):,f}"
    if float(text.replace(",", "")) == 0.0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def interval(low: float, high: float, places: int | None = None) -> str:
    """``[low, high]``, or an empty string where there is no interval."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    if places is None:
        places = decimals(max(abs(low), abs(high)))
    return f"[{number(low, places)}, {number(high, places)}]"


def percent(value: float | None, *, rounding: Rounding = "nearest") -> str:
    """A fraction in [0, 1] as a percentage with one decimal."""
    if value is None or math.isnan(value):
        return MISSING
    return f"{number(100.0 * value, 1, rounding=rounding)} %"
