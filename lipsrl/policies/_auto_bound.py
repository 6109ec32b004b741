"""What a search for K found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AutoBound:
    """What was found.

    Attributes:
        bound: K at the end of training.
        low, high: between which K was for 95 % of the last third of the search.
        target: the training return that had to be kept.
        floor: below which K was not to go; 0 if none was given.
        at_floor: whether the search tried to.
    """

    bound: float
    low: float
    high: float
    target: float
    floor: float
    at_floor: bool

    def __str__(self) -> str:
        text = f"K = {self.bound:.3g} [{self.low:.3g}, {self.high:.3g}], for a training return of {self.target:.4g}"
        return text + (f"; held up by the floor {self.floor:.3g}" if self.at_floor else "")
