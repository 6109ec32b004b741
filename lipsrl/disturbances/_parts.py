"""What all disturbances share that are made of others."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from lipsrl.disturbances._base import Disturbance
from lipsrl.disturbances._registry import disturbance_from_dict


class InParts(Disturbance):
    """A disturbance made of others, whose strength multiplies that of each.

    Attributes:
        disturbances: the parts; attacks may be among them.
    """

    disturbances: tuple[Disturbance, ...]

    @abstractmethod
    def with_parts(self, parts: Sequence[Disturbance]) -> InParts:
        """The same of other parts, as many as there are."""

    @property
    def dimension(self) -> int | None:
        return next((part.dimension for part in self.disturbances if part.dimension is not None), None)

    def check_dimension(self, dim: int) -> None:
        for part in self.disturbances:
            part.check_dimension(dim)

    def scaled(self, strength: float) -> InParts:
        return self.with_parts([part.scaled(strength) for part in self.disturbances])

    def scale_by_std(self, statistics: Any) -> InParts:
        return self.with_parts([part.scale_by_std(statistics) for part in self.disturbances])


def read_parts(disturbances: Sequence[Disturbance | Mapping[str, Any]]) -> tuple[Disturbance, ...]:
    """Copies of one or more disturbances, given as themselves or as their ``to_dict()``.

    Raises:
        ValueError: none, something else, or parts for observations of different lengths.
    """
    received: object = disturbances
    given = list(received) if isinstance(received, Sequence) else []
    parts = [disturbance_from_dict(part) if isinstance(part, Mapping) else part for part in given]
    if not parts or not all(isinstance(part, Disturbance) for part in parts):
        raise ValueError(
            "disturbances must be a list of one or more Disturbance, such as [GaussianNoise(0.1), Delay(2)] "
            f"(in text 'gaussian:0.1+delay:2'), received {disturbances!r}."
        )
    copies = tuple(part.scaled(1.0) for part in parts)
    lengths = {part.dimension for part in copies} - {None}
    if len(lengths) > 1:
        raise ValueError(
            f"the disturbances are for observations of different lengths, {sorted(map(str, lengths))}: "
            f"received {disturbances!r}."
        )
    return copies
