"""Several disturbances in a row, as a signal chain has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lipsrl.disturbances._base import Disturbance
from lipsrl.disturbances._batch import DisturbanceBatch
from lipsrl.disturbances._draws import FloatArray, Rows
from lipsrl.disturbances._parts import InParts, read_parts
from lipsrl.disturbances._registry import register
from lipsrl.disturbances._seeding import Seed, child, seed_sequence


@register
class Compose(InParts):
    """The first disturbance acts on the true observation, each further one on what the one before it made.

    In the order of a signal chain, from the physical quantity to the policy: noise, then quantisation, then
    delay. Part ``i`` draws from child ``i`` of the seed, so that parts of one family differ. A strength
    multiplies that of every part.

    Args:
        disturbances: one or more, or their ``to_dict()``; they are copied.

    Raises:
        ValueError: no disturbance, something else, or parts for observations of different lengths.

    Example:
        >>> import numpy as np
        >>> from lipsrl.disturbances import Delay, GaussianNoise, Quantization
        >>> sensor = Compose([GaussianNoise(0.1), Quantization(0.5), Delay(1)])
        >>> sensor.reset(seed=0)
        >>> sensor(np.zeros(2)).tolist()
        [0.0, 0.0]
        >>> sensor.scaled(2.0)
        Compose([GaussianNoise(std=0.2), Quantization(step=1.0), Delay(steps=2.0)])
    """

    name = "compose"

    def __init__(self, disturbances: Sequence[Disturbance | Mapping[str, Any]]) -> None:
        self.disturbances = read_parts(disturbances)

    @property
    def parameters(self) -> dict[str, Any]:
        return {"disturbances": [part.to_dict() for part in self.disturbances]}

    def with_parts(self, parts: Sequence[Disturbance]) -> Compose:
        return Compose(parts)

    def batch(self, n: int) -> DisturbanceBatch:
        return _ComposeBatch(self, n)

    def __repr__(self) -> str:
        return f"Compose([{', '.join(map(repr, self.disturbances))}])"


class _ComposeBatch(DisturbanceBatch):
    def __init__(self, disturbance: Compose, n: int) -> None:
        super().__init__(disturbance, n)
        self._parts = [part.batch(n) for part in disturbance.disturbances]

    def reset(self, index: int, seed: Seed | None = None, strength: float = 1.0) -> None:
        super().reset(index, seed, strength)
        for key, part in enumerate(self._parts):
            part.reset(index, None if seed is None else child(seed_sequence(seed), key), strength)

    def _seed(self, index: int, sequence: np.random.SeedSequence) -> None:
        return  # the parts are seeded one by one, in reset

    def _configure(self, index: int, parameters: dict[str, Any]) -> None:
        return  # and configured there

    def _apply(self, observations: FloatArray, rows: Rows) -> FloatArray:
        indices = None if isinstance(rows, slice) else rows
        for part in self._parts:
            observations = part(observations, indices)
        return observations
