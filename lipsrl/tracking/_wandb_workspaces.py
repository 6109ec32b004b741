"""W&B's packages that build saved views and reports: imported when they are needed, and only then."""

from __future__ import annotations

import os
import warnings
from typing import Any


def import_workspaces() -> tuple[Any, Any]:
    """The modules ``wandb_workspaces.workspaces`` and ``wandb_workspaces.reports.v2``.

    Raises:
        ImportError: they are not installed; says how to install them.
    """
    # W&B takes a checkout's own `agents` folder for an LLM framework of that name and advertises for it
    os.environ.setdefault("WANDB_DISABLE_WEAVE", "true")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # its validators are of pydantic 1
            import wandb_workspaces.reports.v2 as reports
            import wandb_workspaces.workspaces as workspaces
    except ImportError as error:
        raise ImportError(
            "W&B dashboards need the wandb-workspaces package: pip install 'lipsrl[dashboards]'."
        ) from error
    return workspaces, reports
