"""From the network's output to the action that the environment receives, one function factory per action space.

Each takes outputs ``(width,)`` or ``(n, width)`` in float32 and gives ``(actions,)``, ``()`` or with a leading n.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lipsrl.deployment._safetensors import Tensors

Array: TypeAlias = NDArray[Any]
Head: TypeAlias = Callable[[Array], Array]


def box(action: Mapping[str, Any], tensors: Tensors, width: int) -> Head:
    """tanh and rescaling where the policy squashes; always inside ``[low, high]``, in the space's dtype."""
    dtype = np.dtype(action["dtype"])
    keys = ("low", "high", "half_range", "centre") if action["rescale"] else ("low", "high")
    vectors = [tensors[f"action.{key}"].astype(dtype) for key in keys]
    if any(vector.shape != (width,) for vector in vectors):
        raise ValueError(
            f"The action's tensors have shapes {[v.shape for v in vectors]}, expected ({width},)."
        )
    low, high = vectors[:2]

    def clip(y: Array) -> Array:
        inside: Array = np.minimum(np.maximum(y.astype(dtype, copy=False), low), high)
        return inside

    if not action["rescale"]:
        return clip
    half, centre = vectors[2:]
    squash = bool(action["squash"])

    def rescale(y: Array) -> Array:
        return clip((np.tanh(y) if squash else y) * half + centre)

    return rescale


def discrete(action: Mapping[str, Any], tensors: Tensors, width: int) -> Head:
    """The index of the largest logit or Q-value."""
    return lambda y: y.argmax(axis=-1)


def multi_discrete(action: Mapping[str, Any], tensors: Tensors, width: int) -> Head:
    """One such index per group of ``sizes[i]`` logits."""
    if sum(action["sizes"]) != width:
        raise ValueError(f"action sizes {action['sizes']} do not add up to the network's {width} outputs.")
    ends = np.cumsum(action["sizes"])[:-1]
    return lambda y: np.stack([part.argmax(axis=-1) for part in np.split(y, ends, axis=-1)], axis=-1)


def multi_binary(action: Mapping[str, Any], tensors: Tensors, width: int) -> Head:
    """1 where the probability is above one half: where the logit is positive."""
    return lambda y: (y > 0).astype(np.float32)


HEADS: Mapping[str, Callable[[Mapping[str, Any], Tensors, int], Head]] = MappingProxyType(
    {"box": box, "discrete": discrete, "multi_discrete": multi_discrete, "multi_binary": multi_binary}
)
