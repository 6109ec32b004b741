"""Weights of losses: numbers, schedules, and dual variables that find a weight for a target."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from lipsrl._validation import non_negative

#: A number ≥ 0; (start, end), linear over the training; or a function of the remaining progress from 1 to 0, as SB3's
#: learning rates are.
Weight: TypeAlias = float | tuple[float, float] | Callable[[float], float]

#: Where a dual variable starts that was given no weight.
DUAL_START = 0.01

#: How far it may go.
DUAL_RANGE = (1e-6, 1e3)

#: Largest change of its logarithm per update.
DUAL_RATE = 0.01


def check_weight(name: str, value: Any) -> Weight:
    """``value`` as a :data:`Weight`.

    Raises:
        ValueError: it is none.
    """
    if callable(value):
        scheduled: Callable[[float], float] = value
        return scheduled
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(
                f"{name} must be a number >= 0, a pair (start, end) or a function of the remaining progress; "
                f"received {len(value)} values: {value!r}."
            )
        return (non_negative(f"{name}[0]", value[0]), non_negative(f"{name}[1]", value[1]))
    return non_negative(name, value)


def weight_at(name: str, weight: Weight, progress_remaining: float) -> float:
    """``weight`` at a remaining progress from 1 (start of the training) to 0 (its end).

    Raises:
        ValueError: a function returned no number ≥ 0.
    """
    if callable(weight):
        return non_negative(f"what the schedule of {name} returned", weight(progress_remaining))
    if isinstance(weight, tuple):
        start, end = weight
        return start + (end - start) * (1.0 - progress_remaining)
    return weight


@dataclass
class Dual:
    """A weight λ ≥ 0 that grows while a measured value is above its target and shrinks while it is below.

    The dual variable of "minimise the agent's loss subject to measure ≤ target" (Lagrangian relaxation), in its
    logarithm, as SAC's entropy coefficient: ``log λ ← log λ + rate · clip(measure / target - 1, -1, 1)``.

    Attributes:
        name: of the loss, for warnings.
        target: > 0, in the unit of the measure.
        value: λ.
    """

    name: str
    target: float
    value: float = DUAL_START
    warned: bool = False

    def update(self, measure: float) -> None:
        """One step; says so once where the target is out of reach."""
        error = min(max(measure / self.target - 1.0, -1.0), 1.0)
        low, high = DUAL_RANGE
        self.value = min(max(self.value * math.exp(DUAL_RATE * error), low), high)
        if self.value == high and not self.warned:
            self.warned = True
            warnings.warn(
                f"{self.name}: the target {self.target:g} is out of reach: the weight has grown to {high:g} and the "
                f"measured value is still {measure:.3g}. Ask for a larger target, or bound the slope: lipschitz_bound.",
                stacklevel=2,
            )
