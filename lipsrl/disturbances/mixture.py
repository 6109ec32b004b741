"""One of several disturbances in every episode: what a controller should be ready for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lipsrl.disturbances._base import Disturbance
from lipsrl.disturbances._batch import DisturbanceBatch
from lipsrl.disturbances._draws import FloatArray, Rows
from lipsrl.disturbances._parameters import nonnegative
from lipsrl.disturbances._parts import InParts, read_parts
from lipsrl.disturbances._registry import register
from lipsrl.disturbances._seeding import Seed, child, seed_sequence


@register
class Mixture(InParts):
    """One of the parts per episode, drawn anew at each reset; it alone acts until the next.

    The choice is drawn from child 0 of the seed, part ``i`` draws from child ``i + 1``; neither depends on the
    strength, which multiplies that of every part. Attacks may be among the parts.

    Args:
        disturbances: one or more, or their ``to_dict()``; they are copied.
        weights: how often each is drawn, relative to their sum; finite, >= 0, not all 0. None: equally often.

    Raises:
        ValueError: no disturbance, something else, parts for observations of different lengths, or weights out of
            range or not one per part.

    Example:
        >>> import numpy as np
        >>> from lipsrl.disturbances import Bias, GaussianNoise
        >>> mixture = Mixture([GaussianNoise(0.1), Bias(0.2)], weights=[3, 1])
        >>> mixture.reset(seed=2)
        >>> bool((mixture(np.zeros(2)) == mixture(np.zeros(2))).all())  # in this episode the bias
        True
        >>> mixture.scaled(2.0)
        Mixture([GaussianNoise(std=0.2), Bias(std=0.4)], weights=(3.0, 1.0))
    """

    name = "mixture"

    def __init__(
        self,
        disturbances: Sequence[Disturbance | Mapping[str, Any]],
        weights: Sequence[float] | NDArray[np.floating[Any]] | None = None,
    ) -> None:
        self.disturbances = read_parts(disturbances)
        n = len(self.disturbances)
        try:
            given = nonnegative("weights", [1.0] * n if weights is None else weights)
        except ValueError:  # its words are of observation dimensions
            given = ()
        if not isinstance(given, tuple) or len(given) != n or not sum(given) > 0:
            raise ValueError(
                f"weights must be {n} finite numbers >= 0, one per disturbance and not all 0, received {weights!r}."
            )
        self.weights = given

    @property
    def parameters(self) -> dict[str, Any]:
        return {"disturbances": [part.to_dict() for part in self.disturbances], "weights": self.weights}

    def with_parts(self, parts: Sequence[Disturbance]) -> Mixture:
        return Mixture(parts, self.weights)

    def batch(self, n: int) -> DisturbanceBatch:
        return _MixtureBatch(self, n)

    def __repr__(self) -> str:
        parts = ", ".join(map(repr, self.disturbances))
        return f"Mixture([{parts}], weights={self.weights!r})"


class _MixtureBatch(DisturbanceBatch):
    def __init__(self, disturbance: Mixture, n: int) -> None:
        super().__init__(disturbance, n)
        self._parts = [part.batch(n) for part in disturbance.disturbances]
        self._weights = np.array(disturbance.weights) / sum(disturbance.weights)
        self._choosers: list[np.random.Generator | None] = [None] * n
        self._chosen = np.array([self._draw(index) for index in range(n)], dtype=np.intp)

    def reset(self, index: int, seed: Seed | None = None, strength: float = 1.0) -> None:
        super().reset(index, seed, strength)
        if seed is not None:
            self._choosers[index] = np.random.default_rng(child(seed_sequence(seed), 0))
        self._chosen[index] = self._draw(index)
        for key, part in enumerate(self._parts):  # those too that a later reset without a seed may choose
            part.reset(index, None if seed is None else child(seed_sequence(seed), key + 1), strength)

    def _draw(self, index: int) -> int:
        chooser = self._choosers[index]
        if chooser is None:  # never seeded: entropy of the operating system
            chooser = self._choosers[index] = np.random.default_rng()
        return int(chooser.choice(len(self._weights), p=self._weights))

    def _seed(self, index: int, sequence: np.random.SeedSequence) -> None:
        return  # the chooser and the part that it chooses are seeded in reset

    def _configure(self, index: int, parameters: dict[str, Any]) -> None:
        return  # so is the part's strength

    def _apply(self, observations: FloatArray, rows: Rows) -> FloatArray:
        indices = np.arange(self.n)[rows]
        chosen = self._chosen[indices]
        disturbed = observations.copy()
        for part in np.unique(chosen):
            here = chosen == part
            disturbed[here] = self._parts[part](observations[here], indices[here])
        return disturbed
