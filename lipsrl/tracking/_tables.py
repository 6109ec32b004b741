"""What an evaluation and its certificates say, as numbers and rows under the names of the scheme."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import pandas as pd

from lipsrl.attacks import RandomAttack, minimum_rows, worst_attacks
from lipsrl.certificates import Certificate
from lipsrl.evaluation import Evaluation

#: Of one model, of models by agent or (agent, seed), or their ``to_dict`` with ``agent`` and ``seed`` beside it.
Certificates: TypeAlias = Certificate | Mapping[Any, Certificate | None] | Iterable[Mapping[str, Any]] | None

#: What the worst of all attacks is called among the disturbances.
MINIMUM = "minimum"


def certificate_rows(certificates: Certificates, agents: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Each as a dict with ``agent`` and ``seed``.

    Args:
        agents: of the evaluation; a single certificate belongs to the only one.

    Raises:
        TypeError: something else than certificates.
    """
    match certificates:
        case None:
            return []
        case Certificate():
            name = agents[0] if len(agents) == 1 else "agent"
            return [{"agent": name, "seed": None, **certificates.to_dict()}]
        case Mapping():
            keys = [(k if isinstance(k, tuple) else (k, None), c) for k, c in certificates.items()]
            return [{"agent": str(a), "seed": seed, **c.to_dict()} for (a, seed), c in keys if c is not None]
    rows = [dict(row) for row in certificates]
    for row in rows:
        if "upper_bound" not in row or "agent" not in row:
            raise TypeError(
                "certificates must be a Certificate, a dict of them by agent, or their to_dict() with 'agent' beside "
                f"it; received an entry with {sorted(row)}."
            )
    return rows


def certificate_numbers(row: Mapping[str, Any] | Certificate) -> dict[str, Any]:
    """``certificate/…`` of one; what is not known is left out."""
    data = row.to_dict() if isinstance(row, Certificate) else row
    network, window = data["network"], data.get("window") or {}
    found = {
        "upper_bound": data["upper_bound"],
        "lower_bound": data["lower_bound"],
        "tightness": _ratio(data["lower_bound"], data["upper_bound"]),
        "network_upper_bound": network["upper_bound"],
        "network_lower_bound": network["lower_bound"],
        "network_tightness": _ratio(network["lower_bound"], network["upper_bound"]),
        "promise": data.get("promise"),
        "method": data["method"],
        **{f"window_{key}": window.get(key) for key in ("frames", "newest", "each", "whole", "signal")},
    }
    return {f"certificate/{key}": value for key, value in found.items() if _known(value)}


def certificate_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """agent, seed, name, value, detail: the factors from sensor to action, then what they come to."""
    lines = []
    for row in rows:
        who = (row["agent"], _seed(row["seed"]))
        for factor in row["factors"]:
            lines.append((*who, factor["name"], factor["gain"], factor["detail"]))
        for key, value in certificate_numbers(row).items():
            name = key.removeprefix("certificate/")
            if name == "method":
                continue
            detail = row["method"] if name == "upper_bound" else ""
            lines.append((*who, name, value, detail))
    return pd.DataFrame(lines, columns=["agent", "seed", "name", "value", "detail"])


def sensor_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """agent, seed, sensor, upper_bound: how far the action moves per unit of one sensor that is off alone."""
    lines = []
    for row in rows:
        names = row.get("sensors") or [f"observation[{i}]" for i in range(len(row["per_sensor"]))]
        for name, bound in zip(names, row["per_sensor"], strict=True):
            lines.append((row["agent"], _seed(row["seed"]), name, bound))
    return pd.DataFrame(lines, columns=["agent", "seed", "sensor", "upper_bound"])


def with_minimum(evaluation: Evaluation) -> tuple[Evaluation, list[str]]:
    """The evaluation with the worst of its attacks as a disturbance beside them; and the attacks' names."""
    frame = evaluation.frame
    attacks = evaluation.attacks
    searching = [name for name in attacks if name.split("(")[0] != RandomAttack.name]
    if not searching or MINIMUM in set(frame["disturbance"]):
        return evaluation, attacks
    least = pd.concat(
        minimum_rows(frame[frame["agent"] == agent], attacks, name=MINIMUM)
        for agent in frame["agent"].unique()
    )
    return Evaluation(pd.concat([frame, least]), evaluation.metadata), attacks


def robustness_table(evaluation: Evaluation) -> pd.DataFrame | None:
    """AUC and breakdown of each agent under each disturbance; None where no floor says what counts as nothing."""
    frame = evaluation.frame
    if evaluation.metadata.get("floor") is None:
        return None
    parts = []
    for _, rows in frame.groupby(["agent", "disturbance"], sort=False):
        try:
            parts.append(Evaluation(rows, evaluation.metadata).normalized_auc())
        except ValueError:  # a strength is missing, or there is but one: the others are still worth showing
            continue
    return pd.concat(parts, ignore_index=True) if parts else None


def numbers(
    evaluation: Evaluation,
    summary: pd.DataFrame,
    robustness: pd.DataFrame | None,
    attacks: Sequence[str],
    parts: Mapping[str, str],
) -> dict[str, Any]:
    """``robustness/…`` of one agent, for the summary.

    Args:
        evaluation, summary, robustness: of this agent only.
        attacks: among its disturbances.
        parts: disturbance → part of a key.
    """
    found: dict[str, Any] = {}
    clean = summary[summary["strength"] == 0]
    if len(clean):
        found |= _both("clean", clean.iloc[0])
    noisy = summary[(summary["strength"] > 0) & (summary["disturbance"] != MINIMUM)]
    if len(noisy):
        first = noisy[noisy["disturbance"] == noisy["disturbance"].iloc[0]]
        row = first.loc[first["strength"].idxmin()]
        found |= _both("noisy", row) | {"noisy_strength": row["strength"]}
    for _, row in (robustness if robustness is not None else pd.DataFrame()).iterrows():
        part = parts[row["disturbance"]]
        found |= {f"{part}/auc": row["normalized_auc"], f"{part}/breakdown": row["breakdown_strength"]}
    if attacks and (evaluation.frame["strength"] > 0).any():
        least = worst_attacks(evaluation.frame, list(attacks))  # of each training seed
        greatest = least[least["strength"] == least["strength"].max()]
        worst = greatest.loc[greatest["return"].fillna(-math.inf).idxmin()]
        found |= {
            "worst_attack_return": float(greatest["return"].mean(skipna=False)),
            "worst_attack_epsilon": float(worst["strength"]),
            "worst_attack_name": str(worst["attack"]),
        }
    return {f"robustness/{key}": value for key, value in found.items() if _known(value)}


def _both(kind: str, row: Any) -> dict[str, Any]:
    return {f"{kind}_return": row["return"], f"{kind}_action_fluctuation": row["action_fluctuation"]}


def _known(value: Any) -> bool:
    return value is not None and (isinstance(value, str) or math.isfinite(value))


def _ratio(lower: float, upper: float) -> float:
    return lower / upper if upper > 0 else float("nan")


def _seed(seed: Any) -> int | None:
    return None if seed is None or pd.isna(seed) else int(seed)
