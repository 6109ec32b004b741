"""What is asked of an agent before it may run a machine: the numbers, to be set by who knows the machine."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from lipsrl._validation import is_real


@dataclass(frozen=True)
class Limits:
    """Thresholds. The defaults are a start; none of them knows your machine.

    Attributes:
        max_move: proven: how far an actuator may move while every sensor is off by up to its tolerance, as a share of
            the actuator's range.
        max_chatter: mean change of the action per step in white noise of one tolerance, as a share of the range.
        min_kept: share of the clean return, above that of random actions, that is kept under each sensor fault.
        min_kept_attacked: the same under the worst attack inside the tolerances.
        min_return: clean return; None: only that it is above that of random actions.

    Raises:
        ValueError: a number that is not finite, or outside of its range.
    """

    max_move: float = 0.5
    max_chatter: float = 0.05
    min_kept: float = 0.9
    min_kept_attacked: float = 0.8
    min_return: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name == "min_return" and value is None:
                continue
            if not is_real(value) or not math.isfinite(value) or (name != "min_return" and value < 0):
                raise ValueError(f"{name} must be a finite number >= 0, received {value!r}.")
        for name in ("min_kept", "min_kept_attacked"):
            if getattr(self, name) > 1:
                raise ValueError(
                    f"{name} is a share of the clean return, at most 1; received {getattr(self, name)!r}."
                )
