"""What a search for K remembers: a plain dict on the model, and so in its zip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from lipsrl.policies._kept_return import MEASURED, noise_share, reference

#: Share of what was learned that an agent loses when it falls.
FALL = 0.05

_MEMORY = "lipschitz_auto"


def taken_up(model: BaseAlgorithm, asked: list[Any], earlier: list[Any]) -> dict[str, Any]:
    """The memory of ``model``, where its training goes on with the same question; else a new one, on the model.

    Args:
        model: that is trained.
        asked: the arguments that make one search another; those from the fifth on say which episodes are played.
        earlier: the same as a version without a measured tolerance wrote them.
    """
    kept = getattr(model, _MEMORY, None)
    known: dict[str, Any] = dict(kept) if model.num_timesteps > 0 and isinstance(kept, dict) else {}
    before = known.get("asked", asked)
    fresh: dict[str, Any] = {"late": [], "at_floor": False}
    if before[4:] == asked[4:] and "first" in known:  # what the agent earned untrained, in the same episodes
        fresh["first"] = known["first"]
    memory = (known if known and before in (asked, earlier) else fresh) | {"asked": asked}
    memory.setdefault("kept", [])  # of an earlier version there is none
    memory.setdefault("falls", 0)
    memory.pop("gave_up", None)  # there may be more to see now
    setattr(model, _MEMORY, memory)
    return memory


class KeptReturn:
    """What the agent has to earn, by what it has earned so far.

    Args:
        memory: of the search; this reads and writes ``first``, ``newest``, ``target`` and ``tolerance``.
        tolerance: share of what was learned that may be given up, where the noise was not measured.
        measures: whether the noise of the evaluations is measured.
    """

    def __init__(self, memory: dict[str, Any], tolerance: float, measures: bool) -> None:
        self._memory, self._given, self._measures = memory, tolerance, measures

    @property
    def tolerance(self) -> float:
        """Share of what was learned that may be given up."""
        return float(self._memory.get("tolerance", self._given))

    def note(self, progress: float, now: float) -> None:
        """One more evaluation, with the share of the training at which it was made."""
        newest: Sequence[Any] = self._memory.get("newest", [])
        self._memory["newest"] = [*newest, [progress, now]][-MEASURED:]

    def lately(self, now: float) -> float:
        """The return that counts as learned; ``now`` where nothing was noted."""
        newest = self._memory.get("newest")
        if not newest:
            return now
        return reference(newest) if self._measures else float(newest[-1][1])

    def set_from(self, learned: float) -> None:
        """The target that leaves ``learned`` but for what may be given up."""
        newest = self._memory.get("newest", [])
        share = noise_share(newest, learned - self._memory["first"]) if self._measures else None
        self._memory |= {} if share is None else {"tolerance": share}
        self._memory["target"] = self._left_of(learned)

    def rise(self) -> None:
        """Where the agent still improves, more has to be kept."""
        self._memory["target"] = max(
            self._memory["target"], self._left_of(self.lately(self._memory["target"]))
        )

    def missing(self, now: float) -> float:
        """How far ``now`` is below the target, in what may be given up, within [-1, 1]."""
        short = self._memory["target"] - now
        return float(min(max(short / (self.tolerance * self._learned() + 1e-12), -1.0), 1.0))

    def fell(self, now: float) -> bool:
        """Whether the agent has lost more than K alone will bring back."""
        return bool(now < self._memory["target"] - FALL * self._learned())

    def _learned(self) -> float:
        return float(abs(self._memory["target"] - self._memory["first"]))

    def _left_of(self, learned: float) -> float:
        return learned - self.tolerance * (learned - float(self._memory["first"]))
