"""Families with a memory, for the tests only: they show that the base carries more than white noise."""

from __future__ import annotations

from collections import deque

import numpy as np

from lipsrl.disturbances import Disturbance, DisturbanceBatch, disturbance_from_dict
from lipsrl.disturbances._additive import add_noise
from lipsrl.disturbances._draws import Draws
from lipsrl.disturbances._parameters import nonnegative_number
from lipsrl.disturbances._seeding import child, seed_sequence


class Walk(Disturbance):
    """A random walk that starts at zero in every episode (as drift would)."""

    name = "test-walk"

    def __init__(self, std):
        self.std = nonnegative_number("std", std)

    @property
    def parameters(self):
        return {"std": self.std}

    def scaled(self, strength):
        return Walk(self.std * nonnegative_number("strength", strength))

    def batch(self, n):
        return _WalkBatch(self, n)


class _WalkBatch(DisturbanceBatch):
    def __init__(self, disturbance, n):
        super().__init__(disturbance, n)
        self._normals = Draws(n, "standard_normal")
        self._std = np.full((n, 1), disturbance.std)
        self._position = None

    def _seed(self, index, sequence):
        self._normals.seed(index, sequence)

    def _configure(self, index, parameters):
        self._std[index] = parameters["std"]

    def _begin(self, indices, observations):
        if self._position is None:
            self._position = np.zeros((self.n, observations.shape[1]))
        self._position[indices] = 0.0

    def _apply(self, observations, rows):
        self._position[rows] += self._normals.next(rows, observations.shape[1])
        return add_noise(observations, self._std[rows] * self._position[rows], self._std[rows] > 0)


class Lag(Disturbance):
    """The observation of ``steps`` steps ago; the first one until the queue is full (as a delay would)."""

    name = "test-lag"

    def __init__(self, steps):
        self.steps = round(nonnegative_number("steps", steps))

    @property
    def parameters(self):
        return {"steps": self.steps}

    def scaled(self, strength):
        return Lag(self.steps * nonnegative_number("strength", strength))

    def batch(self, n):
        return _LagBatch(self, n)


class _LagBatch(DisturbanceBatch):
    def __init__(self, disturbance, n):
        super().__init__(disturbance, n)
        self._steps = [disturbance.steps] * n
        self._queues = [deque() for _ in range(n)]

    def _seed(self, index, sequence):
        pass  # nothing is random

    def _configure(self, index, parameters):
        self._steps[index] = parameters["steps"]

    def _begin(self, indices, observations):
        for index, first in zip(indices, observations, strict=True):
            self._queues[index] = deque([first.copy()] * self._steps[index])

    def _apply(self, observations, rows):
        delayed = []
        for index, observation in zip(np.arange(self.n)[rows], observations, strict=True):
            self._queues[index].append(observation.copy())
            delayed.append(self._queues[index].popleft())
        return np.array(delayed, dtype=observations.dtype).reshape(observations.shape)


class Chain(Disturbance):
    """Several disturbances, one after the other (as a composition would)."""

    name = "test-chain"

    def __init__(self, parts):
        self.parts = tuple(parts)

    @property
    def parameters(self):
        return {"parts": [part.to_dict() for part in self.parts]}

    @property
    def dimension(self):
        return next((p.dimension for p in self.parts if p.dimension is not None), None)

    @classmethod
    def from_parameters(cls, parameters):
        return cls(map(disturbance_from_dict, parameters["parts"]))

    def scaled(self, strength):
        return Chain(part.scaled(strength) for part in self.parts)

    def batch(self, n):
        return _ChainBatch(self, n)

    def __repr__(self):
        return f"Chain(parts={self.parts!r})"


class _ChainBatch(DisturbanceBatch):
    def __init__(self, disturbance, n):
        super().__init__(disturbance, n)
        self._parts = [part.batch(n) for part in disturbance.parts]

    def reset(self, index, seed=None, strength=1.0):
        super().reset(index, seed, strength)
        for key, part in enumerate(self._parts):
            part.reset(index, None if seed is None else child(seed_sequence(seed), key), strength)

    def _seed(self, index, sequence):
        pass  # the parts are reset one by one, each with a child of the seed

    def _configure(self, index, parameters):
        pass

    def _apply(self, observations, rows):
        for part in self._parts:
            observations = part(observations, None if isinstance(rows, slice) else rows)
        return observations


FAMILIES = (Walk, Lag, Chain)
