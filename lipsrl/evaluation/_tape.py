"""What is kept of episodes while they run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Tape:
    """One growing array ``(slots, capacity, *shape)``; memory follows the longest episode, not their
    number."""

    def __init__(self, slots: int, shape: Sequence[int], dtype: Any) -> None:
        self._data = np.zeros((slots, 256, *shape), dtype=dtype)

    def write(self, slots: NDArray[np.intp], steps: NDArray[np.intp], values: NDArray[Any]) -> None:
        """Row ``i`` of ``values`` is step ``steps[i]`` of slot ``slots[i]``."""
        if steps.max() >= self._data.shape[1]:
            self._data = np.concatenate([self._data, np.zeros_like(self._data)], axis=1)
        self._data[slots, steps] = values

    def read(self, slot: int, length: int) -> NDArray[Any]:
        """The first ``length`` steps of a slot."""
        return self._data[slot, :length].copy()
