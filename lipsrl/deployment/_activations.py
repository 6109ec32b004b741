"""Activations in NumPy: pure functions of float32 arrays (…, units), named as torch's and lipsrl's classes."""

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
_ONE = np.ones((), np.float32)
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


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def mish(x: Array) -> Array:
    return x * np.tanh(softplus(x))


def divided(x: Array, divisor: float, function: Callable[[Array], Array]) -> Array:
    return function(x) / divisor


def pairs(x: Array) -> tuple[Array, Array, Array]:
    """The units i and i + units // 2, and the one that is left of an odd number."""
    half = x.shape[-1] // 2
    return x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]


def max_min(x: Array) -> Array:
    a, b, rest = pairs(x)
    return np.concatenate([np.maximum(a, b), np.minimum(a, b), rest], axis=-1)


def group_sort(x: Array) -> Array:
    """Groups of the units i, i + n, i + 2n, i + 3n with n = units // 4; those that are left form another."""
    n = x.shape[-1] // 4
    y = np.sort(x[..., : 4 * n].reshape(*x.shape[:-1], 4, n), axis=-2).reshape(*x.shape[:-1], 4 * n)
    return np.concatenate([y, np.sort(x[..., 4 * n :], axis=-1)], axis=-1)


def householder(angle: Array) -> Callable[[Array], Array]:
    """The activation with ``angle`` (units // 2,)."""
    sin, cos = np.sin(angle / 2), np.cos(angle / 2)

    def reflect(x: Array) -> Array:
        a, b, rest = pairs(x)
        behind = 2 * np.minimum(a * sin - b * cos, _ZERO)
        return np.concatenate([a - behind * sin, b + behind * cos, rest], axis=-1)

    return reflect


#: name → function, and the module's attributes that it takes. ``Householder``, which takes a tensor, is beside it.
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
        "SiLU": (silu, ()),
        "GELU": (gelu, ()),
        "Mish": (mish, ()),
        "DividedSiLU": (partial(divided, function=silu), ("divisor",)),
        "DividedGELU": (partial(divided, function=gelu), ("divisor",)),
        "DividedMish": (partial(divided, function=mish), ("divisor",)),
        "ClippedReLU": (lambda x: np.minimum(np.maximum(x, _ZERO), _ONE), ()),
        "Abs": (np.abs, ()),
        "MaxMin": (max_min, ()),
        "GroupSort": (group_sort, ()),
        "FullSort": (partial(np.sort, axis=-1), ()),
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
