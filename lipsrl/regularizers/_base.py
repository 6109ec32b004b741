"""What all soft regularisers are: a few named losses, each with a weight."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from lipsrl._validation import lookup, non_negative
from lipsrl.regularizers._batch import Batch, Memory
from lipsrl.regularizers._observations import UNITS
from lipsrl.regularizers._weights import Weight, check_weight, weight_at


@dataclasses.dataclass(frozen=True)
class Regularizer:
    """Base of the methods. Each is immutable and says only *what* is to be added to the loss.

    Attributes:
        units: ``"normalised"`` (default): observations as the policy receives them, divided by its
            ``observation_scale`` if it has one; actions in [-1, 1], the half range of the action space. ``"raw"``: the
            sensor's and the actuator's own.

    Class attributes:
        name: in logs and files.
        actor_terms, critic_terms: the losses; for each there is a field with its weight.
        needs: which neighbours of o_t in time: ``"next"``, ``"previous"``.
    """

    units: str = dataclasses.field(default="normalised", kw_only=True)

    name: ClassVar[str] = ""
    actor_terms: ClassVar[tuple[str, ...]] = ()
    critic_terms: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        lookup(f"{type(self).__name__}: units", self.units, dict.fromkeys(UNITS))
        for term in (*self.actor_terms, *self.critic_terms):
            weight = check_weight(f"{type(self).__name__}: {term}", getattr(self, term))
            object.__setattr__(self, term, weight)

    def weight(self, term: str, progress_remaining: float) -> float:
        """Of one loss, at a remaining progress from 1 (start of the training) to 0."""
        weight: Weight = getattr(self, term)
        return weight_at(f"{type(self).__name__}: {term}", weight, progress_remaining)

    def scaled(self, scale: float) -> Regularizer:
        """The same with all weights times ``scale``.

        Raises:
            ValueError: ``scale`` is no number ≥ 0, or a weight is a function.
        """
        factor = non_negative("scale", scale)
        found: dict[str, Any] = {}
        for term in (*self.actor_terms, *self.critic_terms):
            weight = getattr(self, term)
            if callable(weight):
                raise ValueError(f"{type(self).__name__}: {term} is a function and cannot be scaled.")
            found[term] = tuple(factor * w for w in weight) if isinstance(weight, tuple) else factor * weight
        return dataclasses.replace(self, **found)

    def targets(self) -> dict[str, float]:
        """Losses whose weight is found: their target."""
        return {}

    def check(self, model: Any) -> None:
        """Raise ``ValueError`` where ``model`` has not what this method needs."""

    def memory(self, model: Any, kept: Any) -> Memory | None:
        """What this method learns beside the agent, from what was kept of it; ``None`` for most."""
        return None

    def actor_losses(self, batch: Batch, terms: Sequence[str]) -> dict[str, Tensor]:
        """The losses () named in ``terms`` that the actor's update is to lower."""
        return {}

    def critic_losses(self, batch: Batch, terms: Sequence[str]) -> dict[str, Tensor]:
        """The losses () named in ``terms`` that the critic's update is to lower."""
        return {}

    def plain(self) -> dict[str, Any]:
        """As data that says the same anywhere: ``{"name": …}`` and the arguments."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            "name": type(self).__name__,
            **{key: list(value) if isinstance(value, tuple) else value for key, value in values.items()},
        }
