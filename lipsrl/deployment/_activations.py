"""torch's activations in NumPy: pure functions of float32 arrays, named as in ``torch.nn``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lipsrl._validation import lookup

Array: TypeAlias = NDArray[Any]

_ZERO = np.zeros((), np.float32)  # an array is taken faster than a Python number
_erfc = np.frompyfunc(math.erfc, 1, 1)  # NumPy has none


def relu(x: Array) -> Array:
    return np.maximum(x, _ZERO)


def leaky_relu(x: Array, negative_slope: float) -> Array:
    return np.where(x > 0, x, negative_slope * x)


def hardtanh(x: Array, min_val: float, max_val: float) -> Array:
    return np.minimum(np.maximum(x, min_val), max_val)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(np.minimum(-x, 88.0)))  # exp(89) overflows float32


def softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    scaled = beta * x
    curve = np.maximum(scaled, 0.0) + np.log1p(np.exp(-np.abs(scaled)))
    return np.where(scaled > threshold, x, curve / beta)


def elu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def celu(x: Array, alpha: float) -> Array:
    return np.maximum(x, 0.0) + np.minimum(0.0, alpha * np.expm1(np.minimum(x / alpha, 0.0)))


def selu(x: Array) -> Array:
    return 1.0507009873554804934193349852946 * elu(x, 1.6732632423543772848170429916717)


def gelu(x: Array) -> Array:
    twice_phi: Array = np.asarray(_erfc(-math.sqrt(0.5) * x), x.dtype)
    return 0.5 * x * twice_phi


#: name in ``torch.nn`` → function, and the module's attributes that it takes.
ACTIVATIONS: Mapping[str, tuple[Callable[..., Array], tuple[str, ...]]] = MappingProxyType(
    {
        "ReLU": (relu, ()),
        "ReLU6": (partial(hardtanh, min_val=0.0, max_val=6.0), ()),
        "LeakyReLU": (leaky_relu, ("negative_slope",)),
        "Hardtanh": (hardtanh, ("min_val", "max_val")),
        "Tanh": (np.tanh, ()),
        "Sigmoid": (sigmoid, ()),
        "LogSigmoid": (lambda x: -softplus(-x), ()),
        "Hardsigmoid": (lambda x: hardtanh(x / 6 + 0.5, 0.0, 1.0), ()),
        "Hardswish": (lambda x: x * hardtanh(x / 6 + 0.5, 0.0, 1.0), ()),
        "Softplus": (softplus, ("beta", "threshold")),
        "Softsign": (lambda x: x / (1 + np.abs(x)), ()),
        "ELU": (elu, ("alpha",)),
        "CELU": (celu, ("alpha",)),
        "SELU": (selu, ()),
        "SiLU": (lambda x: x * sigmoid(x), ()),
        "GELU": (gelu, ()),
        "Mish": (lambda x: x * np.tanh(softplus(x)), ()),
    }
)


def activation(kind: str, parameters: Mapping[str, float]) -> Callable[[Array], Array]:
    """The function named ``kind`` with its ``parameters`` bound.

    Raises:
        ValueError: an unknown name.
        KeyError: a parameter is missing.
    """
    function, names = lookup("activation", kind, ACTIVATIONS)
    return partial(function, **{name: float(parameters[name]) for name in names}) if names else function
