"""Load an SB3 zip whose algorithm is not named beside it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm

# A key that an algorithm's saved data has and the others' have not, most telling first. DDPG is saved as TD3 is.
_TELLTALE: tuple[tuple[str, type[BaseAlgorithm]], ...] = (
    ("clip_range", PPO),
    ("target_entropy", SAC),
    ("policy_delay", TD3),
    ("exploration_fraction", DQN),
    ("gae_lambda", A2C),
)

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {cls.__name__: cls for _, cls in _TELLTALE}


def algorithm_of(path: str | Path) -> type[BaseAlgorithm]:
    """The SB3 class that saved the zip at ``path``, read from the names in it (nothing is unpickled).

    Raises:
        FileNotFoundError: no such file.
        ValueError: no SB3 zip, damaged, or of an algorithm that is not known here.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"{str(path)!r} is not a file. Expected a zip that an SB3 model.save() wrote."
        )
    try:
        with zipfile.ZipFile(file) as archive:
            keys = set(json.loads(archive.read("data")))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise ValueError(
            f"{str(path)!r} is not a readable Stable-Baselines3 zip ({error}). Expected what model.save() wrote; "
            "copy it again or load an earlier checkpoint."
        ) from error
    for key, cls in _TELLTALE:
        if key in keys:
            return cls
    raise ValueError(
        f"{str(path)!r} was saved by an algorithm that is not known here. Known: {', '.join(ALGORITHMS)}."
    )


def load_model(path: str | Path) -> BaseAlgorithm:
    """Load an SB3 zip on the CPU. Loading runs code that the zip contains: open only files that you trust.

    Raises:
        FileNotFoundError, ValueError: see :func:`algorithm_of`.
    """
    model: BaseAlgorithm = algorithm_of(path).load(path, device="cpu")
    return model
