from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lipsrl.metrics._action_sensitivity import action_sensitivity


def sensor_sensitivity(
    policy: Callable[[NDArray[np.floating]], ArrayLike],
    states: ArrayLike,
    *,
    std: ArrayLike,
    seed: int = 0,
    draws: int = 1,
) -> NDArray[np.float64]:
    """`action_sensitivity` of each sensor alone: ``E‖μ(s + δ·e_i) − μ(s)‖₂ / |δ|`` for every sensor i.

    Which sensor's noise moves the action most, per unit of that sensor. For a linear policy W it is the norm of
    column i of W, exactly.

    Args:
        policy, states, draws: as of `action_sensitivity`; the policy is called once for each sensor.
        std: standard deviation of δ, one number for all sensors or one per sensor, >= 0, not all zero.
        seed: of the draws; the same ones, scaled, for every sensor.

    Returns:
        ``(dim,)``, action units per unit of the sensor, l2 over channels; ``nan`` for a sensor of std 0.

    Raises:
        ValueError: as `action_sensitivity`.

    Example:
        >>> import numpy as np
        >>> from lipsrl.metrics import sensor_sensitivity
        >>> states = np.random.default_rng(0).normal(size=(100, 2))
        >>> sensor_sensitivity(lambda s: s @ np.array([[3.0], [0.5]]), states, std=0.01).round(6).tolist()
        [3.0, 0.5]
    """
    array = np.asarray(states)
    scale = np.asarray(std, dtype=np.float64)
    if array.ndim != 2 or scale.shape not in ((), (array.shape[1],)) or not scale.any():
        # which of the two it is, action_sensitivity says
        action_sensitivity(policy, states, std=std, seed=seed, draws=draws)
    dim = array.shape[1]
    scales = np.diag(np.broadcast_to(scale, dim))
    sensitivities = np.full(dim, np.nan)
    for sensor in np.flatnonzero(np.broadcast_to(scale, dim)):
        sensitivities[sensor] = action_sensitivity(policy, array, std=scales[sensor], seed=seed, draws=draws)
    return sensitivities
