"""The return that an agent has to keep, and how much of it is noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

#: Evaluations from which the noise of learning is measured, and how many newest make the return that has to be kept:
#: the best of single ones is the luckiest.
MEASURED, TOGETHER = 15, 5

#: Share of what was learned that may be given up: the noise of learning, but no less and no more than this.
LEAST, MOST = 0.001, 0.01


def reference(returns: Sequence[float]) -> float:
    """The return that counts as the agent's own."""
    return float(np.mean(returns[-TOGETHER:]))


def noise_share(returns: Sequence[float], learned: float) -> float | None:
    """Standard deviation of one evaluation, as a share of ``learned``; ``None``: too few to say.

    From successive differences, of which what is learned meanwhile hardly is a part (von Neumann et al., The Mean
    Square Successive Difference, 1941).
    """
    if len(returns) <= TOGETHER:
        return None
    noise = math.sqrt(float(np.mean(np.diff(returns) ** 2)) / 2)
    return min(max(noise / learned, LEAST), MOST)
