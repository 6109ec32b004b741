"""A run folder: everything that one training left behind, under fixed names."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from lipsrl._files import atomic_path, write_text
from lipsrl.actors.loading import load_model
from lipsrl.actors.normalization import load_vec_normalize

SCHEMA_VERSION = 1


def are_switches(given: Any) -> bool:
    """Names with finite numbers, true or false: what is taken from a file. A text may be the path of one that the
    environment would open.
    """
    return isinstance(given, dict) and all(
        isinstance(name, str) and type(value) in (bool, int, float) and abs(value) < sys.float_info.max
        for name, value in given.items()
    )


@dataclass(frozen=True)
class RunFolder:
    """``{config.json, model.zip, vecnormalize.pkl?, progress.csv, certificate.json, evaluation.parquet, wandb/}``.

    Each file is written to a temporary name and renamed.
    """

    path: Path

    @property
    def config_file(self) -> Path:
        return self.path / "config.json"

    @property
    def model_file(self) -> Path:
        return self.path / "model.zip"

    @property
    def normalization_file(self) -> Path:
        return self.path / "vecnormalize.pkl"

    @property
    def certificate_file(self) -> Path:
        return self.path / "certificate.json"

    @property
    def evaluation_file(self) -> Path:
        return self.path / "evaluation.parquet"

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """The run folder at ``path``.

        Raises:
            FileNotFoundError: no such folder, or one without config or model; says what is missing.
        """
        folder = cls(Path(path))
        if not folder.path.is_dir():
            raise FileNotFoundError(
                f"{str(path)!r} is not a run folder: no such directory. `lipsrl pack MODEL.zip "
                "STATS.pkl --env ID --output DIR` makes one."
            )
        for file in (folder.config_file, folder.model_file):
            if not file.is_file():
                raise FileNotFoundError(
                    f"{str(path)!r} is not a complete run folder: {file.name} is missing. Give the zip "
                    "itself, or make a run folder of it: `lipsrl pack MODEL.zip STATS.pkl --env ID --output DIR`."
                )
        if folder.read_config().get("vec_normalize") and not folder.normalization_file.is_file():
            raise FileNotFoundError(
                f"{str(path)!r} was trained with VecNormalize, but its {folder.normalization_file.name} is missing. "
                "Without it the model acts, and is certified, as another controller: restore the file or train again."
            )
        return folder

    def read_config(self) -> dict[str, Any]:
        """The settings of the run."""
        try:
            config = json.loads(self.config_file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{str(self.config_file)!r} cannot be read as JSON: {error}") from error
        if not isinstance(config, dict):
            raise ValueError(
                f"{str(self.config_file)!r} must hold an object with the settings of the run, holds {config!r:.40}."
            )
        return config

    def write_config(self, config: dict[str, Any]) -> None:
        """Write the settings of the run."""
        text = json.dumps({"schema_version": SCHEMA_VERSION, **config}, indent=2, sort_keys=True)
        write_text(self.config_file, text + "\n")

    def save_model(self, model: BaseAlgorithm, vec_normalize: VecNormalize | None = None) -> None:
        """Save ``model`` and its VecNormalize: the given one, or that around its environment.

        Raises:
            ValueError: a student of a normalised teacher without one: it would be another controller.
        """
        statistics = model.get_vec_normalize_env() if vec_normalize is None else vec_normalize
        if statistics is None and getattr(model, "needs_vec_normalize", False):
            raise ValueError(
                "the model was made to act behind a VecNormalize, but its environment has none. Pass it as "
                "vec_normalize=."
            )
        if statistics is not None:
            # SB3's save wants what only an environment gives, and does not keep it
            vars(statistics).setdefault("class_attributes", {})
            vars(statistics).setdefault("returns", None)
            with atomic_path(self.normalization_file) as temporary:
                statistics.save(str(temporary))
        with atomic_path(self.model_file) as temporary:
            model.save(temporary)

    def load(self) -> tuple[BaseAlgorithm, VecNormalize | None]:
        """The model, and its frozen normalisation if it has one.

        Raises:
            FileNotFoundError: a student of a normalised teacher, whose statistics are missing.
        """
        statistics = (
            load_vec_normalize(self.normalization_file) if self.normalization_file.is_file() else None
        )
        model = load_model(self.model_file)
        if statistics is None and getattr(model, "needs_vec_normalize", False):
            raise FileNotFoundError(
                f"{str(self.path)!r} holds a model that was made to act behind a VecNormalize, but its "
                f"{self.normalization_file.name} is missing. Restore the file, or make the model again."
            )
        return model, statistics
