"""The safetensors format in NumPy and JSON, so that a robot needs no further package.

Layout (https://huggingface.co/docs/safetensors): 8 bytes, the header's length, little-endian; the header, JSON,
name → dtype, shape and byte range, and ``__metadata__``, strings by name; the tensors' bytes without gaps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lipsrl._files import atomic_path

Tensors: TypeAlias = Mapping[str, NDArray[Any]]

#: What a policy is made of; the format knows more.
DTYPES: Mapping[str, np.dtype[Any]] = {"F64": np.dtype("<f8"), "F32": np.dtype("<f4")}
#: As in the reference implementation: a longer header is an attack or another format.
MAX_HEADER = 100_000_000


def write_safetensors(path: Path, tensors: Tensors, metadata: Mapping[str, str]) -> None:
    """Write float32 and float64 ``tensors`` to ``path``, whole or not at all. Equal content, equal bytes."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    blobs, position = [], 0
    for name in sorted(tensors, key=lambda name: (-tensors[name].itemsize, name)):  # wide first: all aligned
        array = tensors[name]
        blob = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        header[name] = {
            "dtype": names[array.dtype.newbyteorder("<")],
            "shape": list(array.shape),
            "data_offsets": [position, position + len(blob)],
        }
        blobs.append(blob)
        position += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"".join([len(text).to_bytes(8, "little"), text, *blobs]))


def read_safetensors(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """``(tensors, metadata)`` of the file at ``path``; the arrays are read-only.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another format, truncated, or damaged; says which.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{str(path)!r} is not a file. Expected what lipsrl.export wrote.")
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    if content[:2] == b"PK" or start > MAX_HEADER or content[8:9] not in (b"{", b""):
        hint = " It is a zip: load it with Stable-Baselines3 and export it." if content[:2] == b"PK" else ""
        raise ValueError(f"{str(path)!r} is not a safetensors file. Expected what lipsrl.export wrote.{hint}")
    if len(content) < max(start, 9):
        raise _damaged(path, f"it ends within its header, {len(content)} of at least {max(start, 9)} bytes")
    try:
        header = json.loads(content[8:start])
        metadata = {str(key): str(value) for key, value in header.pop("__metadata__", {}).items()}
        entries = sorted((_entry(name, value) for name, value in header.items()), key=lambda e: e.end)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"its header is malformed, {error!r}") from error
    return _tensors(path, entries, content[start:]), metadata


class _Entry(NamedTuple):
    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def _entry(name: str, value: dict[str, Any]) -> _Entry:
    begin, end = value["data_offsets"]
    return _Entry(name, str(value["dtype"]), tuple(int(n) for n in value["shape"]), int(begin), int(end))


def _tensors(path: Path, entries: list[_Entry], data: bytes) -> dict[str, NDArray[Any]]:
    tensors, position = {}, 0
    for name, dtype, shape, begin, end in entries:
        if dtype not in DTYPES:
            raise ValueError(
                f"{str(path)!r} holds {name!r} of dtype {dtype}, expected {' or '.join(DTYPES)}."
            )
        size = math.prod(shape)
        if begin != position or end - begin != size * DTYPES[dtype].itemsize or min(shape, default=0) < 0:
            raise _damaged(path, f"bytes {begin} to {end} of {name!r} do not fit {dtype} of shape {shape}")
        if end > len(data):
            raise _damaged(path, f"it ends within {name!r}, {len(data)} of at least {end} bytes of data")
        tensors[name] = np.frombuffer(data, DTYPES[dtype], size, begin).reshape(shape)
        position = end
    if position != len(data):
        raise _damaged(path, f"{len(data) - position} bytes follow the last tensor")
    return tensors


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(
        f"{str(path)!r} is truncated or damaged: {why}. Copy it again or export the model again."
    )
