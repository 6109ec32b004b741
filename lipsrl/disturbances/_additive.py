"""Adding noise to an observation, shared by every additive family."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lipsrl.disturbances._draws import FloatArray


def add_noise(
    observations: FloatArray, noise: FloatArray, active: NDArray[np.bool_] | None = None
) -> FloatArray:
    """``observations + noise`` as a fresh array with the dtype of ``observations``.

    The sum is taken in the wider of the two dtypes and rounded once.

    Args:
        observations: ``(n, dim)``.
        noise: ``(n, dim)`` or broadcast to it.
        active: where to add; None: everywhere. Elsewhere every bit stays (``-0.0 + 0.0`` would be ``0.0``).
    """
    disturbed = observations.copy()
    if active is None:
        np.add(disturbed, noise, out=disturbed, casting="same_kind")
    elif active.any():
        np.add(disturbed, noise, out=disturbed, where=active, casting="same_kind")
    return disturbed
