"""What runs log while they train and when they are measured: W&B, TensorBoard, smoothness, and the run folder."""

from __future__ import annotations

from lipsrl.actors.run_folder import RunFolder
from lipsrl.tracking._start import MODES, Mode
from lipsrl.tracking.define import define_metrics
from lipsrl.tracking.evaluation_log import log_evaluation
from lipsrl.tracking.report import report
from lipsrl.tracking.smoothness_callback import SmoothnessCallback
from lipsrl.tracking.wandb_writer import WandbWriter
from lipsrl.tracking.workspace import workspace

__all__ = [
    "MODES",
    "Mode",
    "RunFolder",
    "SmoothnessCallback",
    "WandbWriter",
    "define_metrics",
    "log_evaluation",
    "report",
    "workspace",
]
