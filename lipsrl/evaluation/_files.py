"""An evaluation on disk: ``NAME.parquet`` with the rows, ``NAME.json`` beside it with everything else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lipsrl._files import atomic_path
from lipsrl.evaluation._schema import COLUMNS, READABLE_VERSIONS, SCHEMA_VERSION, conform

_ARROW = {"str": pa.string(), "Int64": pa.int64(), "int64": pa.int64(), "float64": pa.float64()}
_ROWS = "rows_sha256"
_VERSION_KEY = b"lipsrl_evaluation_schema"


def metadata_path(path: Path) -> Path:
    """The JSON file that belongs to a Parquet file."""
    return path.with_suffix(".json")


def write(path: Path, frame: pd.DataFrame, metadata: dict[str, Any]) -> None:
    """Both files, each whole or not at all; the same rows give the same Parquet file, byte for byte."""
    schema = pa.schema(
        [pa.field(name, _ARROW[dtype], nullable=name == "seed") for name, dtype in COLUMNS.items()],
        metadata={_VERSION_KEY: str(SCHEMA_VERSION).encode()},  # no times, no versions of pandas in here
    )
    arrays = [
        # nan is a value (undefined), only an unknown seed is null
        pa.array(frame[name], type=_ARROW[dtype], from_pandas=dtype == "Int64").cast(_ARROW[dtype])
        for name, dtype in COLUMNS.items()
    ]
    with atomic_path(path) as rows, atomic_path(metadata_path(path)) as beside:
        pq.write_table(pa.Table.from_arrays(arrays, schema=schema), rows, compression="zstd")
        # which rows it is about: a process may be killed between the two renames
        text = json.dumps({**metadata, _ROWS: _digest(rows)}, indent=2, allow_nan=False) + "\n"
        beside.write_text(text, encoding="utf-8")


def _digest(rows: Path) -> str:
    return hashlib.sha256(rows.read_bytes()).hexdigest()


def read(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The two files as frame and metadata.

    Raises:
        FileNotFoundError: one of the two is missing.
        ValueError: no Parquet or JSON, another schema, or metadata of other rows.
    """
    for part in (path, metadata_path(path)):
        if not part.is_file():
            raise FileNotFoundError(
                f"{str(part)!r} is not there: an evaluation is the two files {path.name!r} and "
                f"{metadata_path(path).name!r} that Evaluation.save wrote."
            )
    try:
        table = pq.read_table(path)
        metadata = json.loads(metadata_path(path).read_text(encoding="utf-8"))
    except (pa.ArrowInvalid, json.JSONDecodeError) as error:
        raise ValueError(f"{str(path)!r} (or the JSON beside it) is not an evaluation: {error}") from error
    told = metadata.pop(_ROWS, None) if isinstance(metadata, dict) else None
    if told is not None and told != _digest(path):
        raise ValueError(
            f"{metadata_path(path).name!r} is of other rows than {str(path)!r} has: saving was cut off between the "
            "two, or one was copied without the other. Evaluate again."
        )
    version = (table.schema.metadata or {}).get(_VERSION_KEY, b"none").decode()
    if version not in map(str, READABLE_VERSIONS):
        raise ValueError(
            f"{str(path)!r} has schema version {version}, this lipsrl reads {READABLE_VERSIONS}. "
            "Evaluate again, or use the lipsrl version that wrote it."
        )
    frame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return conform(frame), metadata
