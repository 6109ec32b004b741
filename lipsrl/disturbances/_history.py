"""What many streams have shown before: ring buffers of past observations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lipsrl.disturbances._draws import FloatArray, Rows

_FLOAT64: np.dtype[Any] = np.dtype(np.float64)


def memory_like(
    memory: FloatArray | None, shape: tuple[int, ...], dtype: np.dtype[Any] = _FLOAT64
) -> FloatArray:
    """``memory`` wide enough for values of ``dtype``; zeros of ``shape`` where there is none yet."""
    if memory is None:
        return np.zeros(shape, dtype=dtype)
    return memory if memory.dtype == dtype else memory.astype(np.promote_types(memory.dtype, dtype))


class History:
    """The last ``depth`` observations of ``n`` streams; before the first of an episode lies the first itself."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._depth = 1
        self._data: FloatArray | None = None  # (n, depth, dim)
        self._newest = np.zeros(n, dtype=np.intp)

    def deepen(self, depth: int) -> None:
        """Keep at least ``depth`` observations; what is older than was kept before is known after ``begin``."""
        if depth <= self._depth:
            return
        if self._data is not None:
            ages = np.arange(self._depth - 1, -1, -1)
            ordered = self._data[np.arange(self._n)[:, None], (self._newest[:, None] - ages) % self._depth]
            self._data = np.zeros((self._n, depth, ordered.shape[2]), dtype=ordered.dtype)
            self._data[:, depth - self._depth :] = ordered
        self._newest[:] = depth - 1
        self._depth = depth

    def begin(self, indices: NDArray[np.intp], observations: FloatArray) -> None:
        """An episode begins in these streams: all of the past is the first observation."""
        shape = (self._n, self._depth, observations.shape[1])
        self._data = memory_like(self._data, shape, observations.dtype)
        self._data[indices] = observations[:, None]

    def push(self, rows: Rows, observations: FloatArray) -> None:
        """The next observation of the streams in ``rows``."""
        assert self._data is not None, "begin comes first"
        self._data = memory_like(self._data, self._data.shape, observations.dtype)
        newest = (self._newest[rows] + 1) % self._depth
        self._newest[rows] = newest
        self._data[self._streams(rows), newest] = observations

    def back(self, rows: Rows, steps: NDArray[np.intp]) -> FloatArray:
        """What the streams in ``rows`` saw ``steps`` pushes ago (0: the newest), as a fresh array.

        Args:
            steps: ``(len(rows), 1)`` or ``(len(rows), dim)``, less than the depth.
        """
        assert self._data is not None, "begin comes first"
        streams = self._streams(rows)
        places = (self._newest[rows][:, None] - steps) % self._depth
        past: FloatArray
        if places.shape[1] == 1:
            past = self._data[streams, places[:, 0]]
        else:
            past = self._data[streams[:, None], places, np.arange(self._data.shape[2])]
        return past

    def _streams(self, rows: Rows) -> NDArray[np.intp]:
        return np.arange(self._n) if isinstance(rows, slice) else rows
