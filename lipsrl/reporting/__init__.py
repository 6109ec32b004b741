"""What an evaluation says, for people: the answer, figures, a self-contained HTML report, a table for the console."""

from lipsrl.reporting.answer import Answer, answer
from lipsrl.reporting.charts import Figure, Plot, Series, write_figures
from lipsrl.reporting.console import compact_table, comparison_table, print_answer
from lipsrl.reporting.figures import action_trace, fluctuation_under_noise, return_under_noise
from lipsrl.reporting.findings import Findings, findings_of, reference_of
from lipsrl.reporting.glance import Card
from lipsrl.reporting.portrait import Portrait, phase_portrait, sensitivities
from lipsrl.reporting.progress import read_progress
from lipsrl.reporting.records import Records
from lipsrl.reporting.report import write_page, write_report
from lipsrl.reporting.sections import figures_of
from lipsrl.reporting.wording import STANDARD_DISTURBANCES

__all__ = [
    "STANDARD_DISTURBANCES",
    "Answer",
    "Card",
    "Figure",
    "Findings",
    "Plot",
    "Portrait",
    "Records",
    "Series",
    "action_trace",
    "answer",
    "compact_table",
    "comparison_table",
    "figures_of",
    "findings_of",
    "fluctuation_under_noise",
    "phase_portrait",
    "print_answer",
    "read_progress",
    "reference_of",
    "return_under_noise",
    "sensitivities",
    "write_figures",
    "write_page",
    "write_report",
]
