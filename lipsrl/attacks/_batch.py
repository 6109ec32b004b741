"""Many streams of one attack at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lipsrl.actors.view import View
from lipsrl.attacks._norms import FloatArray
from lipsrl.disturbances import DisturbanceBatch
from lipsrl.disturbances._draws import Draws, Rows

if TYPE_CHECKING:
    from lipsrl.attacks._base import Attack


class AttackBatch(DisturbanceBatch):
    """``n`` streams, each with its own generator and its own radius; the attack itself sees all rows at once."""

    disturbance: Attack

    def __init__(self, attack: Attack, n: int) -> None:
        if attack.target is None:
            raise ValueError(
                f"{attack!r} is aimed at no model. Give it one, or let lipsrl.evaluate aim it at each model that "
                "it evaluates; attack.against(model, vec_normalize) does it by hand."
            )
        super().__init__(attack, n)
        self._view: View = attack.target.view
        self._normals = Draws(self.n, "standard_normal")
        self._epsilon = np.full((self.n, 1), attack.epsilon)

    def _seed(self, index: int, sequence: np.random.SeedSequence) -> None:
        self._normals.seed(index, sequence)

    def _configure(self, index: int, parameters: dict[str, Any]) -> None:
        self._epsilon[index] = parameters["epsilon"]

    def _apply(self, observations: FloatArray, rows: Rows) -> FloatArray:
        # drawn at radius 0 too: a stream consumes the same draws at every strength
        blocks, numbers = self.disturbance.noise_shape(observations.shape[1])
        noise = np.empty((blocks, len(observations), numbers))
        for block in noise:
            block[:] = self._normals.next(rows, numbers)
        attacked = observations.copy()
        epsilon = self._epsilon[rows]
        moving = (epsilon[:, 0] > 0) & np.isfinite(observations).all(axis=1)
        if moving.any():
            clean = observations[moving]
            displacements = self.disturbance.displacements(clean, epsilon[moving], noise[:, moving])
            attacked[moving] = self._view.displaced(clean, displacements)
        return attacked
