"""What every disturbance is: fixed parameters, one seeded stream of its own, batches of further streams."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from lipsrl.disturbances._batch import DisturbanceBatch, describe
from lipsrl.disturbances._draws import FloatArray
from lipsrl.disturbances._seeding import Seed


class Disturbance(ABC):
    """A seeded random process over observations, in the raw units of each sensor.

    Parameters are fixed at construction. The state is one stream: a generator and, in families that have
    one, a memory of the episode. Two disturbances with equal parameters are equal (``==``), whatever their
    streams. A pickled or deep-copied disturbance that is seeded or in use goes on with the same draws.

    A family gives ``name``, :attr:`parameters`, :meth:`scaled` and :meth:`batch`; the single stream is a
    batch of one, so that batch and loop agree bit for bit.
    """

    name: ClassVar[str]  #: key in ``DISTURBANCES`` and on the command line

    _stream: DisturbanceBatch | None = None  # made at the first reset or call

    @property
    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """The constructor's arguments by name: numbers, or tuples of numbers."""

    @abstractmethod
    def scaled(self, strength: float) -> Disturbance:
        """A fresh disturbance, ``strength`` times as strong: each family says which parameter is multiplied.

        Args:
            strength: finite, >= 0. At 0 the disturbance is the identity, bit for bit. The same seed at two
                strengths gives the same underlying draws (common random numbers).

        Raises:
            ValueError: ``strength`` is not a finite number >= 0.
        """

    @abstractmethod
    def batch(self, n: int) -> DisturbanceBatch:
        """``n`` fresh, independent streams of this disturbance, applied to ``(n, dim)`` arrays at once."""

    def scale_by_std(self, statistics: Any) -> Disturbance:
        """A fresh disturbance whose amplitudes are multiplied by the standard deviation of their sensor.

        So ``GaussianNoise(0.1).scale_by_std(statistics)`` is noise of a tenth of what each sensor varies by in
        the task. What has no sensor units (delays, losses) stays as it is; a constant sensor gets no noise.

        Args:
            statistics: one standard deviation per observation dimension, or something that recorded them: an
                ``ObservationStatistics``, a ``VecNormalize``; see ``sensor_std``.

        Raises:
            ValueError: no such statistics, another length, or a family that cannot be scaled so.
        """
        raise ValueError(f"{self!r} has no amplitudes in sensor units that could be scaled by statistics.")

    @property
    def dimension(self) -> int | None:
        """The observation length that per-dimension parameters ask for; None: any."""
        return next((len(value) for value in self.parameters.values() if isinstance(value, tuple)), None)

    def check_dimension(self, dim: int) -> None:
        """Raise ``ValueError`` unless this disturbance applies to observations of length ``dim``."""
        if self.dimension not in (None, dim):
            raise ValueError(
                f"{self!r} has {self.dimension} values, one per observation dimension, but the observation "
                f"has length {dim}. Give one number for all dimensions, or {dim} values."
            )

    def reset(self, seed: Seed | None = None) -> None:
        """Start an episode: the memory is cleared, and the next call gets the first observation.

        Args:
            seed: an integer >= 0 or a ``SeedSequence`` restarts the generator; None goes on with its draws.

        Raises:
            ValueError: another ``seed``.
        """
        self._own_stream().reset(0, seed)

    def __call__(self, observation: FloatArray) -> FloatArray:
        """The disturbed observation.

        Args:
            observation: ``(dim,)``, floating point, raw sensor units; not modified. ``dim`` stays the same
                for the life of the stream.

        Returns:
            A fresh ``(dim,)`` array of the same dtype.

        Raises:
            ValueError: not a floating-point NumPy array of shape ``(dim,)``, or a length that does not fit.
        """
        received: object = observation
        if not isinstance(received, np.ndarray) or received.ndim != 1:
            raise ValueError(
                f"observation must be a NumPy array of shape (dim,), received {describe(received)}. "
                "Flatten it first, or use batch(n) for n observations at once."
            )
        disturbed: FloatArray = self._own_stream()(observation[np.newaxis])[0]
        return disturbed

    def to_dict(self) -> dict[str, Any]:
        """``{"name": ..., parameter: value, ...}``, ready for JSON; see ``disturbance_from_dict``."""
        listed = {k: list(v) if isinstance(v, tuple) else v for k, v in self.parameters.items()}
        return {"name": self.name, **listed}

    @classmethod
    def from_parameters(cls, parameters: dict[str, Any]) -> Disturbance:
        """The inverse of :meth:`to_dict`, without the name."""
        return cls(**parameters)

    def _own_stream(self) -> DisturbanceBatch:
        if self._stream is None:
            self._stream = self.batch(1)
        return self._stream

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Disturbance):
            return NotImplemented
        return type(self) is type(other) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_dict(), sort_keys=True))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.parameters.items())
        return f"{type(self).__name__}({arguments})"
