"""Many streams of one disturbance at once, equal to the loop over single ones bit for bit."""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lipsrl._validation import positive_int
from lipsrl.disturbances._draws import FloatArray, Rows
from lipsrl.disturbances._parameters import nonnegative_number
from lipsrl.disturbances._seeding import Seed, seed_sequence

Indices = Sequence[int] | NDArray[np.integer[Any]]

_ALL = slice(None)


def describe(value: object) -> str:
    """What came in, for an error: shape and dtype of an array, value and type of anything else."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    return f"{value!r} of type {type(value).__name__}"


class Process(Protocol):
    """What a batch asks of the disturbance that it is of; a ``Disturbance`` answers it."""

    @property
    def parameters(self) -> dict[str, Any]:
        """The constructor's arguments by name."""

    @property
    def dimension(self) -> int | None:
        """The observation length that it asks for; None: any."""

    def check_dimension(self, dim: int) -> None:
        """Raise ``ValueError`` for observations that do not fit."""

    def scaled(self, strength: float) -> Process:
        """A fresh one, ``strength`` times as strong."""


class DisturbanceBatch(ABC):
    """``n`` independent streams of one disturbance; made by ``Disturbance.batch(n)``.

    A family implements :meth:`_seed` (new generators for one stream), :meth:`_configure` (one stream's
    parameters, already scaled), :meth:`_apply` (one step, vectorised over the streams in ``rows``) and, if it
    has a memory, :meth:`_begin` (first observation of an episode).

    Args:
        disturbance: its parameters are copied; its own stream is not touched.
        n: number of streams, > 0.
    """

    def __init__(self, disturbance: Process, n: int) -> None:
        self.n = positive_int("n", n)
        self.disturbance: Process = disturbance.scaled(1.0)  # a copy without a stream
        self._strengths = [1.0] * self.n
        self._dim: int | None = disturbance.dimension
        self._beginning = np.ones(self.n, dtype=np.bool_)  # the next observation is the first of an episode
        self._some_begin = True

    def reset(self, index: int, seed: Seed | None = None, strength: float = 1.0) -> None:
        """Start an episode in stream ``index``; the others go on.

        Args:
            index: 0 … n - 1.
            seed: as in ``Disturbance.reset``: the stream becomes that of ``disturbance.scaled(strength)``
                reset with this seed. None goes on with the stream's own generator.
            strength: multiplier of every amplitude from here on, finite and >= 0.

        Raises:
            ValueError: an argument out of its range; nothing is changed.
        """
        if not isinstance(index, numbers.Integral) or not 0 <= index < self.n:
            raise ValueError(f"index must be an integer from 0 to {self.n - 1}, received {index!r}.")
        strength = nonnegative_number("strength", strength)
        sequence = None if seed is None else seed_sequence(seed)
        if strength != self._strengths[index]:
            self._configure(index, self.disturbance.scaled(strength).parameters)
            self._strengths[index] = strength
        if sequence is not None:
            self._seed(index, sequence)
        self._beginning[index] = self._some_begin = True

    def __call__(self, observations: FloatArray, indices: Indices | None = None) -> FloatArray:
        """One step of every stream, or of the streams in ``indices`` only.

        Args:
            observations: ``(n, dim)``, or ``(len(indices), dim)``; floating point, raw units; not modified.
            indices: streams that advance, each once; row ``k`` belongs to stream ``indices[k]``.

        Returns:
            A fresh array of the same shape and dtype.

        Raises:
            ValueError: wrong type, shape or length, or an index out of range; no stream has moved.
        """
        rows = _ALL if indices is None else self._rows(indices)
        self._check(observations, self.n if isinstance(rows, slice) else len(rows))
        if self._some_begin:
            starting = np.arange(self.n)[rows]
            fresh = self._beginning[starting]
            if fresh.any():
                self._begin(starting[fresh], observations[fresh])
                self._beginning[starting] = False
                self._some_begin = bool(self._beginning.any())
        return self._apply(observations, rows)

    @abstractmethod
    def _seed(self, index: int, sequence: np.random.SeedSequence) -> None:
        """Restart the generators of one stream; several of them take children of ``sequence``."""

    @abstractmethod
    def _configure(self, index: int, parameters: dict[str, Any]) -> None:
        """Take over the (scaled) parameters of one stream."""

    def _begin(self, indices: NDArray[np.intp], observations: FloatArray) -> None:
        """Fresh memory for these streams, whose first observations these are; nothing without a memory."""
        return

    @abstractmethod
    def _apply(self, observations: FloatArray, rows: Rows) -> FloatArray:
        """One step of the streams in ``rows``: a fresh array, from one row of ``observations`` each."""

    def _rows(self, indices: Indices) -> NDArray[np.intp]:
        rows = np.asarray(indices)
        if (
            rows.ndim != 1
            or rows.dtype.kind not in "iu"
            or np.unique(rows).size != rows.size
            or (rows.size and not (rows.min() >= 0 and rows.max() < self.n))
        ):
            raise ValueError(
                f"indices must be different integers from 0 to {self.n - 1}, received {indices!r}."
            )
        return rows.astype(np.intp)

    def _check(self, observations: object, count: int) -> None:
        if not isinstance(observations, np.ndarray) or observations.ndim != 2 or len(observations) != count:
            raise ValueError(
                f"observations must be a NumPy array of shape ({count}, dim), "
                f"received {describe(observations)}."
            )
        if observations.dtype.kind != "f":
            raise ValueError(
                f"observations must be floating point, received dtype {observations.dtype}: a disturbance in "
                "sensor units has no meaning on integers. Convert them to float32 first."
            )
        dim = observations.shape[1]
        if dim != self._dim:
            self.disturbance.check_dimension(dim)
            if self._dim is not None or dim == 0:
                raise ValueError(
                    f"observations must keep their length: expected {self._dim or '> 0'}, received {dim}. "
                    "Use another instance for other observations."
                )
            self._dim = dim
