"""Smoothness and robustness measures: pure functions of arrays, NumPy only (`jacobians`: torch).

A sequence of actions is an array ``(T, channels)`` or ``(T,)``, one row per environment step, in the action
units that the environment receives. Each function returns one number for the whole sequence; `per_channel` gives
one for each channel. A mean over steps that do not exist (an episode too short for the difference it needs) is
``nan``, a sum over them is ``0``. Give the action that the environment received to all of them but `saturation`,
which is about the one before the clip.
"""

from lipsrl.metrics._action_fluctuation import action_fluctuation
from lipsrl.metrics._action_sensitivity import action_sensitivity, sensitivity_ratios
from lipsrl.metrics._breakdown_strength import breakdown_strength
from lipsrl.metrics._high_frequency_ratio import high_frequency_ratio
from lipsrl.metrics._jacobian_norm import jacobian_norm, jacobians
from lipsrl.metrics._jerk import jerk
from lipsrl.metrics._normalized_auc import normalized_auc
from lipsrl.metrics._per_channel import per_channel
from lipsrl.metrics._saturation import saturation
from lipsrl.metrics._sensor_sensitivity import sensor_sensitivity
from lipsrl.metrics._spectral_smoothness import spectral_smoothness
from lipsrl.metrics._total_variation import total_variation

__all__ = [
    "action_fluctuation",
    "action_sensitivity",
    "breakdown_strength",
    "high_frequency_ratio",
    "jacobian_norm",
    "jacobians",
    "jerk",
    "normalized_auc",
    "per_channel",
    "saturation",
    "sensitivity_ratios",
    "sensor_sensitivity",
    "spectral_smoothness",
    "total_variation",
]
