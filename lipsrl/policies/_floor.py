"""K below which no controller can do the task, as a number or as a function of the model."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

from stable_baselines3.common.base_class import BaseAlgorithm

from lipsrl._validation import non_negative


class Floor:
    """The floor of a search for K.

    Args:
        given: a number, or a function of the model, for units that change while it learns.

    Attributes:
        value: in the policy's units, the newest where it is a function; 0 before it was asked for.
        moves: whether it is a function.

    Raises:
        ValueError: no number >= 0.
    """

    def __init__(self, given: float | Callable[[BaseAlgorithm], float]) -> None:
        self._of = given if callable(given) else None
        self.moves = callable(given)
        self.value = 0.0 if callable(given) else non_negative("floor", given)
        self._told = False

    @property
    def asked(self) -> float | str:
        """What makes a search with it another one."""
        return "a function" if self.moves else self.value

    def begin(self, model: BaseAlgorithm) -> None:
        """Before there are statistics of VecNormalize it is in other units, and unknown.

        Raises:
            ValueError: a function that does not give a number >= 0, before hours of training.
        """
        if self._of is not None:
            given = non_negative("floor", float(self._of(model)))
            self.value = given if model.get_vec_normalize_env() is None else 0.0

    def ask(self, model: BaseAlgorithm) -> float:
        """The floor as it is now; warns, once, where the function gives none, and keeps the one before."""
        if self._of is None:
            return self.value
        now = float(self._of(model))
        if math.isfinite(now) and now >= 0:
            self.value = now
        elif not self._told:
            self._told = True
            text = f"floor gave {now}, which is no K; the search keeps the floor before, {self.value:g}."
            warnings.warn(text, UserWarning, stacklevel=2)
        return self.value
