"""The table: its columns, types and version. A change of either raises the version."""

from __future__ import annotations

import numpy as np
import pandas as pd

#: Of the table that is written; readers refuse what they do not know.
SCHEMA_VERSION = 2

#: versions that can be read: 1 had no column ``nonfinite``, because such episodes were refused
READABLE_VERSIONS = (1, 2)

#: column -> type, in this order; units as documented in `Evaluation`
COLUMNS: dict[str, str] = {
    "agent": "str",
    "seed": "Int64",
    "disturbance": "str",
    "strength": "float64",
    "episode": "int64",
    "env_seed": "int64",
    "return": "float64",
    "length": "int64",
    "action_fluctuation": "float64",
    "total_variation": "float64",
    "jerk": "float64",
    "spectral_smoothness": "float64",
    "high_frequency_ratio": "float64",
    "saturation": "float64",
    "action_sensitivity": "float64",
    "nonfinite": "str",
}

#: what an episode may have ended at because it was not finite
NONFINITE = ("observation", "disturbed_observation", "action", "reward")

#: what identifies a row
KEY = ["agent", "seed", "disturbance", "strength", "episode"]

#: columns that are measured, and may be summarised
MEASURES = [c for c in COLUMNS if c not in KEY and c not in ("env_seed", "nonfinite")]


def conform(frame: pd.DataFrame) -> pd.DataFrame:
    """A copy of ``frame`` with exactly the columns, order and types of the schema.

    ``nonfinite`` may be missing (as in version 1): all episodes were finite then.

    Raises:
        ValueError: a column is missing or unknown, a value does not fit its type or meaning, a key or strength
            is missing, or two rows have the same key.
    """
    if "nonfinite" not in frame.columns:
        frame = frame.assign(nonfinite="")
    missing = [c for c in COLUMNS if c not in frame.columns]
    unknown = [str(c) for c in frame.columns if c not in COLUMNS]
    if missing or unknown:
        raise ValueError(
            f"an evaluation table (schema version {SCHEMA_VERSION}) has the columns {list(COLUMNS)}; "
            f"missing: {missing or 'none'}, unknown: {unknown or 'none'}."
        )
    if frame[[c for c in KEY if c != "seed"]].isna().any(axis=None):
        raise ValueError("agent, disturbance, strength and episode must be given in every row.")
    try:
        table = frame[list(COLUMNS)].reset_index(drop=True).astype(COLUMNS)
    except (TypeError, ValueError) as error:
        raise ValueError(f"a value does not fit the schema {COLUMNS}: {error}") from error
    strange = ~table["nonfinite"].isin(["", *NONFINITE])
    if strange.any():
        raise ValueError(
            f"nonfinite must be one of {NONFINITE}, or empty; received {table['nonfinite'][strange].iloc[0]!r}."
        )
    repeated = table.duplicated(KEY)
    if repeated.any():
        first = table.loc[int(np.argmax(repeated)), KEY].to_dict()
        raise ValueError(f"each episode may stand in the table once, but there are two rows with {first}.")
    return table
