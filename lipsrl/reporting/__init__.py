"""What an evaluation says, for people: figures, a self-contained HTML report, a table for the console."""

from lipsrl.reporting.console import comparison_table
from lipsrl.reporting.figures import action_trace, fluctuation_under_noise, return_under_noise
from lipsrl.reporting.report import write_report

__all__ = [
    "action_trace",
    "comparison_table",
    "fluctuation_under_noise",
    "return_under_noise",
    "write_report",
]
