"""Where the random numbers of a disturbance come from: ``SeedSequence``, never an environment's generator."""

from __future__ import annotations

import numbers

import numpy as np

Seed = int | np.random.SeedSequence

# ``env.reset(seed=s)`` seeds the environment with the plain ``SeedSequence(s)``. A disturbance of the same
# seed must not replay those very bits: its sequence is a child of that one, under a key far from any spawn.
_DISTURBANCE_KEY = 0x6C697073


def child(sequence: np.random.SeedSequence, key: int) -> np.random.SeedSequence:
    """The child of ``sequence`` under ``key``; unlike ``sequence.spawn`` it leaves ``sequence`` as it was."""
    return np.random.SeedSequence(
        entropy=sequence.entropy,
        spawn_key=(*sequence.spawn_key, key),
        pool_size=sequence.pool_size,
    )


def seed_sequence(seed: Seed) -> np.random.SeedSequence:
    """The sequence from which a disturbance with this ``seed`` draws.

    Args:
        seed: an integer >= 0 or a ``SeedSequence`` (not modified); ``s`` means ``SeedSequence(s)``.

    Raises:
        ValueError: anything else.
    """
    if isinstance(seed, np.random.SeedSequence):
        return child(seed, _DISTURBANCE_KEY)
    if isinstance(seed, bool | np.bool_) or not isinstance(seed, numbers.Integral) or seed < 0:
        raise ValueError(
            f"seed must be None, an integer >= 0 or a numpy SeedSequence, "
            f"received {seed!r} of type {type(seed).__name__}."
        )
    return child(np.random.SeedSequence(int(seed)), _DISTURBANCE_KEY)
