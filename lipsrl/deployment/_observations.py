"""Observations of every space as one flat vector, in SB3's order and encoding."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lipsrl._validation import lookup

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int, ...]
Description: TypeAlias = Mapping[str, Any]
#: Raw observation, one or a batch → (width,) or (n, width), and whether it was one.
Flattener: TypeAlias = Callable[[Any], tuple[Array, bool]]


def flattener(observation: Description, name: str = "observation") -> Flattener:
    """What turns raw observations as ``observation`` describes them into vectors."""
    return lookup(f"{name}.kind", observation["kind"], FLATTENERS)(observation, name)


def width_of(observation: Description) -> int:
    """Length of the flattened observation."""
    if observation["kind"] == "dict":
        return sum(width_of(entry) for entry in observation["entries"].values())
    if "sizes" in observation:
        return sum(observation["sizes"])
    return math.prod(observation["shape"])


def shape_of(observation: Description) -> Any:
    """Shape of one observation; a dict of shapes for a Dict."""
    if observation["kind"] == "dict":
        return {key: shape_of(entry) for key, entry in observation["entries"].items()}
    return tuple(observation["shape"])


def zeros_of(observation: Description) -> Any:
    """An observation that every space holds or could hold."""
    if observation["kind"] == "dict":
        return {key: zeros_of(entry) for key, entry in observation["entries"].items()}
    return np.zeros(observation["shape"])


def numbers(observation: Any, name: str) -> Array:
    """``observation`` as an array of real numbers.

    Raises:
        ValueError: it is none.
    """
    why = ""
    try:
        x = np.asarray(observation)
        if x.dtype.kind in "fiub":
            return x
    except (ValueError, TypeError) as error:  # a ragged list
        why = f" ({error})"
    if isinstance(observation, tuple):
        why += " env.reset() returns (observation, info): give the first."
    raise ValueError(f"{name} must be an array of real numbers, received {observation!r}.{why}")


def _box(observation: Description, name: str) -> Flattener:
    shape: Shape = tuple(observation["shape"])
    width, image, vector = math.prod(shape), bool(observation["image"]), len(shape) == 1

    def flatten(given: Any) -> tuple[Array, bool]:
        x = numbers(given, name)
        single = x.shape == shape
        if not single and x.shape[1:] != shape:
            x = _channels_first(x, shape) if image else x
            single = x.shape == shape
            if not single and x.shape[1:] != shape:
                raise _wrong_shape(np.shape(given), shape, name)
        if vector:
            return x, single
        return (x.reshape(width) if single else x.reshape(len(x), width)), single

    return flatten


def _channels_first(x: Array, shape: Shape) -> Array:
    """Images (h, w, c) turned to (c, h, w) if that is ``shape``, as SB3's ``predict`` does; others as they are."""
    if x.ndim not in (3, 4):
        return x
    turned = np.moveaxis(x, -1, -3)
    return turned if turned.shape[-3:] == shape else x


def _one_hot(observation: Description, name: str) -> Flattener:
    """Discrete and MultiDiscrete: a one-hot vector per value, counted from 0 as SB3 does."""
    shape: Shape = tuple(observation["shape"])
    sizes = np.array(observation["sizes"], np.int64)
    begins, width = np.cumsum(sizes) - sizes, int(sizes.sum())

    def flatten(given: Any) -> tuple[Array, bool]:
        x = numbers(given, name)
        single = x.shape == shape
        if not single and x.shape[1:] != shape:
            raise _wrong_shape(x.shape, shape, name)
        rows = x.reshape(1 if single else len(x), len(sizes))
        places = rows.astype(np.int64)
        if ((places != rows) | (places < 0) | (places >= sizes)).any():
            raise ValueError(
                f"{name} must hold integers from 0 to below {sizes.tolist()}, received {given!r}."
            )
        hot = np.zeros((len(rows), width), np.float32)
        np.put_along_axis(hot, places + begins, 1.0, axis=1)
        return (hot[0] if single else hot), single

    return flatten


def _dict(observation: Description, name: str) -> Flattener:
    entries = {key: flattener(entry, f"{name}[{key!r}]") for key, entry in observation["entries"].items()}

    def flatten(given: Any) -> tuple[Array, bool]:
        if not isinstance(given, Mapping) or set(given) != set(entries):
            keys = list(given) if isinstance(given, Mapping) else type(given).__name__
            raise ValueError(f"{name} must be a dict with the keys {list(entries)}, received {keys}.")
        parts, singles = zip(*[flatten(given[key]) for key, flatten in entries.items()], strict=True)
        if len({part.shape[:-1] for part in parts}) != 1:
            raise ValueError(
                f"{name} must be one observation or a batch throughout, received the shapes "
                f"{ {key: np.shape(given[key]) for key in entries} }."
            )
        return np.concatenate(parts, axis=-1), all(singles)

    return flatten


FLATTENERS: Mapping[str, Callable[[Description, str], Flattener]] = MappingProxyType(
    {"box": _box, "discrete": _one_hot, "multi_discrete": _one_hot, "multi_binary": _box, "dict": _dict}
)


def _wrong_shape(received: Shape, shape: Shape, name: str) -> ValueError:
    hint = f" Reshape it to {shape}." if math.prod(received) == math.prod(shape) else ""
    batch = f"({', '.join(['n', *map(str, shape)])}{',' if not shape else ''})"
    return ValueError(f"{name} must have shape {shape} or {batch}, received {received}.{hint}")
