"""What is known about how far an action can move: the numbers, their names and their JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Self

from lipsrl.certificates._saved import Saved
from lipsrl.certificates.deterministic._window_bounds import WindowBounds

#: With more sensors than this (images, stacked frames) only the steepest few are printed.
MOST_SENSORS_SHOWN, STEEPEST_SHOWN = 40, 10


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
class Statement(Saved):
    """The fields of :class:`lipsrl.Certificate`, which describes them, without the words that show them."""

    title: ClassVar[str] = "certificate"
    schema_version: ClassVar[int] = 2

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
    sensors: tuple[str, ...] = ()
    window: WindowBounds | None = None

    @property
    def tightness(self) -> float:
        """lower / upper, end to end in raw units, in [0, 1]."""
        return _ratio(self.lower_bound, self.upper_bound)

    @property
    def unit(self) -> str:
        """What the bounds in raw units are per unit of, in words."""
        stages = {factor.name for factor in self.factors}
        unit = (
            "raw observation"
            if stages & {"vec_normalize", "normalize_observation"}
            else "observation as the model receives it (no VecNormalize given)"
        )
        if "frame_stack" in stages:
            unit += " in each stacked frame"
        return unit if self.sensor_scale is None else f"sensor_scale of the {unit}"

    def sensor_name(self, index: int) -> str:
        """Of one sensor."""
        return self.sensors[index] if self.sensors else f"observation[{index}]"

    def sensors_shown(self) -> list[tuple[int, float]]:
        """(index, bound) of the sensors to print: all of them, or the steepest ten of very many, steepest first."""
        numbered = list(enumerate(self.per_sensor))
        if len(numbered) <= MOST_SENSORS_SHOWN:
            return numbered
        return sorted(numbered, key=lambda pair: pair[1], reverse=True)[:STEEPEST_SHOWN]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; :meth:`from_dict` reads it back."""
        data = asdict(self)
        data["schema_version"] = self.schema_version
        data["tightness"] = self.tightness
        data["network"]["tightness"] = self.network.tightness
        for key in ("factors", "per_sensor", "assumptions", "warnings", "sensors"):
            data[key] = list(data[key])
        if self.sensor_scale is not None:
            data["sensor_scale"] = list(self.sensor_scale)
        if self.local is not None:
            data["local"]["upper_bounds"] = list(self.local.upper_bounds)
        data["window"] = None if self.window is None else self.window.to_dict()
        return data

    @classmethod
    def _from_checked(cls, data: Mapping[str, Any]) -> Self:
        later = ("sensors", "window")  # than the first certificates
        values = {item.name: data[item.name] for item in fields(cls) if item.name not in later}
        values["factors"] = tuple(Factor(**factor) for factor in data["factors"])
        network = data["network"]
        values["network"] = NetworkBound(network["upper_bound"], network["lower_bound"])
        for key in ("per_sensor", "assumptions", "warnings"):
            values[key] = tuple(data[key])
        values["sensors"] = tuple(data.get("sensors", ()))
        window = data.get("window")
        values["window"] = None if window is None else WindowBounds.from_dict(window)
        if data["sensor_scale"] is not None:
            values["sensor_scale"] = tuple(data["sensor_scale"])
        if data["local"] is not None:
            values["local"] = LocalBounds(data["local"]["radius"], tuple(data["local"]["upper_bounds"]))
        return cls(**values)


def _ratio(lower: float, upper: float) -> float:
    return lower / upper if upper > 0 else 1.0  # a constant policy: both bounds are zero
