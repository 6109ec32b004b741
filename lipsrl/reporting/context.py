"""Who was evaluated under what, and what made the numbers: read from the table and its metadata."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lipsrl.evaluation import Evaluation
from lipsrl.evaluation._words import environment_in_words
from lipsrl.reporting.numbers import number
from lipsrl.reporting.wording import describe_disturbance


def agents_of(evaluation: Evaluation) -> list[str]:
    """The agents, in the order of the table; the first is the reference of ratios and differences."""
    return [str(a) for a in evaluation.frame["agent"].unique()]


def definition_of(evaluation: Evaluation, disturbance: str) -> Mapping[str, Any] | None:
    """What the metadata knows of a disturbance: its ``to_dict``."""
    definition: Mapping[str, Any] | None = (evaluation.metadata.get("disturbances") or {}).get(disturbance)
    return definition


def disturbances_of(evaluation: Evaluation) -> list[str]:
    """The disturbances, in the order of the table."""
    return [str(name) for name in evaluation.frame["disturbance"].unique()]


def settings(evaluation: Evaluation, floor: float | None) -> list[tuple[str, str]]:
    """Name and value of what was fixed before the evaluation; what the metadata does not say is left out."""
    metadata, frame = evaluation.metadata, evaluation.frame
    definitions = metadata.get("disturbances") or {}
    known = {
        "Environment": environment_in_words(metadata),
        "Disturbance": "; ".join(
            describe_disturbance(d, definitions.get(d)) for d in frame["disturbance"].unique()
        ),
        "Strengths": ", ".join(f"{s:g}" for s in sorted(frame["strength"].unique())),
        "Training seeds": _seeds(evaluation),
        "Episodes in all": f"{len(frame):,}",
        "Evaluation seed": metadata.get("seed"),
        "Floor": None if floor is None else f"a return of {number(floor)} counts as nothing",
        "Evaluated": metadata.get("created"),
    }
    return [(name, str(value)) for name, value in known.items() if value not in (None, "")]


def subtitle(evaluation: Evaluation) -> str:
    """What was measured, in one line."""
    frame = evaluation.frame
    agents = len(agents_of(evaluation))
    seeds = int(frame.groupby("agent")["seed"].nunique(dropna=False).max())
    parts = [
        environment_in_words(evaluation.metadata),
        f"{agents} agent{'s' if agents > 1 else ''}",
        f"{seeds} training seeds"
        if seeds > 1
        else "one training seed each"
        if agents > 1
        else "one training seed",
        f"{len(frame):,} episodes",
    ]
    return ", ".join(part for part in parts if part)


def versions(metadata: Mapping[str, Any], certificates: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Package and version; all of them where parts were made with different ones."""
    sources = [metadata, *metadata.get("parts", []), *certificates]
    found: dict[str, list[str]] = {}
    for source in sources:
        for package, version in (source.get("versions") or {}).items():
            # "stable_baselines3" and "stable-baselines3" are one package
            seen = found.setdefault(str(package).replace("_", "-"), [])
            if str(version) not in seen:
                seen.append(str(version))
    return [(package, ", ".join(seen)) for package, seen in found.items()]


def trace_sentence(traces: Mapping[str, Mapping[str, Any]]) -> str:
    """Under what the episode was recorded, as far as the traces say it."""
    first: Mapping[str, Any] = next(iter(traces.values()), {})
    disturbance, strength = first.get("disturbance"), first.get("strength")
    if isinstance(disturbance, Mapping):
        disturbance = describe_disturbance(str(disturbance.get("name", "")), disturbance)
    under = f" under {disturbance}" if disturbance is not None else ""
    at = f" at strength {float(strength):g}" if strength is not None else ""
    return f"One episode{under}{at}: the same start and the same noise for every agent, shared axes."


def paragraphs(text: str | Sequence[str] | None) -> list[str]:
    """A string as one paragraph (or command), a sequence as it is, None as nothing."""
    if text is None:
        return []
    return [text] if isinstance(text, str) else [str(line) for line in text]


def _seeds(evaluation: Evaluation) -> str:
    said: dict[str, list[str]] = {}
    for agent, rows in evaluation.frame.groupby("agent", sort=False):
        known = sorted(int(s) for s in rows["seed"].dropna().unique())
        said.setdefault(_ranges(known) or "unknown", []).append(str(agent))
    if len(said) == 1:
        return next(iter(said))
    return "; ".join(f"{', '.join(agents)}: {seeds}" for seeds, agents in said.items())


def _ranges(seeds: Sequence[int]) -> str:
    """``[0, 1, 2, 5]`` as ``"0 to 2, 5"``."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    parts = [f"{r[0]} to {r[-1]}" if len(r) > 2 else ", ".join(map(str, r)) for r in runs]
    return ", ".join(parts)
