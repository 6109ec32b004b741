"""Which algorithm saved a zip, found from the names in it."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import zipfile
from pathlib import Path

from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm

#: A key that an algorithm's saved data has and those below it in the list have not. DDPG is saved as TD3 is.
_TELLTALE = (
    ("delta_std_schedule", "ARS"),
    ("cg_max_steps", "TRPO"),
    ("top_quantiles_to_drop_per_net", "TQC"),
    ("n_quantiles", "QRDQN"),
    ("clip_range", "PPO"),
    ("target_entropy", "SAC"),
    ("policy_delay", "TD3"),
    ("exploration_fraction", "DQN"),
    ("gae_lambda", "A2C"),
)

#: In the module of the policy class: what is saved with the same keys as another algorithm.
_BY_POLICY = (("maskable", "MaskablePPO"), ("recurrent", "RecurrentPPO"), ("crossq", "CrossQ"))

#: name → SB3 class.
ALGORITHMS: dict[str, type[BaseAlgorithm]] = {cls.__name__: cls for cls in (PPO, A2C, SAC, TD3, DQN)}


def is_address(path: str | Path) -> bool:
    """Whether ``path`` is one of the web; ``Path`` keeps a single slash of ``https://``."""
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:/", str(path)) is not None


def _class(name: str, path: Path) -> type[BaseAlgorithm]:
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    if importlib.util.find_spec("sb3_contrib") is None:
        raise ValueError(
            f"{str(path)!r} was saved by {name} of sb3-contrib, which is not installed. Install sb3-contrib."
        )
    cls: type[BaseAlgorithm] = getattr(importlib.import_module("sb3_contrib"), name)
    return cls


def algorithm_of(path: str | Path) -> type[BaseAlgorithm]:
    """The SB3 (or sb3-contrib) class that saved the zip at ``path``, read from the names in it (nothing is unpickled).

    Raises:
        FileNotFoundError: no such file.
        ValueError: no SB3 zip, damaged, a web address, or of an algorithm that is not known here or not installed.
    """
    if is_address(path):
        raise ValueError(f"{str(path)!r} is an address. Agents are opened from files: download it first.")
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"{str(path)!r} is not a file. Expected a zip that an SB3 model.save() wrote."
        )
    try:
        with zipfile.ZipFile(file) as archive:
            data = json.loads(archive.read("data"))
            keys, policy = set(data), data.get("policy_class")
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{str(path)!r} is not a readable Stable-Baselines3 zip ({error}). Expected what model.save() wrote; "
            "copy it again or load an earlier checkpoint."
        ) from error
    module = str(policy.get("__module__", "")) if isinstance(policy, dict) else ""
    for part, name in _BY_POLICY:
        if part in module:
            return _class(name, file)
    for key, name in _TELLTALE:
        if key in keys:
            return _class(name, file)
    raise ValueError(
        f"{str(path)!r} was saved by an algorithm that is not known here. Known: {', '.join(ALGORITHMS)}, and those "
        "of sb3-contrib."
    )
