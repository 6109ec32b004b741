"""What the plant itself demands: how steep every controller must be that holds an equilibrium (docs/feasibility.md)."""

from __future__ import annotations

from lipsrl.feasibility.floor import FeasibilityFloor, feasibility_floor
from lipsrl.feasibility.policy import feasibility_warnings, policy_units

__all__ = ["FeasibilityFloor", "feasibility_floor", "feasibility_warnings", "policy_units"]
