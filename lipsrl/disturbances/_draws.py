"""Random draws for many streams at the price of a few: drawn in blocks, handed out in order."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
Rows = slice | NDArray[np.intp]  # slice(None): every stream; an index array: these, without repetition

_BLOCK = 64  # steps drawn at once per stream; 64 makes the generator's call overhead negligible


class Draws:
    """``n`` independent streams of one distribution, ``dim`` draws per stream and step.

    Each stream is bit for bit what its own generator gives when it is asked for ``dim`` numbers, step after
    step: NumPy fills a block with the same sequence as single calls. All streams share one cursor, so that
    the usual step is a view; a stream that is reseeded, or that advances alone, rewrites its column.

    Args:
        n: number of streams.
        distribution: method of ``numpy.random.Generator``: ``"standard_normal"`` or ``"random"`` (on [0, 1)).
    """

    def __init__(self, n: int, distribution: Literal["standard_normal", "random"]) -> None:
        self._distribution = distribution
        self._generators: list[np.random.Generator | None] = [None] * n
        self._block: FloatArray | None = None  # (_BLOCK, n, dim), allocated when dim is known
        self._cursor = _BLOCK

    def seed(self, index: int, sequence: np.random.SeedSequence) -> None:
        """Restart stream ``index``; its next draw is the first one of ``sequence``."""
        self._generators[index] = np.random.default_rng(sequence)
        if self._block is not None:
            self._fill(self._block[self._cursor :, index], index)

    def next(self, rows: Rows, dim: int) -> FloatArray:
        """The next draws of the streams in ``rows``, shape ``(len(rows), dim)``; not to be written into."""
        if self._block is None:
            self._block = np.empty((_BLOCK, len(self._generators), dim))
        if self._cursor == _BLOCK:
            for index in range(len(self._generators)):
                self._fill(self._block[:, index], index)
            self._cursor = 0
        step: FloatArray = self._block[self._cursor]
        if isinstance(rows, slice):
            self._cursor += 1
            return step
        drawn: FloatArray = step[rows]
        for index in rows:
            column = self._block[self._cursor :, index]
            column[:-1] = column[1:]
            self._fill(column[-1:], int(index))
        return drawn

    def _fill(self, target: FloatArray, index: int) -> None:
        generator = self._generators[index]
        if generator is None:  # never seeded: entropy of the operating system
            generator = self._generators[index] = np.random.default_rng()
        target[...] = getattr(generator, self._distribution)(target.shape)
