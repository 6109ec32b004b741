"""Many streams of one attack at once."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lipsrl.actors.view import Shown, View
from lipsrl.attacks._norms import FloatArray
from lipsrl.attacks._target import Target
from lipsrl.disturbances import DisturbanceBatch
from lipsrl.disturbances._batch import Process
from lipsrl.disturbances._draws import Draws, Rows


class Attacking(Process, Protocol):
    """What a batch asks of the attack that it is of; an ``Attack`` answers it."""

    target: Target | None
    epsilon: float
    reference: str

    def noise_shape(self, dim: int) -> tuple[int, int]:
        """How many standard normals a step consumes."""

    def displacements(
        self,
        observations: FloatArray,
        epsilon: FloatArray,
        noise: FloatArray,
        past: FloatArray,
        unmoved: FloatArray | None = None,
    ) -> FloatArray:
        """Where to move."""


class AttackBatch(DisturbanceBatch):
    """``n`` streams, each with its own generator and its own radius; the attack itself sees all rows at once.

    A stream remembers what it has shown of the episode to a policy that sees stacked frames.
    """

    disturbance: Attacking

    def __init__(self, attack: Attacking, n: int) -> None:
        if attack.target is None:
            raise ValueError(
                f"{attack!r} has no target model. Pass model=, or use attack.against(model, vec_normalize). "
                "lipsrl.evaluate sets the target for each model that it evaluates."
            )
        super().__init__(attack, n)
        self._view: View = attack.target.view
        self._shown = Shown(self._view, self.n)
        keeps = attack.reference == "clean" and self._view.frames > 1
        self._unmoved = Shown(self._view, self.n) if keeps else None
        self._normals = Draws(self.n, "standard_normal")
        self._epsilon = np.full((self.n, 1), attack.epsilon)

    def _seed(self, index: int, sequence: np.random.SeedSequence) -> None:
        self._normals.seed(index, sequence)

    def _configure(self, index: int, parameters: dict[str, Any]) -> None:
        self._epsilon[index] = parameters["epsilon"]

    def _begin(self, indices: NDArray[np.intp], observations: FloatArray) -> None:
        self._shown.begin(indices)
        if self._unmoved is not None:
            self._unmoved.begin(indices)

    def _apply(self, observations: FloatArray, rows: Rows) -> FloatArray:
        # drawn at radius 0 too: a stream consumes the same draws at every strength
        blocks, numbers = self.disturbance.noise_shape(observations.shape[1])
        noise = np.empty((blocks, len(observations), numbers))
        for block in noise:
            block[:] = self._normals.next(rows, numbers)
        attacked = observations.copy()
        epsilon, past = self._epsilon[rows], self._shown.past(rows)
        moving = (epsilon[:, 0] > 0) & np.isfinite(observations).all(axis=1) & np.isfinite(past).all(axis=1)
        if moving.any():
            clean = observations[moving]
            more = {} if self._unmoved is None else {"unmoved": self._unmoved.past(rows)[moving]}
            moves = self.disturbance.displacements(
                clean, epsilon[moving], noise[:, moving], past[moving], **more
            )
            attacked[moving] = self._view.displaced(clean, moves)
        self._shown.show(attacked, rows)
        if self._unmoved is not None:
            self._unmoved.show(observations, rows)
        return attacked
