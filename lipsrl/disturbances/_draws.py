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
    step: NumPy fills a block with the same sequence as single calls.

    Args:
        n: number of streams.
        distribution: method of ``numpy.random.Generator``: ``"standard_normal"`` or ``"random"`` (on [0, 1)).
    """

    def __init__(self, n: int, distribution: Literal["standard_normal", "random"]) -> None:
        self._distribution = distribution
        self._generators: list[np.random.Generator | None] = [None] * n
        self._block: FloatArray | None = None  # (n, _BLOCK, dim), allocated when dim is known
        # While all streams advance together one cursor serves them, and a step is a view of the block.
        self._common: int | None = _BLOCK
        self._cursors = np.full(n, _BLOCK)  # used once a stream has advanced alone

    def seed(self, index: int, sequence: np.random.SeedSequence) -> None:
        """Restart stream ``index``; its next draw is the first one of ``sequence``."""
        self._generators[index] = np.random.default_rng(sequence)
        if self._common is None:
            self._cursors[index] = _BLOCK
        elif self._block is not None:
            self._fill(self._block[index, self._common :], index)

    def next(self, rows: Rows, dim: int) -> FloatArray:
        """The next draws of the streams in ``rows``, shape ``(len(rows), dim)``; not to be written into."""
        if self._block is None:
            self._block = np.empty((len(self._generators), _BLOCK, dim))
        step: FloatArray
        if self._common is not None:
            if isinstance(rows, slice):
                if self._common == _BLOCK:
                    for index, column in enumerate(self._block):
                        self._fill(column, index)
                    self._common = 0
                step = self._block[:, self._common]
                self._common += 1
                return step
            self._cursors[:] = self._common
            self._common = None
        if isinstance(rows, slice):
            rows = np.arange(len(self._generators))
        for index in rows[self._cursors[rows] == _BLOCK]:
            self._fill(self._block[index], int(index))
            self._cursors[index] = 0
        step = self._block[rows, self._cursors[rows]]
        self._cursors[rows] += 1
        return step

    def _fill(self, target: FloatArray, index: int) -> None:
        generator = self._generators[index]
        if generator is None:  # never seeded: entropy of the operating system
            generator = self._generators[index] = np.random.default_rng()
        target[...] = getattr(generator, self._distribution)(target.shape)
