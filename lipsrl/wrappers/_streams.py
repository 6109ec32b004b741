"""One stream of a disturbance per environment, its seed and its strength in each episode."""

from __future__ import annotations

from typing import Any

import numpy as np

from lipsrl.disturbances import Disturbance
from lipsrl.disturbances._batch import Indices
from lipsrl.disturbances._draws import FloatArray
from lipsrl.disturbances._seeding import child
from lipsrl.wrappers._checks import own_seed
from lipsrl.wrappers._strength import Strength, check_strength, draw

# Spawn keys far from any spawn. Sensors and actuators are reset with the same seed and must not draw the same.
_ACTION_KEY = 0x61637475
_STRENGTH_KEY = 0x73747265


class EpisodeStreams:
    """The streams of ``n`` environments.

    A seeded reset restarts a stream: from its own seed if it has one, otherwise from that of the reset. An
    unseeded reset starts an episode and goes on with the draws.

    Args:
        disturbance: the streams are copies.
        n: number of environments.
        seed: environment ``i`` has ``seed + i``; None: the seeds of the resets count.
        strength: of the episodes; see ``Strength``.
        actuator: the streams differ from those of a sensor with the same seed.

    Attributes:
        n: number of environments.
        strengths: ``(n,)``, of the current episodes.
        progress: of training, 0 … 1; what a schedule is asked for at the start of every episode.
    """

    def __init__(
        self, disturbance: Disturbance, n: int, seed: int | None, strength: Strength, actuator: bool = False
    ) -> None:
        seed = own_seed(seed)
        self.n = n
        self._own = [None if seed is None else seed + index for index in range(n)]
        self._strength = check_strength(strength)
        self._actuator = actuator
        self._generators = [np.random.default_rng() for _ in range(n)]
        self._streams = disturbance.batch(n)
        self.strengths = np.ones(n)
        self.progress = 0.0
        for index, own in enumerate(self._own):
            self._start(index, own)

    def begin(self, index: int, reset_seed: int | None = None) -> None:
        """An episode begins in environment ``index``, which was reset with ``reset_seed``."""
        own = self._own[index]
        self._start(index, reset_seed if own is None or reset_seed is None else own)

    def __call__(self, values: FloatArray, indices: Indices | None = None) -> FloatArray:
        """One step of all streams, or of those in ``indices``; see ``DisturbanceBatch``."""
        return self._streams(values, indices)

    def _start(self, index: int, seed: int | None) -> None:
        sequence: np.random.SeedSequence | None = None
        if seed is not None:
            sequence = np.random.SeedSequence(int(seed))
            if self._actuator:
                sequence = child(sequence, _ACTION_KEY)
            self._generators[index] = np.random.default_rng(child(sequence, _STRENGTH_KEY))
        self.strengths[index] = draw(self._strength, self.progress, self._generators[index])
        self._streams.reset(index, sequence, self.strengths[index])


def recorded(disturbance: Disturbance, **others: Any) -> dict[str, Any]:
    """A constructor's arguments for ``RecordConstructorArgs``: as a dictionary they survive ``to_json``."""
    return {"disturbance": disturbance.to_dict(), **others}
