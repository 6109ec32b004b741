"""What a training run writes while it runs: W&B, TensorBoard, smoothness, and the run folder itself."""

from __future__ import annotations

from lipsrl.actors.run_folder import RunFolder
from lipsrl.tracking.report import report
from lipsrl.tracking.smoothness_callback import SmoothnessCallback
from lipsrl.tracking.wandb_writer import MODES, Mode, WandbWriter
from lipsrl.tracking.workspace import workspace

__all__ = ["MODES", "Mode", "RunFolder", "SmoothnessCallback", "WandbWriter", "report", "workspace"]
