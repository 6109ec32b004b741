from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lipsrl.metrics._arrays import as_rows


def per_channel(
    metric: Callable[..., float], actions: ArrayLike, *limits: ArrayLike, **options: Any
) -> NDArray[Any]:
    """A metric of a sequence of actions, for each channel alone.

    Args:
        metric: `action_fluctuation`, `total_variation`, `jerk`, `spectral_smoothness`, `high_frequency_ratio` or
            `saturation`.
        actions: ``(T, channels)`` or ``(T,)``.
        limits: further positional arguments, numbers or one per channel: ``low`` and ``high`` of `saturation`.
        options: keyword arguments of the metric, the same for all channels.

    Returns:
        ``(channels,)``, in the metric's unit.

    Raises:
        ValueError: as the metric; or limits of another length.

    Example:
        >>> from lipsrl.metrics import per_channel, saturation, total_variation
        >>> per_channel(total_variation, [[0.0, 0.0], [3.0, 4.0], [3.0, 3.0]]).tolist()
        [3.0, 5.0]
        >>> per_channel(saturation, [[0.0, 0.0], [3.0, 4.0]], [-3.0, -9.0], [3.0, 9.0]).tolist()
        [0.5, 0.0]
    """
    rows = as_rows("actions", actions)
    channels = rows.shape[1]
    columns = []
    for limit in limits:
        values = np.asarray(limit, dtype=np.float64)
        if values.shape not in ((), (channels,)):
            raise ValueError(f"limits must be numbers or one per channel ({channels}), received {limit!r}.")
        columns.append(np.broadcast_to(values, channels))
    return np.array([metric(rows[:, i], *(c[i] for c in columns), **options) for i in range(channels)])
