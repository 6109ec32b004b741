"""Read an exported policy."""

from __future__ import annotations

import re
from pathlib import Path

from lipsrl.deployment._schema import read_policy_file
from lipsrl.deployment._window import has_window
from lipsrl.deployment.numpy_policy import NumpyPolicy
from lipsrl.deployment.window_policy import WindowPolicy


def load_policy(path: str | Path) -> NumpyPolicy:
    """The policy that :func:`lipsrl.export` wrote to ``path``. NumPy only; nothing in the file is executed.

    One that sees several observations is a :class:`~lipsrl.deployment.WindowPolicy` at an episode's start; files from
    before there were such policies take the stack.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a URL, no exported policy, another schema version, truncated, damaged, edited (its SHA-256 does not
            match), or with NaN in its weights; says which.

    Example::

        policy = lipsrl.load_policy("policy.safetensors")
        action = policy(observation)
    """
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:/", str(path)):
        raise ValueError(
            f"{str(path)!r} is a URL. Download the file, compare its SHA-256 with the one that the export printed, "
            "and load it from disk."
        )
    if Path(path).suffix == ".onnx":
        raise ValueError(
            f"{str(path)!r} is an ONNX file: run it with onnxruntime. Expected what lipsrl.export wrote "
            "as .safetensors."
        )
    description, tensors = read_policy_file(Path(path))
    try:
        return (WindowPolicy if has_window(description) else NumpyPolicy)(description, tensors)
    except (
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        ValueError,
        RecursionError,
        MemoryError,
    ) as error:
        why = f"no {error}" if isinstance(error, KeyError) else str(error).rstrip(".")
        raise ValueError(
            f"{str(path)!r} holds no policy that can run: {why}. Export the model again."
        ) from error
