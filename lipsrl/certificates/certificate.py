"""What is known about how far an action can move, as an object that explains itself."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lipsrl._files import write_text

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Factor:
    """One gain of the pipeline; the product of all of them is the upper bound.

    Attributes:
        name: ``sensor_scale``, ``vec_normalize``, ``observation_scale``, ``network``, ``action`` or ``folding``.
        gain: l2 gain, > 0.
        detail: where it comes from, in words.
    """

    name: str
    gain: float
    detail: str


@dataclass(frozen=True)
class NetworkBound:
    """The network alone: observation the policy receives → action, without VecNormalize.

    Attributes:
        upper_bound: never below the truth.
        lower_bound: the steepest pair that was found.
    """

    upper_bound: float
    lower_bound: float

    @property
    def tightness(self) -> float:
        """lower / upper, in [0, 1]."""
        return _ratio(self.lower_bound, self.upper_bound)


@dataclass(frozen=True)
class LocalBounds:
    """Bounds that hold between any two raw observations within ``radius`` (l2, in units of sensor_scale) of a state.

    Attributes:
        radius: of the balls.
        upper_bounds: one per state, action per unit.
    """

    radius: float
    upper_bounds: tuple[float, ...]

    @property
    def largest(self) -> float:
        """Of all states."""
        return max(self.upper_bounds)


@dataclass(frozen=True)
class Certificate:
    """How far the deterministic action can move per unit of the raw observation.

    Attributes:
        upper_bound: ‖Δaction‖ ≤ upper_bound · ‖Δobservation‖ for every pair, in ``norm``; environment's action units
            (logits or Q-values where actions are discrete) per raw observation unit.
        lower_bound: the steepest pair found through the whole pipeline, clip included.
        factors: named gains, whose product is ``upper_bound``.
        network: bounds of the network alone, in policy units.
        per_sensor: for each observation coordinate the bound on ‖Δaction‖₂ per unit of that coordinate alone.
        promise: the K that the policy was built with, or ``None`` for a stock policy.
        witness: the pair behind ``lower_bound``; anyone can replay it.
        warnings: what a user should look at, in words.
        sensor_scale: unit of each sensor that the numbers are per, or ``None`` for the raw units.
        local: bounds near given states, or ``None``.
    """

    upper_bound: float
    lower_bound: float
    norm: str
    method: str
    factors: tuple[Factor, ...]
    network: NetworkBound
    per_sensor: tuple[float, ...]
    promise: float | None
    algorithm: str
    policy: str
    witness: dict[str, list[float]]
    assumptions: tuple[str, ...]
    weights_sha256: str
    warnings: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    sensor_scale: tuple[float, ...] | None = None
    local: LocalBounds | None = None

    @property
    def tightness(self) -> float:
        """lower / upper, end to end in raw units, in [0, 1]."""
        return _ratio(self.lower_bound, self.upper_bound)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; :meth:`from_dict` reads it back."""
        data = asdict(self)
        data["schema_version"] = SCHEMA_VERSION
        data["tightness"] = self.tightness
        data["network"]["tightness"] = self.network.tightness
        for key in ("factors", "per_sensor", "assumptions", "warnings"):
            data[key] = list(data[key])
        if self.sensor_scale is not None:
            data["sensor_scale"] = list(self.sensor_scale)
        if self.local is not None:
            data["local"]["upper_bounds"] = list(self.local.upper_bounds)
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Certificate:
        """Inverse of :meth:`to_dict`.

        Raises:
            ValueError: another schema version.
        """
        if data.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(
                f"certificate has schema_version={data.get('schema_version')!r}, expected {SCHEMA_VERSION}. "
                "Certify the model again."
            )
        fields = {key: data[key] for key in cls.__dataclass_fields__}
        fields["factors"] = tuple(Factor(**factor) for factor in data["factors"])
        network = data["network"]
        fields["network"] = NetworkBound(network["upper_bound"], network["lower_bound"])
        for key in ("per_sensor", "assumptions", "warnings"):
            fields[key] = tuple(data[key])
        if data["sensor_scale"] is not None:
            fields["sensor_scale"] = tuple(data["sensor_scale"])
        if data["local"] is not None:
            fields["local"] = LocalBounds(data["local"]["radius"], tuple(data["local"]["upper_bounds"]))
        return cls(**fields)

    def save(self, path: str | Path) -> Path:
        """Write JSON to ``path`` (whole or not at all) and return the path."""
        return write_text(path, json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Certificate:
        """Read what :meth:`save` wrote."""
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))

    def __str__(self) -> str:
        normalised = any(factor.name == "vec_normalize" for factor in self.factors)
        unit = (
            "raw observation"
            if normalised
            else "observation as the model receives it (no VecNormalize given)"
        )
        if self.sensor_scale is not None:
            unit = f"sensor_scale of the {unit}"
        lines = [
            f"Lipschitz certificate of a {self.algorithm} policy ({self.policy}), {self.norm} norm",
            f"  upper bound  {self.upper_bound:.6g}   action moves at most this much per unit of {unit}",
            f"  lower bound  {self.lower_bound:.6g}   steepest pair found (tightness {self.tightness:.1%})",
            f"  network      {self.network.lower_bound:.6g} … {self.network.upper_bound:.6g} in the policy's own "
            f"units (tightness {self.network.tightness:.1%}, method {self.method!r})",
        ]
        if self.promise is not None:
            lines.append(f"  promised     lipschitz_bound={self.promise:g} in the policy's own units")
        lines.append("  factors      " + " × ".join(f"{f.name} {f.gain:.6g}" for f in self.factors))
        lines += [f"    {f.name}: {f.detail}" for f in self.factors]
        lines.append("  per sensor   " + ", ".join(f"{value:.4g}" for value in self.per_sensor))
        if self.local is not None:
            lines.append(
                f"  locally      ≤ {self.local.largest:.6g} within {self.local.radius:g} of each of "
                f"{len(self.local.upper_bounds)} states (smallest {min(self.local.upper_bounds):.6g})"
            )
        lines += [f"  assumes      {text}" for text in self.assumptions]
        lines += [f"  WARNING      {text}" for text in self.warnings]
        return "\n".join(lines)


def _ratio(lower: float, upper: float) -> float:
    return lower / upper if upper > 0 else 1.0  # a constant policy: both bounds are zero
