"""Which constant displacement of norm 1 is the worst: a search over patterns, each played."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from lipsrl.attacks._norms import FloatArray, Norm

#: Observations of at most so many numbers: every sign pattern is tried.
EXHAUSTIVE = 4

#: How many of the tried patterns are played again, in as many further episodes each, times those of the first look.
_FINALISTS, _AGAIN = 4, 3

#: (patterns (n, dim), seeds) → returns (n, len(seeds))
Play = Callable[[FloatArray, Sequence[int]], FloatArray]


def seeds_needed(episodes: int) -> int:
    """Of :func:`worst_pattern`."""
    return episodes * (1 + _AGAIN)


def worst_pattern(
    play: Play,
    ball: Norm,
    guesses: FloatArray,
    seeds: Sequence[int],
    *,
    candidates: int,
    episodes: int,
    rng: np.random.Generator,
) -> FloatArray:
    """(dim,) a point on the unit sphere of ``ball`` under which the mean return is lowest.

    The start: all sign patterns of at most four numbers; otherwise those along ``guesses`` and random ones. Then the
    coordinates of the worst one are turned one by one, then all turns that lowered the return together, and the
    direction in which their differences say that it falls; and so on from there, until nothing helps or ``candidates``
    have been tried. The worst four are played three times as long again.

    Args:
        guesses: (g, dim) directions worth a try, of any length.
        seeds: ``seeds_needed(episodes)`` of the environment, the same for all patterns.
    """
    dim = guesses.shape[1]
    first = guesses
    if dim <= EXHAUSTIVE:
        first = np.concatenate([np.array(list(itertools.product((1.0, -1.0), repeat=dim))), guesses])
        candidates = max(candidates, 2**dim)
    else:
        first = np.concatenate([guesses[: candidates // 3], rng.standard_normal((candidates // 3, dim))])
    tried = _Tried(play, ball, seeds[:episodes], candidates)
    tried.add(first)
    while True:
        centre, before = tried.worst()
        # one and a half: enough to turn the sign of a coordinate, and to turn a vector on the sphere by about a radian
        turns = centre + 1.5 * np.concatenate([np.eye(dim), -np.eye(dim)])
        returns = tried.add(rng.permutation(turns))
        moved = [(pattern - centre, before - value) for pattern, value in returns if np.isfinite(value)]
        together = [
            centre + sum(step for step, fall in moved if fall > 0),
            sum(fall * step for step, fall in moved),
        ]
        tried.add(np.stack([np.zeros(dim) + direction for direction in together]))
        if tried.worst()[1] >= before:
            break
    finalists = tried.lowest(_FINALISTS)
    further = play(np.stack([pattern for pattern, _ in finalists]), seeds[episodes:])
    means = [
        (episodes * value + total) / len(seeds)
        for (_, value), total in zip(finalists, further.sum(axis=1), strict=True)
    ]
    return finalists[int(np.argmin(means))][0]


class _Tried:
    """Patterns that were played, no two alike, at most ``most``."""

    def __init__(self, play: Play, ball: Norm, seeds: Sequence[int], most: int) -> None:
        self._play, self._ball, self._seeds, self._most = play, ball, seeds, most
        self._found: dict[bytes, tuple[FloatArray, float]] = {}

    def add(self, directions: FloatArray) -> list[tuple[FloatArray, float]]:
        """Play those that are new, as far as the budget goes: the patterns along them and their mean returns."""
        new: dict[bytes, FloatArray] = {}
        for pattern in self._ball.steepest(np.asarray(directions, dtype=np.float64)):
            key = (np.round(pattern, 6) + 0.0).tobytes()  # -0.0 is 0.0
            if pattern.any() and key not in self._found and len(self._found) + len(new) < self._most:
                new[key] = pattern
        if not new:
            return []
        means = self._play(np.stack(list(new.values())), self._seeds).mean(axis=1)
        found = list(zip(new.values(), means.tolist(), strict=True))
        self._found |= dict(zip(new, found, strict=True))
        return found

    def worst(self) -> tuple[FloatArray, float]:
        return self.lowest(1)[0]

    def lowest(self, n: int) -> list[tuple[FloatArray, float]]:
        return sorted(self._found.values(), key=lambda pair: pair[1])[:n]
