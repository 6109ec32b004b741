"""The scale of each sensor, from the observations that a task has shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lipsrl.disturbances._draws import FloatArray


class ObservationStatistics:
    """Running mean and variance of each sensor, exact in one pass (Chan, Golub and LeVeque 1979, eq. 2.1).

    Attributes:
        count: observations seen.
        mean, var: ``(dim,)`` float64, the population's (divided by ``count``).

    Example:
        >>> import numpy as np
        >>> from lipsrl.disturbances import GaussianNoise
        >>> seen = ObservationStatistics()
        >>> seen.update(np.array([[0.0, 10.0], [2.0, 30.0]]))
        >>> seen.update(np.array([1.0, 20.0]))
        >>> seen.mean.tolist(), seen.count
        ([1.0, 20.0], 3)
        >>> GaussianNoise(0.1).scale_by_std(seen).std == tuple(0.1 * seen.std)
        True
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: NDArray[np.float64] = np.zeros(0)
        self.var: NDArray[np.float64] = np.zeros(0)

    @property
    def std(self) -> NDArray[np.float64]:
        """``(dim,)``: the standard deviation of each sensor."""
        return np.sqrt(self.var)

    def update(self, observations: FloatArray) -> None:
        """Count one observation ``(dim,)`` or several ``(n, dim)``.

        Raises:
            ValueError: another shape or length than before, or a value that is not finite.
        """
        rows = np.atleast_2d(np.asarray(observations, dtype=np.float64))
        if rows.ndim != 2 or not rows.size or (self.count and rows.shape[1] != self.mean.size):
            raise ValueError(
                f"observations must have shape ({self.mean.size or 'dim'},) or (n, {self.mean.size or 'dim'}), "
                f"received {np.shape(observations)}. Flatten them first."
            )
        if not np.isfinite(rows).all():
            raise ValueError("observations must be finite, received NaN or an infinity.")
        n, mean, var = len(rows), rows.mean(axis=0), rows.var(axis=0)
        if not self.count:
            self.count, self.mean, self.var = n, mean, var
            return
        total = self.count + n
        delta = mean - self.mean
        self.var = (self.count * self.var + n * var + delta**2 * (self.count * n / total)) / total
        self.mean = self.mean + delta * (n / total)
        self.count = total


def sensor_std(statistics: Any) -> tuple[float, ...]:
    """The standard deviation of each sensor.

    Args:
        statistics: standard deviations, one per observation dimension; a mapping with ``"std"``; an
            :class:`ObservationStatistics`; a ``VecNormalize`` or ``NormalizeObservation``, or its ``obs_rms``
            (anything with an array ``var``). Observations with several axes count in C order.

    Raises:
        ValueError: something else, statistics of fewer than two observations, or a value that is negative or
            not finite.
    """
    source = getattr(statistics, "obs_rms", statistics)
    if getattr(source, "count", None) is not None and not callable(source.count) and source.count < 2:
        raise ValueError(
            f"{statistics!r} has seen {source.count:g} observations: there is no standard deviation yet. Run "
            "the task first."
        )
    values: Any = getattr(source, "var", None)
    if isinstance(values, np.ndarray) and (values >= 0).all():
        values = np.sqrt(values)
    elif isinstance(source, Mapping) and "std" in source:
        values = source["std"]
    else:
        values = source
    try:
        std = np.asarray(values, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        std = np.zeros(0)
    if not std.size or not (np.isfinite(std) & (std >= 0)).all():
        raise ValueError(
            "statistics must be one standard deviation >= 0 per observation dimension, or something that has "
            f"them (ObservationStatistics, a VecNormalize of vector observations), received {statistics!r}."
        )
    return tuple(map(float, std))
