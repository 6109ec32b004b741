"""Ship a policy: one safe file out of any SB3 model, and a loader that needs NumPy alone.

Only :func:`export` needs torch, so it is imported when it is first used: a robot installs neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lipsrl.deployment._load import load_policy
from lipsrl.deployment.numpy_policy import NumpyPolicy

if TYPE_CHECKING:
    from lipsrl.deployment._export import export

__all__ = ["NumpyPolicy", "export", "load_policy"]


def __getattr__(name: str) -> Any:
    if name == "export":
        from lipsrl.deployment._export import export

        return export
    raise AttributeError(f"module 'lipsrl.deployment' has no attribute {name!r}")
