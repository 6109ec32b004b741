"""The return that an agent has to keep, and how much of it is noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

#: Evaluations from which the noise of learning is measured.
MEASURED = 15

#: So many newest evaluations make the return that has to be kept (the best of single ones is the luckiest), but none
#: that is older than this share of the training.
TOGETHER, OLDEST = 5, 0.08

#: Share of what was learned that may be given up: so many standard deviations of an evaluation (the target rises with
#: the best mean, and that lies above what is usual by a part of one), but no less and no more than this.
DEVIATIONS, LEAST, MOST = 2.0, 0.001, 0.01


def reference(evaluations: Sequence[Sequence[float]]) -> float:
    """The return that counts as the agent's own, of (share of the training, return): the mean of the newest.

    Not their median: returns that jump between two values, as Pendulum's with one more swing, have the upper one.
    """
    newest = evaluations[-1][0]
    return float(np.mean([value for when, value in evaluations[-TOGETHER:] if when >= newest - OLDEST]))


def noise_share(evaluations: Sequence[Sequence[float]], learned: float) -> float | None:
    """What may be given up for the noise of evaluations, as a share of ``learned``; ``None``: too few to say.

    The standard deviation of one evaluation is from successive differences, of which what is learned meanwhile hardly
    is a part (von Neumann et al., The Mean Square Successive Difference, 1941).
    """
    if len(evaluations) <= TOGETHER:
        return None
    noise = math.sqrt(float(np.mean(np.diff([value for _, value in evaluations]) ** 2)) / 2)
    return min(max(DEVIATIONS * noise / learned, LEAST), MOST)
