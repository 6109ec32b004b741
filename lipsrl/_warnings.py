"""Warnings that point to the user's line, however many frames of libraries lie in between."""

from __future__ import annotations

import sys
import warnings

#: Packages through which the user's call may come here.
_LIBRARIES = {"lipsrl", "torch", "stable_baselines3", "sb3_contrib", "contextlib"}


def warn_user(text: str) -> None:
    """``warnings.warn(text)`` at the nearest line outside of lipsrl, torch and Stable-Baselines3."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _LIBRARIES:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, stacklevel=level)
