"""Smoothness and robustness measures: pure functions of arrays, NumPy only.

A sequence of actions is an array ``(T, channels)`` or ``(T,)``, one row per environment step, in the action
units that the environment receives. Each function returns one number for the whole sequence; for one channel
give that column, ``jerk(actions[:, i])``. A mean over steps that do not exist (an episode too short for the
difference it needs) is ``nan``, a sum over them is ``0``.
"""

from lipsrl.metrics._action_fluctuation import action_fluctuation
from lipsrl.metrics._action_sensitivity import action_sensitivity, sensitivity_ratios
from lipsrl.metrics._breakdown_strength import breakdown_strength
from lipsrl.metrics._high_frequency_ratio import high_frequency_ratio
from lipsrl.metrics._jerk import jerk
from lipsrl.metrics._normalized_auc import normalized_auc
from lipsrl.metrics._saturation import saturation
from lipsrl.metrics._spectral_smoothness import spectral_smoothness
from lipsrl.metrics._total_variation import total_variation

__all__ = [
    "action_fluctuation",
    "action_sensitivity",
    "breakdown_strength",
    "high_frequency_ratio",
    "jerk",
    "normalized_auc",
    "saturation",
    "sensitivity_ratios",
    "spectral_smoothness",
    "total_variation",
]
