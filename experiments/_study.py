"""A study on disk: what was measured of each run, small enough to be kept beside the code.

``experiments/results/NAME/study.json`` says what was measured, how, and what is known of each run (certificate, time);
``conditions.parquet`` has one row per run and condition, means over the episodes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd

from lipsrl._files import atomic_path, write_text

SCHEMA = 1
#: Which run, and under what.
KEYS = ["setting", "agent", "seed", "family", "disturbance", "strength"]
#: Means over the episodes of a run under one condition.
MEASURED = ["return", "action_fluctuation", "high_frequency_ratio"]
COLUMNS = [*KEYS, "episodes", *MEASURED]


@dataclass(frozen=True)
class Setting:
    """A task with the kind of its plain agents: what statistics over tasks call a task.

    Attributes:
        task, env_id: which.
        plain_recipe: of the plain agents (see agents/).
        floor: return that counts as nothing; None: not known.
        strengths: of the noise, raw sensor units, the first is 0.
        chatter_strength: white noise at which the fluctuation is quoted.
        epsilons: of the attacks, l-inf, in units of what the policy receives.
        evaluation_seed: of the episodes.
    """

    task: str
    env_id: str
    plain_recipe: str
    floor: float | None
    strengths: list[float]
    chatter_strength: float
    epsilons: list[float] = field(default_factory=list)
    evaluation_seed: int = 0

    @property
    def epsilon(self) -> float | None:
        """The radius that tables quote: the second that was measured, or the only one."""
        return self.epsilons[:2][-1] if self.epsilons else None


@dataclass(frozen=True)
class Run:
    """What is known of a run without playing.

    Attributes:
        setting, agent, seed: which.
        seconds: its training, or making, took; None: not known.
        upper_bound, lower_bound: of the certificate, raw units, l2; None: no certificate.
        newest: of a window, where only the newest frame is off.
        network_tightness: of the network alone, in units of what the policy receives.
        promise: K that it was made under, in those units; None: none, or not known.
    """

    setting: str
    agent: str
    seed: int
    seconds: float | None = None
    upper_bound: float | None = None
    lower_bound: float | None = None
    newest: float | None = None
    network_tightness: float | None = None
    promise: float | None = None

    @property
    def name(self) -> str:
        """As one would say it."""
        return f"{self.agent} of {self.setting}, seed {self.seed}"


@dataclass(frozen=True)
class Study:
    """What a study measured.

    Attributes:
        plain: name of the plain agent, that others are compared with.
        agents: name → what it is.
        commands: that made the runs, and the one that collected them.
        settings: name → setting.
        runs: one per agent, seed and setting.
        conditions: :data:`COLUMNS`.
        versions: of the packages, each with all that occurred.
    """

    name: str
    plain: str
    agents: Mapping[str, str]
    commands: Sequence[str]
    settings: Mapping[str, Setting]
    runs: Sequence[Run]
    conditions: pd.DataFrame
    versions: Mapping[str, list[str]] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Leave both files in ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / "conditions.parquet") as file:
            self.conditions.to_parquet(file, index=False, compression="zstd")
        record = {
            "schema_version": SCHEMA,
            "study": self.name,
            "plain": self.plain,
            "agents": dict(self.agents),
            "commands": list(self.commands),
            "settings": {name: asdict(setting) for name, setting in self.settings.items()},
            "versions": dict(self.versions),
            "conditions": len(self.conditions),
        }
        lines = json.dumps(record, indent=2, ensure_ascii=False).removesuffix("\n}")
        runs = ",\n".join(f"    {json.dumps(asdict(run))}" for run in self.runs)  # one line per run
        write_text(folder / "study.json", f'{lines},\n  "runs": [\n{runs}\n  ]\n}}\n')

    @classmethod
    def load(cls, folder: Path) -> Study:
        """What :meth:`save` left.

        Raises:
            ValueError: files that cannot be read, or that do not belong together.
        """
        file = folder / "study.json"
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            if record["schema_version"] != SCHEMA:
                raise ValueError(
                    f"{file} has schema_version={record['schema_version']!r}, this code reads {SCHEMA}. Collect it "
                    "again (python -m experiments.results --collect RUNS --study NAME)."
                )
            settings = {name: Setting(**setting) for name, setting in record["settings"].items()}
            runs = [Run(**run) for run in record["runs"]]
            study = cls(
                record["study"], record["plain"], record["agents"], record["commands"], settings, runs,
                _conditions(folder / "conditions.parquet", record["conditions"]), record["versions"],
            )  # fmt: skip
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{file} is no study.json ({type(error).__name__}: {error}). Collect it again."
            ) from error
        return study


def _conditions(file: Path, rows: int) -> pd.DataFrame:
    frame = read_parquet(file)
    missing = [column for column in COLUMNS if column not in frame]
    if missing:
        raise ValueError(f"{file} lacks the columns {', '.join(missing)}. Collect it again.")
    if len(frame) != rows:
        raise ValueError(
            f"{file} has {len(frame)} rows and study.json speaks of {rows}: they are not of one collection. "
            "Collect it again."
        )
    return frame


def read_parquet(file: Path) -> pd.DataFrame:
    """Rows of a file; ``ValueError`` with its name where that does not work."""
    try:
        return pd.read_parquet(file)
    except FileNotFoundError:
        raise ValueError(f"{file} is missing. Collect the study again.") from None
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise ValueError(
            f"{file} cannot be read as Parquet ({str(error).splitlines()[0]}). Make it again."
        ) from error


def studies(folder: Path) -> tuple[list[Study], list[str]]:
    """All studies in ``folder``, by name, and the names of the folders that hold Parquet files but no study.

    Raises:
        ValueError: no folder, no study in it, or one that cannot be read.
    """
    if not folder.is_dir():
        raise ValueError(f"studies={str(folder)!r} is no folder. Call from the checkout, or give --studies.")
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = [Study.load(path) for path in inside if (path / "study.json").is_file()]
    if not found:
        raise ValueError(
            f"No study in {folder}: no folder in it has a study.json. Make one by "
            "python -m experiments.results --collect RUNS --study NAME."
        )
    others = [path for path in inside if not (path / "study.json").is_file() and any(path.glob("*.parquet"))]
    return found, [path.name for path in others]
