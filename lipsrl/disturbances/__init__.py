"""Seeded random processes over observations: what a real sensor does to a true value.

A :class:`Disturbance` is independent of every environment and owns its generator; it needs NumPy only. The
Gymnasium wrapper, the SB3 vec wrapper and the evaluator share it.
"""

from lipsrl.disturbances._base import Disturbance
from lipsrl.disturbances._batch import DisturbanceBatch
from lipsrl.disturbances._registry import (
    DISTURBANCES,
    disturbance_from_dict,
    parse_disturbance,
    register,
)
from lipsrl.disturbances.gaussian import GaussianNoise

__all__ = [
    "DISTURBANCES",
    "Disturbance",
    "DisturbanceBatch",
    "GaussianNoise",
    "disturbance_from_dict",
    "parse_disturbance",
    "register",
]
