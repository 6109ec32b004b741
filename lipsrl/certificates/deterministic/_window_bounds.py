"""What is known about a policy that sees the last k observations: the numbers and their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from lipsrl._digits import rounded_up


@dataclass(frozen=True)
class SensorWindow:
    """:class:`WindowBounds` where one sensor alone is off.

    Attributes:
        newest, each, signal, bias, bias_unclipped: as there.
    """

    newest: float
    each: float
    signal: float | None
    bias: float | None
    bias_unclipped: float | None


@dataclass(frozen=True)
class WindowBounds:
    """How far the action moves where the k observations in the policy's window are off, action per unit.

    Norm and units are those of the certificate. The clean observations are the same on both sides: this is what the
    policy makes of an error, without the plant that answers to the action.

    Attributes:
        frames: k.
        newest: ‖Δa‖ per ‖Δ newest observation‖, the older ones held.
        each: ‖Δa‖ where each of the k observations may be off by one unit: the certificate's ``upper_bound``.
        whole: ‖Δa‖ per norm of the window's change as one vector.
        signal: G of ``(Σ_t ‖Δa_t‖²)^½ ≤ G (Σ_t ‖Δo_t‖²)^½`` over any number of steps, the start of an episode included;
            ``None`` outside of the l2 norm, or where it could not be proven.
        bias: ‖Δa_t‖ at every step t per ‖b‖, where one constant b is added to every observation of the episode, also
            while the window fills and where VecNormalize's clip cuts some of it off; ``None`` where it could not be
            proven.
        bias_unclipped: the same where no normalised observation, with b or without, reaches the clip.
        per_sensor: by sensor, in the order of the certificate.
        past_actions: gain over time from the past actions in the observation to the action (rl-zoo's HistoryWrapper);
            ``None`` where there are none. ``signal`` and ``bias`` count what comes back through them, ``newest``,
            ``each`` and ``whole`` hold them.
    """

    frames: int
    newest: float
    each: float
    whole: float
    signal: float | None
    bias: float | None
    bias_unclipped: float | None
    per_sensor: tuple[SensorWindow, ...]
    past_actions: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "per_sensor": [asdict(sensor) for sensor in self.per_sensor]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`."""
        sensors = tuple(SensorWindow(**sensor) for sensor in data["per_sensor"])
        return cls(**{**data, "per_sensor": sensors})

    def rows(self) -> list[tuple[str, float, str]]:
        """(name, bound, what is off) of all that is known."""
        words = {
            "newest": "the newest observation alone",
            "each": f"each of the {self.frames} observations, by one unit",
            "whole": "the window as one vector",
            "signal": "l2 over time: ‖Δa‖ ≤ this · ‖Δo‖",
            "bias": "the same constant in every observation",
            "bias_unclipped": "the same where nothing reaches the clip",
        }
        if self.bias_unclipped == self.bias:
            del words["bias_unclipped"]
        found = [(name.replace("_", ", "), getattr(self, name), text) for name, text in words.items()]
        return [row for row in found if row[1] is not None]

    def __str__(self) -> str:
        listed = ", ".join(f"{name} {rounded_up(value)}" for name, value, _ in self.rows())
        return f"{self.frames} observations: {listed}"
