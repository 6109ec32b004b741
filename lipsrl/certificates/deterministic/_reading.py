"""An agent and the units that it is certified in: read once, handed on to all that is said about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lipsrl._validation import positive_finite
from lipsrl.actors.pipeline import Pipeline
from lipsrl.networks import scale_vector


@dataclass(frozen=True, eq=False)
class Reading:
    """One certificate's question.

    Attributes:
        pipeline: raw observation → action, of the agent.
        norm: of both sides.
        unit: (obs,) float64, that a change of each raw coordinate is measured in.
    """

    pipeline: Pipeline
    norm: str
    unit: np.ndarray

    @classmethod
    def of(cls, pipeline: Pipeline, norm: str, sensor_scale: Any) -> Reading:
        """``sensor_scale`` as in :func:`lipsrl.certify`.

        Raises:
            ValueError: it is of another size or not positive.
        """
        return cls(pipeline, norm, _sensor_scale(sensor_scale, pipeline))

    @cached_property
    def units(self) -> Tensor:
        """:attr:`unit` as a tensor."""
        return torch.as_tensor(self.unit)

    @property
    def stacked(self) -> float:
        """Largest norm of a stack of frames each of which is off by one unit."""
        return self.pipeline.frame_gain[self.norm]

    def by_sensor(self) -> tuple[float, ...]:
        """The unit of each sensor."""
        pipeline = self.pipeline
        return tuple(float(self.unit[np.argmax(pipeline.sensors == i)]) for i in range(len(pipeline.names)))


def _sensor_scale(value: Any, pipeline: Pipeline) -> np.ndarray:
    """(obs,) unit of each coordinate, float64."""
    size = len(pipeline.names)
    checked = scale_vector("sensor_scale", value, size)
    if checked is None:
        return np.ones(len(pipeline.gain))
    units = np.broadcast_to(np.asarray(value, dtype=np.float64).reshape(-1), (size,))
    each: np.ndarray = units[pipeline.sensors]
    return each


def balls(states: Any, radius: Any, pipeline: Pipeline) -> tuple[torch.Tensor, float] | None:
    """Checked centres and radius of the local bounds.

    Raises:
        ValueError: only one of the two was given, or they are out of range.
    """
    if (states is None) != (radius is None):
        raise ValueError(
            f"states and radius belong together: local bounds hold in a ball around each state. Received "
            f"states={'None' if states is None else 'an array'}, radius={radius!r}."
        )
    if states is None:
        return None
    centres = np.asarray(states, dtype=np.float64)
    size = len(pipeline.gain)
    if centres.ndim == 1:
        centres = centres.reshape(1, -1)
    centres = centres.reshape(len(centres), int(np.prod(centres.shape[1:])))
    if centres.shape[1] != size or not len(centres) or not np.isfinite(centres).all():
        raise ValueError(
            f"states must be finite raw observations of shape (n, {size}), received shape {np.shape(states)}."
        )
    return torch.as_tensor(centres), positive_finite("radius", radius)
