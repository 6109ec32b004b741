"""What an exported policy's file says beside its tensors, and the hash that binds both."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from lipsrl.deployment._safetensors import Tensors, read_safetensors, write_safetensors

#: Written where nothing else is said; policies with a window are 3, so that who knows no windows refuses them.
SCHEMA_VERSION, WINDOW_VERSION = 2, 3
#: Keys of the safetensors metadata: the JSON, and the digest of the JSON and all tensors.
POLICY, DIGEST = "lipsrl.policy", "sha256"


def digest(text: str, tensors: Tensors) -> str:
    """SHA-256 over the JSON ``text`` and every tensor's name, dtype, shape and bytes, by name."""
    result = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        array = tensors[name]
        result.update(f"\n{name}:{array.dtype.name}:{tuple(array.shape)}\n".encode())
        result.update(array.tobytes())
    return result.hexdigest()


def describe(description: dict[str, Any]) -> str:
    """The JSON that a file carries."""
    return json.dumps({"schema_version": SCHEMA_VERSION, **description}, allow_nan=False)


def write_policy_file(path: Path, description: dict[str, Any], tensors: Tensors) -> None:
    """Write ``description`` (JSON types) and ``tensors`` as one file, whole or not at all."""
    text = describe(description)
    write_safetensors(path, tensors, {POLICY: text, DIGEST: digest(text, tensors)})


def read_policy_file(path: Path) -> tuple[dict[str, Any], Tensors]:
    """What :func:`write_policy_file` wrote.

    The hash finds damage and edits. It is no signature: whoever can write the file can write its hash too.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no exported policy, another schema version, truncated, damaged or edited; says which.
    """
    tensors, metadata = read_safetensors(path)
    if POLICY not in metadata:
        raise ValueError(
            f"{str(path)!r} is a safetensors file, but not of a lipsrl policy (no {POLICY!r} in its metadata). "
            "Expected what lipsrl.export wrote."
        )
    text = metadata[POLICY]
    try:
        description = json.loads(text)
        version = description["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is damaged: its description cannot be read ({error!r}).") from error
    if version not in (SCHEMA_VERSION, WINDOW_VERSION):
        raise ValueError(
            f"{str(path)!r} has schema_version={version!r}, this lipsrl reads {SCHEMA_VERSION} and "
            f"{WINDOW_VERSION}. Use the lipsrl that wrote it, or export the model again with this one."
        )
    if metadata.get(DIGEST) != digest(text, tensors):
        raise ValueError(
            f"{str(path)!r} does not match its SHA-256: it was changed after the export, so its certificate "
            "is not valid for it. Copy it again or export the model again."
        )
    return description, tensors
