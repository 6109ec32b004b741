"""Statistics of few, expensive runs: interquartile mean, bootstrap intervals, profiles, paired differences.

NumPy only, vectorised over resamples, and seeded: the same arguments give the same interval, bit for bit. All
intervals are percentile bootstrap intervals, the convention of Agarwal et al., Deep Reinforcement Learning at
the Edge of the Statistical Precipice (NeurIPS 2021), whose IQM and stratification are followed too. With
fewer than about five runs a bootstrap interval is too narrow; with one it has no width. Neither can be
repaired here.
"""

from lipsrl.statistics._bootstrap import bootstrap_ci, bootstrap_rows_ci
from lipsrl.statistics._improvement import probability_of_improvement
from lipsrl.statistics._iqm import iqm
from lipsrl.statistics._paired import paired_difference, paired_ratio
from lipsrl.statistics._profile import performance_profile
from lipsrl.statistics._types import Interval, Profile, Statistic

__all__ = [
    "Interval",
    "Profile",
    "Statistic",
    "bootstrap_ci",
    "bootstrap_rows_ci",
    "iqm",
    "paired_difference",
    "paired_ratio",
    "performance_profile",
    "probability_of_improvement",
]
