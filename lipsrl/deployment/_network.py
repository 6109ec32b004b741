"""The layers of an exported file, ready to run on NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lipsrl.deployment._activations import activation, householder
from lipsrl.deployment._convolution import conv2d
from lipsrl.deployment._safetensors import Tensors

Array: TypeAlias = NDArray[Any]
Function: TypeAlias = Callable[[Array], Array]
Shape: TypeAlias = tuple[int, ...]
Description: TypeAlias = Mapping[str, Any]
#: weight (in, out), or ``None`` for the identity; bias (out,); and what follows them
Layer: TypeAlias = tuple[Array | None, Array, tuple[Function, ...]]

_NO_BIAS = np.zeros(0, np.float32)


def run(layers: Iterable[Layer], x: Array) -> Array:
    """(features,) or (n, features) → the network's output."""
    for weight, bias, functions in layers:
        if weight is not None:
            x = x.dot(weight) + bias
        for function in functions:
            x = function(x)
    return x


def chain(described: Iterable[Description], tensors: Tensors, shape: Shape) -> tuple[list[Layer], Shape]:
    """Layers that take one observation of ``shape`` (or many), and the shape of what they give.

    Raises:
        ValueError, KeyError: the parts do not fit together, or are not there.
    """
    layers: list[Layer] = []
    for layer in described:
        if layer["kind"] == "Linear":
            added, shape = _linear(layer, tensors, shape)
            layers.append(added)
        elif layer["kind"] == "Residual":
            added, shape = _residual(layer, tensors, shape)
            layers.append(added)
        else:
            function, shape = _function(layer, tensors, shape)
            weight, bias, before = layers.pop() if layers else (None, _NO_BIAS, ())
            layers.append((weight, bias, (*before, function)))
    return layers, shape


def matrix(tensors: Tensors, name: str, shape: Shape) -> Array:
    """Transposed, (in, out) in memory: one product serves one observation and many, and is the fastest for one."""
    weight = tensors[name]
    if weight.ndim != 2 or weight.shape[1:] != shape:
        raise ValueError(
            f"Tensor {name!r} has shape {weight.shape}, expected (…, {', '.join(map(str, shape))})."
        )
    return np.ascontiguousarray(weight.T)


def vector(tensors: Tensors, name: str, size: int) -> Array:
    """The tensor ``name``, which must be (size,)."""
    if tensors[name].shape != (size,):
        raise ValueError(f"Tensor {name!r} has shape {tensors[name].shape}, expected ({size},).")
    return tensors[name]


def _linear(layer: Description, tensors: Tensors, shape: Shape) -> tuple[Layer, Shape]:
    weight = matrix(tensors, layer["weight"], shape)
    width = weight.shape[1]
    bias = vector(tensors, layer["bias"], width) if layer["bias"] else np.zeros(width, weight.dtype)
    narrow = (_as_float32,) if weight.dtype == np.float64 else ()  # the folded first layer
    return (weight, bias, narrow), (width,)


def _as_float32(x: Array) -> Array:
    return x.astype(np.float32)


def _residual(layer: Description, tensors: Tensors, shape: Shape) -> tuple[Layer, Shape]:
    """``S x + branch(x)`` as one layer: the branch's first product and S x are taken together."""
    branch, outputs = chain(layer["branch"], tensors, shape)
    skip = matrix(tensors, layer["skip"], shape)
    if outputs != skip.shape[1:]:
        raise ValueError(f"Tensor {layer['skip']!r} has {len(skip.T)} rows, expected {outputs[-1]}.")
    (weight, bias, functions), *rest = branch
    if weight is None:
        raise ValueError("a residual branch must begin with a linear layer.")
    inner = len(bias)

    def finish(stacked: Array) -> Array:
        y = stacked[..., :inner]
        for function in functions:
            y = function(y)
        total: Array = run(rest, y) + stacked[..., inner:]
        return total

    both = np.ascontiguousarray(np.concatenate([weight, skip], axis=1))
    return (both, np.concatenate([bias, np.zeros(skip.shape[1], np.float32)]), (finish,)), outputs


def _function(layer: Description, tensors: Tensors, shape: Shape) -> tuple[Function, Shape]:
    """Everything that is no product with one matrix."""
    match layer["kind"]:
        case "Conv2d":
            weight, bias = tensors[layer["weight"]], layer["bias"]
            if len(shape) != 3 or weight.ndim != 4:
                raise ValueError(
                    f"Tensor {layer['weight']!r} cannot be convolved with features of shape {shape}."
                )
            offset = vector(tensors, bias, len(weight)) if bias else np.zeros(len(weight), np.float32)
            return conv2d(weight, offset, tuple(layer["stride"]), tuple(layer["padding"]), shape)
        case "Flatten":
            return _reshape(shape, (math.prod(shape),))
        case "Unflatten":
            return _reshape(shape, tuple(int(n) for n in layer["shape"]))
        case "Scale":
            factor = np.float32(layer["factor"])
            return (lambda x: x * factor), shape
        case "Parallel":
            return _parallel(layer, tensors, shape)
        case "Householder":
            return householder(vector(tensors, layer["angle"], shape[-1] // 2)), shape
        case kind:
            return activation(kind, layer), shape


def _parallel(layer: Description, tensors: Tensors, shape: Shape) -> tuple[Function, Shape]:
    """Each branch on its own slice of the features, the results side by side."""
    sizes = [int(n) for n in layer["sizes"]]
    if shape != (sum(sizes),) or min(sizes, default=0) < 1:
        raise ValueError(f"features of shape {shape} cannot be cut into pieces of {sizes}.")
    branches = [chain(branch, tensors, (n,)) for branch, n in zip(layer["branches"], sizes, strict=True)]
    outputs = [out for _, (out,) in branches]
    ends = np.cumsum(sizes)[:-1]

    def side_by_side(x: Array) -> Array:
        parts = zip(branches, np.split(x, ends, axis=-1), strict=True)
        return np.concatenate([run(layers, part) for (layers, _), part in parts], axis=-1)

    return side_by_side, (sum(outputs),)


def _reshape(before: Shape, after: Shape) -> tuple[Function, Shape]:
    if math.prod(before) != math.prod(after) or min(after, default=1) < 1:
        raise ValueError(f"features of shape {before} cannot become {after}.")
    axes = len(before)
    return (lambda x: x.reshape(*x.shape[: x.ndim - axes], *after)), after
