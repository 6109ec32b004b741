"""A probability from samples, and what a Gaussian attack leaves of it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, ndtr, ndtri

Array = NDArray[np.float64]


def attacked_probability(clean: ArrayLike, mu: float) -> Array:
    """``Φ(Φ⁻¹(p) - μ)``: the least probability that an event of clean probability p keeps under μ-Gaussian attack.

    The trade-off function of N(0, 1) and N(μ, 1), which T Gaussian mechanisms of sensitivity μ/√T compose to (Dong,
    Roth & Su 2022, "Gaussian differential privacy"). Tight by Neyman–Pearson.

    Args:
        clean: probabilities, any shape.
        mu: ≥ 0.
    """
    return np.asarray(ndtr(ndtri(np.asarray(clean, dtype=np.float64)) - mu))


def clopper_pearson_lower(successes: int, n: int, confidence: float) -> float:
    """Lower confidence limit of a probability, one-sided, from ``successes`` of ``n`` (Clopper & Pearson 1934)."""
    return 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, 1.0 - confidence))


def dkw_margin(n: int, confidence: float) -> float:
    """``sup_r`` of (empirical - true) P(R ≥ r) from ``n`` samples stays below this with ``confidence`` ≥ 1/2.

    One-sided Dvoretzky–Kiefer–Wolfowitz inequality with Massart's constant (1990): ``√(ln(1/α)/(2n))``.
    """
    return math.sqrt(math.log(1.0 / (1.0 - confidence)) / (2.0 * n))
