"""May this agent be deployed? What is proven and what was measured, beside stated limits, on one page."""

from __future__ import annotations

from lipsrl.assessment.assess import assess
from lipsrl.assessment.card import Assessment, Criterion
from lipsrl.assessment.limits import Limits

__all__ = ["Assessment", "Criterion", "Limits", "assess"]
