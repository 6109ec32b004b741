"""What a run says of itself: plain values that can be compared, and nothing of the machine or the person."""

from __future__ import annotations

import importlib
import importlib.metadata
import math
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from lipsrl.actors.frames import attached_frames
from lipsrl.policies._unwrapped import policy_of

#: What results depend on.
PACKAGES = ("torch", "stable-baselines3", "gymnasium", "numpy", "wandb")

#: Longer arrays are named by their shape.
MOST_VALUES = 64

_SECRET = re.compile(r"(?i)(api_?key|token|secret|passw|credential)")
# the root, a home or a drive; no part of a word, of «3/4» or «ppo/pendulum», or of an address such as «https://»
_ROOT = r"(?<![\w./\\-])(?!(?<=:)//)(?:file://)?(?:~(?:[A-Za-z_][\w.-]*)?|[A-Za-z]:)?[/\\]"
# as far as the next path, of several in one word: MODEL:STATISTICS, --output=/a
_ON = rf"(?![:=,;]{_ROOT})"
_PATH = re.compile(rf"{_ROOT}(?:{_ON}[^\s'\"])*")
# spaces belong to a path in quotes, and to a text that is nothing but paths: no other word of it begins a path or is an
# option, as in a command
_SPACED = re.compile(rf"{_ROOT}(?:{_ON}[^'\"\n])*")
_QUOTED = re.compile(rf"(?<=')[^'\s]*{_ROOT}[^']*(?=')|(?<=\")[^\"\s]*{_ROOT}[^\"]*(?=\")")
_ONLY_PATHS = re.compile(rf"(?:[^\s'\"]*:)?{_ROOT}(?:(?!\s(?:-|{_ROOT}))[^'\"\n])*")


def versions() -> dict[str, str]:
    """Of Python, lipsrl and :data:`PACKAGES`."""
    found = {"python": platform.python_version(), "lipsrl": importlib.import_module("lipsrl").__version__}
    return found | {name: importlib.metadata.version(name) for name in PACKAGES}


def git_revision() -> str | None:
    """Of the checkout that the working directory is in, with ``-dirty`` where files differ; None without one."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def model_config(model: BaseAlgorithm) -> dict[str, Any]:
    """What a model is, in the words of the scheme: algorithm, policy, layer, K, history, seed."""
    policy = policy_of(model)
    options = getattr(policy, "options", None)
    return {
        "algorithm": type(model).__name__,
        "policy": type(policy).__name__,
        "layer": getattr(options, "layer", None),
        "lipschitz_bound": getattr(options, "lipschitz_bound", None),
        "history": attached_frames(model),
        "seed": model.seed,
    }


def run_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` as :func:`plain` values, with versions and the git revision where it has none."""
    found: dict[str, Any] = plain(config)
    found.setdefault("versions", versions())
    found.setdefault("git_revision", git_revision())
    return found


def plain(value: Any) -> Any:
    """``value`` as JSON types, safe to publish.

    Absolute paths become their last part (in keys too), values of secret environment variables ``***``; entries that
    are named like secrets are left out, functions and classes become their name, and any other object (a model) its
    type.

    Example:
        >>> from lipsrl.tracking.config import plain
        >>> plain({"command": "train --output /home/me/runs/a", "api_key": "x", "K": 8.0})
        {'command': 'train --output a', 'K': 8.0}
    """
    match value:
        case None | bool() | int():
            return value
        case str():
            return _clean(value)
        case float() | np.floating():
            return float(value) if math.isfinite(value) else str(float(value))
        case np.integer() | np.bool_():
            return value.item()
        case os.PathLike():
            return os.path.basename(os.fspath(value))  # noqa: PTH119 - any kind of path
        case Mapping():
            return _entries(value)
        case list() | tuple() | set() | frozenset():
            return [plain(v) for v in value]
        case np.ndarray() if value.size <= MOST_VALUES:
            return plain(value.tolist())
        case np.ndarray():
            return f"array {value.shape}"
    name = getattr(value, "__name__", None)
    return name if isinstance(name, str) else type(value).__name__


def _clean(text: str) -> str:
    for name, secret in os.environ.items():
        if _SECRET.search(name) and len(secret) >= 8:
            text = text.replace(secret, "***")
    if _ONLY_PATHS.fullmatch(text):
        return _SPACED.sub(_last_part, text)
    text = _QUOTED.sub(lambda quoted: _SPACED.sub(_last_part, quoted.group()), text)
    return _PATH.sub(_last_part, text)


def _last_part(path: re.Match[str]) -> str:
    # of a lone separator nothing would be left
    return re.split(r"[/\\]", path.group().rstrip("/\\"))[-1] or path.group()


def _entries(values: Mapping[Any, Any]) -> dict[str, Any]:
    """The keys plain too; numbered where two would then be the same."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if _SECRET.search(str(key)):
            continue
        name = base = plain(key) if isinstance(key, os.PathLike) else _clean(str(key))
        number = 2
        while name in found:
            name, number = f"{base}-{number}", number + 1
        found[name] = plain(value)
    return found
