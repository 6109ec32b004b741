"""Seeded random processes over observations: what a real sensor does to a true value.

A :class:`Disturbance` is independent of every environment and owns its generator; it needs NumPy only. The
Gymnasium wrapper, the SB3 vec wrapper and the evaluator share it.
"""

from lipsrl.disturbances._base import Disturbance
from lipsrl.disturbances._batch import DisturbanceBatch
from lipsrl.disturbances._parts import InParts
from lipsrl.disturbances._registry import (
    DISTURBANCES,
    disturbance_from_dict,
    parse_disturbance,
    register,
)
from lipsrl.disturbances.autoregressive import AutoregressiveNoise
from lipsrl.disturbances.bias import Bias
from lipsrl.disturbances.compose import Compose
from lipsrl.disturbances.delay import Delay
from lipsrl.disturbances.drift import Drift
from lipsrl.disturbances.dropout import Dropout
from lipsrl.disturbances.gaussian import GaussianNoise
from lipsrl.disturbances.jitter import Jitter
from lipsrl.disturbances.mixture import Mixture
from lipsrl.disturbances.quantization import Quantization
from lipsrl.disturbances.spikes import Spikes
from lipsrl.disturbances.statistics import ObservationStatistics, sensor_std
from lipsrl.disturbances.uniform import UniformNoise

__all__ = [
    "DISTURBANCES",
    "AutoregressiveNoise",
    "Bias",
    "Compose",
    "Delay",
    "Disturbance",
    "DisturbanceBatch",
    "Drift",
    "Dropout",
    "GaussianNoise",
    "InParts",
    "Jitter",
    "Mixture",
    "ObservationStatistics",
    "Quantization",
    "Spikes",
    "UniformNoise",
    "disturbance_from_dict",
    "parse_disturbance",
    "register",
    "sensor_std",
]
