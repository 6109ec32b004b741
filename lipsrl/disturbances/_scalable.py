"""What all families share whose strength multiplies one of their parameters."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from lipsrl.disturbances._base import Disturbance
from lipsrl.disturbances._parameters import nonnegative_number, times
from lipsrl.disturbances.statistics import sensor_std


class ScalableDisturbance(Disturbance):
    """A disturbance whose constructor takes exactly its :attr:`parameters`, one of which a strength multiplies."""

    multiplied: ClassVar[str]  #: the parameter that a strength multiplies
    in_sensor_units: ClassVar[bool] = True  #: whether that parameter is an amplitude in sensor units

    def scaled(self, strength: float) -> Self:
        return self._multiplied_by(nonnegative_number("strength", strength))

    def scale_by_std(self, statistics: Any) -> Self:
        return self._multiplied_by(sensor_std(statistics) if self.in_sensor_units else 1.0)

    def _multiplied_by(self, factor: float | tuple[float, ...]) -> Self:
        parameters = self.parameters
        parameters[self.multiplied] = times(parameters[self.multiplied], factor)
        return type(self)(**parameters)
