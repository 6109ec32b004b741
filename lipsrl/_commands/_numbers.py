"""Numbers that a command is given: in options and in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def one_or_many(values: list[float]) -> list[float] | float | None:
    """A list of one number speaks for all sensors; an empty one was not given."""
    if len(values) == 1:
        return values[0]
    return values or None


def read_states(path: Path) -> NDArray[np.float64]:
    """(n, obs) raw observations.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another format, or no numbers.
    """
    if not path.is_file():
        raise FileNotFoundError(f"states={str(path)!r} is not a file.")
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        elif path.suffix == ".csv":
            values = np.loadtxt(path, delimiter=",", ndmin=2)
        else:
            raise ValueError("expected the ending .npy or .csv")
        return np.asarray(values, dtype=np.float64)
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"states={str(path)!r} cannot be read: {error}. Expected raw observations, one per row: what numpy.save "
            "wrote, or numbers separated by commas without a header."
        ) from error
