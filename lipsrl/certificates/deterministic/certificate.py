"""What is known about how far an action can move, as an object that explains itself."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Group

from lipsrl._digits import rounded_down, rounded_up
from lipsrl.certificates.deterministic._rendering import rendered
from lipsrl.certificates.deterministic._statement import Factor, LocalBounds, NetworkBound, Statement
from lipsrl.certificates.deterministic._window_bounds import SensorWindow, WindowBounds

__all__ = ["Certificate", "Factor", "LocalBounds", "NetworkBound", "SensorWindow", "WindowBounds"]


@dataclass(frozen=True)
class Certificate(Statement):
    """Bounds of how far the deterministic action can move per unit of the raw observation.

    Attributes:
        upper_bound: ‖Δaction‖ ≤ upper_bound · ‖Δobservation‖ for every pair, in ``norm``; environment's action units
            (logits or Q-values where actions are discrete) per raw observation unit.
        lower_bound: the steepest pair found through the whole pipeline, clip included.
        factors: named gains, whose product is ``upper_bound``.
        network: bounds of the network alone, in policy units.
        per_sensor: for each sensor the bound on ‖Δaction‖ per unit of that sensor alone (an image is one sensor, in the
            norm of its pixels; of a stack all frames move).
        sensors: their names.
        promise: the K that the policy was built with, or ``None`` for a stock policy.
        witness: the pair of observations with the slope ``lower_bound``, so that anyone can check it.
        warnings: messages for the user, in words.
        sensor_scale: unit of each sensor that the numbers are per, or ``None`` for the raw units.
        local: bounds near given states, or ``None``.
        window: for a policy with several observations: bounds for errors in one frame, in all, over time, and
            constant; else ``None``.
    """

    def __rich__(self) -> Group:
        return rendered(self)

    def __str__(self) -> str:
        lines = [
            f"Lipschitz certificate of a {self.algorithm} policy ({self.policy}), {self.norm} norm",
            f"  upper bound  {rounded_up(self.upper_bound)}   action moves at most this much per unit of {self.unit}",
            f"  lower bound  {rounded_down(self.lower_bound)}   steepest pair found (tightness {self.tightness:.1%})",
            f"  network      {rounded_down(self.network.lower_bound)} … {rounded_up(self.network.upper_bound)} in the "
            f"policy's own units (tightness {self.network.tightness:.1%}, method {self.method!r})",
        ]
        if self.promise is not None:
            lines.append(f"  promised     lipschitz_bound={self.promise:g} in the policy's own units")
        lines.append("  factors      " + " × ".join(f"{f.name} {rounded_up(f.gain)}" for f in self.factors))
        lines += [f"    {f.name}: {f.detail}" for f in self.factors]
        lines.append("  per sensor   " + self._sensors_in_a_line())
        if self.window is not None:
            lines.append(f"  window       {self.window}")
        if self.local is not None:
            lines.append(
                f"  locally      ≤ {rounded_up(self.local.largest)} within {self.local.radius:g} of each of "
                f"{len(self.local.upper_bounds)} states (smallest {rounded_up(min(self.local.upper_bounds))})"
            )
        lines += [f"  assumes      {text}" for text in self.assumptions]
        lines += [f"  WARNING      {text}" for text in self.warnings]
        return "\n".join(lines)

    def _sensors_in_a_line(self) -> str:
        shown = self.sensors_shown()
        if len(shown) == len(self.per_sensor):
            return ", ".join(rounded_up(value, 4) for _, value in shown)
        listed = ", ".join(f"{self.sensor_name(index)} {rounded_up(value, 4)}" for index, value in shown)
        return f"the steepest {len(shown)} of {len(self.per_sensor)}: {listed}"
