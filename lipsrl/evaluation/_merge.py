"""Several evaluations of one task as one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lipsrl.evaluation._schema import SCHEMA_VERSION

# what two evaluations must share for their rows to be compared; what one of them does not state is not compared
_SAME = ("env", "env_spec", "seed", "sensitivity_std")


def merge(
    frames: Sequence[pd.DataFrame], metadatas: Sequence[dict[str, Any]]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """See `Evaluation.concat`."""
    if not frames:
        raise ValueError("concat needs at least one evaluation, received none.")
    if len(frames) == 1:
        return frames[0], dict(metadatas[0])
    merged: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
    for name in _SAME:
        values = [m[name] for m in metadatas if m.get(name) is not None]
        if any(v != values[0] for v in values):
            raise ValueError(
                f"evaluations can only be joined if they have the same {name}, received {values}: their "
                "episodes are not the same, and differences between them would mean nothing."
            )
        merged[name] = values[0] if values else None
    limits = [m["max_episode_steps"] for m in metadatas if "max_episode_steps" in m]
    if any(limit != limits[0] for limit in limits):  # None is a statement here: there was no limit
        raise ValueError(
            f"evaluations can only be joined if they have the same max_episode_steps, received {limits}: the longer "
            "episodes have more to earn."
        )
    if limits:
        merged["max_episode_steps"] = limits[0]
    disturbances: dict[str, Any] = {}
    for metadata in metadatas:
        for name, definition in metadata.get("disturbances", {}).items():
            if disturbances.setdefault(name, definition) != definition:
                raise ValueError(
                    f"the name {name!r} stands for two disturbances, {disturbances[name]} and {definition}. "
                    "Evaluate one of them under another name (disturbances={name: ...})."
                )
    floors = {m["floor"] for m in metadatas if m.get("floor") is not None}
    if len(floors) > 1:
        raise ValueError(f"evaluations must agree on the floor, received {sorted(floors)}.")
    agents: list[Any] = []
    prints: dict[Any, str] = {}
    for agent in (agent for metadata in metadatas for agent in metadata.get("agents", [])):
        agents += [agent] if agent not in agents else []
        identity, fingerprint = (agent.get("agent"), agent.get("seed")), agent.get("fingerprint")
        if fingerprint is not None and prints.setdefault(identity, fingerprint) != fingerprint:
            raise ValueError(
                f"agent {identity[0]!r} with training seed {identity[1]} stands for two models: their weights, "
                "settings or normalisation differ. Evaluate one of them under another name."
            )
    merged |= {
        "agents": agents,
        "disturbances": disturbances,
        "strengths": sorted({s for m in metadatas for s in m.get("strengths", [])}),
        "n_episodes": max(m.get("n_episodes", 0) for m in metadatas),
        "floor": floors.pop() if floors else None,
        "env_steps": sum(m.get("env_steps", 0) for m in metadatas),
        "seconds": round(sum(m.get("seconds", 0.0) for m in metadatas), 3),
        # of what was itself joined, the original parts
        "parts": [part for m in metadatas for part in m.get("parts", [m])],
    }
    # what both have measured is there twice, and the same; if it is not the same, the table refuses it
    return pd.concat(frames, ignore_index=True).drop_duplicates(ignore_index=True), merged
