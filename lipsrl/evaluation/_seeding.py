"""Where every random number of an evaluation comes from: its seed, the episode, and the kind of draw.

Nothing depends on how many models, strengths or episodes there are, nor on the order in which they run. So
every model meets the same episodes, every strength scales the same draws, and a longer evaluation extends a
shorter one.
"""

from __future__ import annotations

import numbers
import zlib

import numpy as np

# the first entry of each spawn key, so that the three kinds of draws are independent
_ENVIRONMENT, _DISTURBANCE, _SENSITIVITY = range(3)


def check_seed(seed: object, argument: str = "seed") -> int:
    """``seed`` as an int if it is an integer >= 0; otherwise ``ValueError``."""
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or seed < 0:
        raise ValueError(f"{argument} must be an integer >= 0, received {seed!r}.")
    return int(seed)


def environment_seed(seed: int, episode: int) -> int:
    """What ``env.reset(seed=…)`` gets in this episode: 31 bits, so that any simulator's C int takes it."""
    sequence = np.random.SeedSequence(seed, spawn_key=(_ENVIRONMENT, episode))
    return int(sequence.generate_state(1)[0] >> 1)


def disturbance_seed(seed: int, family: str, episode: int) -> np.random.SeedSequence:
    """The stream of a disturbance family in this episode, the same for every model, strength and label."""
    return np.random.SeedSequence(seed, spawn_key=(_DISTURBANCE, zlib.crc32(family.encode()), episode))


def sensitivity_seed(seed: int, episode: int) -> np.random.SeedSequence:
    """The displacements by which action sensitivity is measured in this episode."""
    return np.random.SeedSequence(seed, spawn_key=(_SENSITIVITY, episode))
