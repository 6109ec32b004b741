"""An ONNX graph under construction, and the activations in it: the counterparts of ``_activations``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from lipsrl.deployment._activations import ACTIVATIONS as NUMPY_ACTIVATIONS

Array: TypeAlias = NDArray[Any]


class Graph:
    """Nodes and constants, added one by one; values are known by their names."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self._numbers = itertools.count()

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output and return the output's name."""
        output = f"v{next(self._numbers)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def constant(self, name: str, value: Any) -> str:
        """Store an array once under ``name`` and return the name."""
        if name not in self.constants:
            array = np.asarray(value)
            self.constants[name] = numpy_helper.from_array(
                np.ascontiguousarray(array).reshape(array.shape), name
            )
        return name

    def number(self, value: float) -> str:
        """A float32 scalar."""
        return self.constant(f"number.{value!r}", np.float32(value))

    def shape(self, *sizes: int) -> str:
        """Sizes, axes or places, int64."""
        return self.constant(f"shape.{'.'.join(map(str, sizes))}", np.array(sizes, np.int64))

    def reshape(self, x: str, *sizes: int) -> str:
        """``x`` (n, …) as (n, *sizes)."""
        return self.add("Reshape", x, self.shape(0, *sizes))  # 0: as it is

    def cast(self, x: str, dtype: Any) -> str:
        """``x`` in a NumPy dtype."""
        return self.add("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def part(self, x: str, begin: int, end: int) -> list[str]:
        """Features ``begin`` to ``end`` of ``x`` (n, features), as a list that is empty where there are none."""
        if begin == end:
            return []
        return [self.add("Slice", x, self.shape(begin), self.shape(end), self.shape(1))]

    def join(self, *parts: str) -> str:
        """Features side by side."""
        return parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=1)


Parameters: TypeAlias = Mapping[str, float]
Activation: TypeAlias = Callable[[Graph, str, Parameters], str]


def _node(op: str, **attributes: float) -> Activation:
    return lambda g, x, _: g.add(op, x, **attributes)


def _clip(low: float, high: float) -> Activation:
    return lambda g, x, _: g.add("Clip", x, g.number(low), g.number(high))


def _hardtanh(g: Graph, x: str, p: Parameters) -> str:
    return _clip(p["min_val"], p["max_val"])(g, x, p)


def _hardsigmoid(g: Graph, x: str, p: Parameters) -> str:
    return _clip(0.0, 1.0)(g, g.add("Add", g.add("Div", x, g.number(6.0)), g.number(0.5)), p)


def _log_sigmoid(g: Graph, x: str, _: Parameters) -> str:
    return g.add("Neg", g.add("Softplus", g.add("Neg", x)))


def _softplus(g: Graph, x: str, p: Parameters) -> str:
    scaled = g.add("Mul", x, g.number(p["beta"]))
    curve = g.add("Div", g.add("Softplus", scaled), g.number(p["beta"]))
    return g.add("Where", g.add("Greater", scaled, g.number(p["threshold"])), x, curve)


def _silu(g: Graph, x: str, _: Parameters) -> str:
    # not x·Sigmoid(x): onnxruntime's Sigmoid is off by 6e-8, which a large x multiplies
    return g.add("Div", x, g.add("Add", g.add("Exp", g.add("Neg", x)), g.number(1.0)))


def _gelu(g: Graph, x: str, _: Parameters) -> str:
    error = g.add("Erf", g.add("Mul", x, g.number(math.sqrt(0.5))))
    return g.add("Mul", g.add("Mul", x, g.number(0.5)), g.add("Add", error, g.number(1.0)))


def _mish(g: Graph, x: str, _: Parameters) -> str:
    return g.add("Mul", x, g.add("Tanh", g.add("Softplus", x)))


def _divided(function: Activation) -> Activation:
    return lambda g, x, p: g.add("Div", function(g, x, p), g.number(p["divisor"]))


#: name → nodes; :func:`mixing` and ``Householder`` are beside it, because they need the number of units.
ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {
        "ReLU": _node("Relu"),
        "ReLU6": _clip(0.0, 6.0),
        "LeakyReLU": lambda g, x, p: g.add("LeakyRelu", x, alpha=p["negative_slope"]),
        "Hardtanh": _hardtanh,
        "Tanh": _node("Tanh"),
        "Sigmoid": _node("Sigmoid"),
        "LogSigmoid": _log_sigmoid,
        "Hardsigmoid": _hardsigmoid,
        "Hardswish": lambda g, x, p: g.add("Mul", x, _hardsigmoid(g, x, p)),
        "Softplus": _softplus,
        "Softsign": _node("Softsign"),
        "ELU": lambda g, x, p: g.add("Elu", x, alpha=p["alpha"]),
        "CELU": lambda g, x, p: g.add("Celu", x, alpha=p["alpha"]),
        "SELU": _node("Selu", alpha=1.6732632423543772848, gamma=1.0507009873554804935),
        "SiLU": _silu,
        "GELU": _gelu,
        "Mish": _mish,
        "DividedSiLU": _divided(_silu),
        "DividedGELU": _divided(_gelu),
        "DividedMish": _divided(_mish),
        "ClippedReLU": _clip(0.0, 1.0),
        "Abs": _node("Abs"),
    }
)


def _sorted(g: Graph, x: str, size: int) -> str:
    """``x`` ascending along axis 1, which has ``size`` entries."""
    output = g.add("TopK", x, g.shape(size), axis=1, largest=0, sorted=1)
    g.nodes[-1].output.append(f"{output}.order")
    return output


def _max_min(g: Graph, x: str, units: int) -> str:
    half = units // 2
    if half == 0:
        return x
    (a,), (b,) = g.part(x, 0, half), g.part(x, half, 2 * half)
    return g.join(g.add("Max", a, b), g.add("Min", a, b), *g.part(x, 2 * half, units))


def _group_sort(g: Graph, x: str, units: int) -> str:
    n = units // 4
    groups = [g.reshape(_sorted(g, g.reshape(part, 4, n), 4), 4 * n) for part in g.part(x, 0, 4 * n)]
    return g.join(*groups, *[_sorted(g, part, units - 4 * n) for part in g.part(x, 4 * n, units)])


#: Activations that act jointly on groups of ``units``: name → nodes.
MIXING: Mapping[str, Callable[[Graph, str, int], str]] = MappingProxyType(
    {"MaxMin": _max_min, "GroupSort": _group_sort, "FullSort": _sorted}
)


def activation(g: Graph, x: str, layer: Mapping[str, Any], units: int) -> str:
    """The activation that ``layer`` names, on ``x`` (n, units) or on images (n, …, units).

    Raises:
        ValueError: an unknown name.
    """
    kind = layer["kind"]
    if kind in MIXING:
        return MIXING[kind](g, x, units)
    if kind not in ACTIVATIONS:
        raise ValueError(f"{kind} has no ONNX form here. Export to .safetensors.")
    _, names = NUMPY_ACTIVATIONS[kind]
    return ACTIVATIONS[kind](g, x, {name: float(layer[name]) for name in names})


def householder(g: Graph, x: str, angle: Array, name: str, units: int) -> str:
    """Reflect each pair into its half plane; see :class:`lipsrl.layers._activation_modules.Householder`."""
    half = units // 2
    if half == 0:
        return x
    (a,), (b,) = g.part(x, 0, half), g.part(x, half, 2 * half)
    sin, cos = (g.constant(f"{name}.{f.__name__}", f(angle / 2)) for f in (np.sin, np.cos))
    side = g.add("Sub", g.add("Mul", a, sin), g.add("Mul", b, cos))
    behind = g.add("Mul", g.add("Min", side, g.number(0.0)), g.number(2.0))
    return g.join(
        g.add("Sub", a, g.add("Mul", behind, sin)),
        g.add("Add", b, g.add("Mul", behind, cos)),
        *g.part(x, 2 * half, units),
    )
