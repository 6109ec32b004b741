"""The log of a training as SB3 leaves it: ``progress.csv``."""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd


def read_progress(path: str | Path) -> pd.DataFrame | None:
    """``progress.csv`` of a run folder, or the file itself; None where there is none, or nothing to read in it.

    A training that was killed may leave half a line: what stands before it is read.

    Warns:
        UserWarning: the file is no table.
    """
    file = Path(path)
    file = file / "progress.csv" if file.is_dir() else file
    if not file.is_file():
        return None
    try:
        table = pd.read_csv(file, on_bad_lines="skip")
    except pd.errors.EmptyDataError:  # the training has not written yet
        return None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        warnings.warn(f"{file} cannot be read, so its curves are left out: {error}", stacklevel=2)
        return None
    return table if len(table) else None
