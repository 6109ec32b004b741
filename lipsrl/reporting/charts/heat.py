"""Colours for a grid of values, and the grid as a PNG of a few kilobytes."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from lipsrl.reporting.charts.figure import Array, Heat

# Light to dark in one hue, so that grey print and colour-blind eyes see the order; and two hues that stay
# apart under every kind of colour blindness, blue against orange, through a light middle.
_SEQUENTIAL = ("#f7f4ea", "#cfe0c3", "#86bfa8", "#3f8f96", "#2b5c86", "#1d2b5c")
_DIVERGING = ("#1f4e8c", "#6fa3d0", "#f2f0eb", "#e9a15b", "#a84c00")


def colour_stops(heat: Heat) -> list[str]:
    """The colours from the lower to the upper limit, evenly spaced."""
    return list(_DIVERGING if heat.diverging else _SEQUENTIAL)


def colours(heat: Heat) -> NDArray[np.uint8]:
    """``(rows, columns, 3)``, the highest y first, as images are written."""
    low, high = heat.limits
    stops = np.array(
        [[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colour_stops(heat)], dtype=np.float64
    )
    share = np.clip((heat.values[::-1] - low) / ((high - low) or 1.0), 0.0, 1.0)
    share = np.where(np.isfinite(share), share, 0.0)
    at = np.linspace(0.0, 1.0, len(stops))
    channels = [np.interp(share, at, stops[:, i]) for i in range(3)]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)


def png_uri(heat: Heat) -> str:
    """``data:image/png;base64,…``; the same values give the same bytes."""
    pixels = colours(heat)
    height, width, _ = pixels.shape
    rows = b"".join(b"\x00" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(rows, 9))
        + _chunk(b"IEND", b"")
    )
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def spread(values: Array) -> tuple[float, float]:
    """The smallest and largest finite value; 0 and 1 where there is none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
