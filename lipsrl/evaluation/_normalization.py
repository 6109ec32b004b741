"""Which VecNormalize (or other argument) belongs to which of several models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def by_model(given: Any, names: list[tuple[str, Any]], argument: str = "vec_normalize") -> dict[Any, Any]:
    """One entry per model key; ``names`` are the pairs (agent, key).

    A mapping is read by the model's own key first, then by its agent's name.

    Raises:
        ValueError: a mapping with a key that belongs to no model.
    """
    if not isinstance(given, Mapping):
        return {key: given for _, key in names}
    known = {key for _, key in names} | {agent for agent, _ in names}
    unknown = [key for key in given if key not in known]
    if unknown:
        raise ValueError(
            f"{argument} has the key {unknown[0]!r}, which is no model's name. "
            f"Accepted: {', '.join(sorted(map(repr, known)))}."
        )
    return {key: given.get(key, given.get(agent)) for agent, key in names}
