"""Ship a policy: one safe file out of any SB3 model, and a loader that needs NumPy alone.

:func:`export` and :func:`verify_onnx` are imported when they are first used: a robot installs neither torch nor onnx.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lipsrl.deployment._load import load_policy
from lipsrl.deployment.numpy_policy import NumpyPolicy
from lipsrl.deployment.window_policy import WindowPolicy

if TYPE_CHECKING:
    from lipsrl.deployment._export import export
    from lipsrl.deployment._onnx import verify_onnx

__all__ = ["NumpyPolicy", "WindowPolicy", "export", "load_policy", "verify_onnx"]

_LAZY = {"export": "_export", "verify_onnx": "_onnx"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"lipsrl.deployment.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'lipsrl.deployment' has no attribute {name!r}")
