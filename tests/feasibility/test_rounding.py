"""Rounding decides nothing: no floor is above a gain that stabilises, and what is found does by more than rounding."""

from __future__ import annotations

import numpy as np
import pytest

from lipsrl.feasibility.gain_floor import gain_floor
from lipsrl.feasibility.gain_search import smallest_gain, spectral_radius, stabilises

DT = 0.05


def oscillator(unit):
    """Negatively damped, two sensors; the second one, the speed, is shown in steps of ``1/unit``."""
    a = np.array([[1 - 4 * DT**2, DT * (1 + DT / 2)], [-4 * DT, 1 + DT / 2]])
    return a, np.array([[DT**2], [DT]]), np.diag([1.0, unit])


@pytest.mark.parametrize("unit", [1e-6, 1e-9, 1e-11, 1e-12, 1e-13, 1e-16])
def test_a_sensor_in_tiny_units_is_not_none(unit):
    a, b, c = oscillator(unit)
    gain = np.array([[0.0, -1 / unit]])
    assert spectral_radius(a + b @ gain @ c) < 0.99
    floor, _ = gain_floor(a, b, c, 1e-7)
    assert 0 < floor < np.linalg.norm(gain, 2)


@pytest.mark.parametrize("unit", [1e-3, 1e-9, 1e-13, 1e-16])
def test_a_second_actuator_in_tiny_units_is_not_none(unit):
    """Two actions that act nearly as one, and two sensors: only what is left of the second action reaches mode two."""
    a = np.diag([1.2, 1.2])
    b = np.array([[1.0, 1.0], [0.0, unit]])
    gain = np.linalg.solve(b, -0.3 * np.eye(2))
    assert spectral_radius(a + b @ gain) < 0.95
    floor, _ = gain_floor(a, b, np.eye(2))
    assert 0 < floor < np.linalg.norm(gain, 2)


def test_what_cancels_is_not_zero():
    """The determinant does not depend on the gain, but the matrices say so by a cancellation, not by zeros."""
    a, b, c = oscillator(1.0)
    floor, method = gain_floor(a, b, c[:1])
    assert method == "polynomial"
    assert 1e9 < floor < np.inf
    assert gain_floor(a, 0 * b, c)[0] == np.inf


def test_a_pole_on_the_circle_is_not_stable():
    """An undamped pendulum whose position is seen: the determinant is 1 at every gain, rounding aside."""
    a = np.array([[1 + 9.81 * DT**2, DT], [9.81 * DT, 1]])
    b, c = np.array([[DT**2], [DT]]), np.array([[1.0, 0.0]])
    radii = [spectral_radius(a + b @ [[gain]] @ c) for gain in np.linspace(-300, -10, 500)]
    assert min(radii) < 1  # which is what once counted
    assert not any(
        stabilises(a, b, np.eye(2), np.array([[gain, 0.0]])) for gain in np.linspace(-300, -10, 500)
    )
    assert smallest_gain(a, b, c, np.array([[-20.0]])) is None
    damped = np.array([[-20.0, -2.0]])
    assert stabilises(a, b, np.eye(2), damped, accuracy=1e-6)
    assert not stabilises(a, b, np.eye(2), damped, accuracy=1e-2)
    assert stabilises(
        np.array([[0.5, 1], [0, 0.5]]), b, c, np.zeros((1, 1)), accuracy=1e-9
    )  # no basis of eigenvectors
