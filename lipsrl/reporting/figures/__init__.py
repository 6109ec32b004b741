"""The report's figures, each a pure function of the evaluation's table or of what was recorded."""

from __future__ import annotations

from lipsrl.reporting.figures.actions import action_spectrum, action_trace
from lipsrl.reporting.figures.curves import fluctuation_under_noise, return_under_noise
from lipsrl.reporting.figures.frontier import frontier_plots
from lipsrl.reporting.figures.learning import learning_plots
from lipsrl.reporting.figures.policy import portrait_plots, sensor_plot
from lipsrl.reporting.figures.profile import return_profile
from lipsrl.reporting.figures.worst import worst_case_plot

__all__ = [
    "action_spectrum",
    "action_trace",
    "fluctuation_under_noise",
    "frontier_plots",
    "learning_plots",
    "portrait_plots",
    "return_profile",
    "return_under_noise",
    "sensor_plot",
    "worst_case_plot",
]
