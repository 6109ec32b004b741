"""Bounds and units as a user gives them, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lipsrl.layers import LAYERS

#: Bounds and scales may be this large, and this small.
LARGEST = 1e15


def scale_vector(argument: str, value: Any, size: int) -> Tensor | None:
    """``value`` (None, a number > 0 or one per coordinate) as a float32 vector of ``size``."""
    if value is None:
        return None
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"{argument} must be one number > 0 or {size} of them, received {value!r}."
        ) from None
    if array.ndim == 0:
        array = np.full(size, float(array))
    array = array.reshape(-1)
    if array.shape != (size,):
        raise ValueError(
            f"{argument} must be one number > 0 or {size} of them, received {array.size} values."
        )
    if not (np.isfinite(array) & (array > 0)).all():
        raise ValueError(f"{argument} must be finite and > 0, received {array.tolist()}.")
    check_magnitude(argument, array)
    return torch.as_tensor(array, dtype=torch.float32)


def check_magnitude(argument: str, value: Any) -> None:
    """Refuse numbers whose products float32 cannot hold with its usual precision: the bound would be lost."""
    if not ((np.asarray(value) >= 1 / LARGEST) & (np.asarray(value) <= LARGEST)).all():
        raise ValueError(
            f"{argument} must lie between {1 / LARGEST:g} and {LARGEST:g}, received {value}: float32 weights cannot "
            "hold such a factor. Change the units of the observation or the action."
        )


def norm_mismatch(layer: str, norm: str) -> ValueError:
    """The error for a layer that bounds another norm."""
    own = LAYERS[layer].norm
    fitting = [name for name, cls in LAYERS.items() if cls.norm == norm]
    return ValueError(
        f"norm={norm!r} is not supported by layer={layer!r}, which bounds the {own} norm. Use norm={own!r}, or one of "
        f"the layers {', '.join(map(repr, fitting))}."
    )
