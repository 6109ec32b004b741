"""Convolution in NumPy: every window of the image as one row (im2col), so that one matrix product does the work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int, ...]


def conv2d(
    weight: Array, bias: Array, stride: Shape, padding: Shape, shape: Shape
) -> tuple[Callable[[Array], Array], Shape]:
    """``torch.nn.Conv2d`` with zero padding, and the shape of what it gives.

    Args:
        weight: (out, in, kh, kw).
        bias: (out,).
        stride, padding: (rows, columns).
        shape: (in, h, w) of one image.

    Returns:
        a function of float32 arrays (…, in, h, w) → (…, out, h', w'), and (out, h', w').

    Raises:
        ValueError: the kernel does not fit the image, or cannot be moved over it.
    """
    out, channels, *kernel = weight.shape
    for name, values, least in (("stride", stride, 1), ("padding", padding, 0)):
        if len(values) != 2 or min(values) < least:
            raise ValueError(f"{name} must be two integers ≥ {least}, received {list(values)}.")
    if any(p >= k for p, k in zip(padding, kernel, strict=True)):
        raise ValueError(f"padding {list(padding)} must be smaller than the kernel, {kernel}.")
    size = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip(shape[1:], padding, kernel, stride, strict=True)]
    if shape[0] != channels or min(size) < 1:
        raise ValueError(f"a kernel of shape {weight.shape} does not fit an image of shape {shape}.")
    columns = np.ascontiguousarray(weight.reshape(out, -1).T)
    (rows_padding, columns_padding), (down, right) = padding, stride
    border = (rows_padding, rows_padding), (columns_padding, columns_padding)

    def convolve(x: Array) -> Array:
        if any(padding):
            x = np.pad(x, (*[(0, 0)] * (x.ndim - 2), *border))
        windows = sliding_window_view(x, kernel, axis=(-2, -1))[..., ::down, ::right, :, :]
        patches = np.moveaxis(windows, -5, -3)  # (…, h', w', in, kh, kw)
        y = patches.reshape(*patches.shape[:-3], len(columns)) @ columns + bias
        return np.moveaxis(y, -1, -3)

    return convolve, (out, *size)
