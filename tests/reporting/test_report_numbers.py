import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lipsrl.reporting.numbers import interval, number, percent

READABLE = st.floats(min_value=1e-300, max_value=1e300)


def read(text: str) -> float:
    return float(text.replace(",", "").replace("\N{MINUS SIGN}", "-"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"),
        (-0.0, "0.00"),
        (-204.36, "−204"),
        (1234.5, "1,234"),
        (0.58512, "0.585"),
        (8.0, "8.00"),
        (9.4e7, "9.40e+7"),
        (3.1e-6, "3.10e−6"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
    ],
)
def test_number_as_text(value, text):
    assert number(value) == text


@given(READABLE)
@example(0.00015150495614936742)  # the least that is written without an exponent needs six decimals
def test_a_printed_bound_is_still_a_bound_and_close(value):
    up, down = read(number(value, rounding="up")), read(number(value, rounding="down"))
    assert down <= value <= up
    assert up - down <= 0.011 * value


@given(READABLE)
def test_sign_is_kept(value):
    assert read(number(-value)) == -read(number(value))


def test_a_small_negative_number_does_not_become_minus_zero():
    assert number(-0.001, 1) == "0.0"


def test_interval_and_percent():
    assert interval(-210.4, -198.7) == "[−210, −199]"
    assert interval(math.nan, 1.0) == ""
    assert percent(0.9349) == "93.5 %"
    assert percent(0.9399, rounding="down") == "93.9 %"
    assert percent(None) == "–"
