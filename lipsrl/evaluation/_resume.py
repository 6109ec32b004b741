"""Finished episodes on disk, so that an interrupted evaluation need not start again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lipsrl._files import write_text
from lipsrl.actors.fingerprint import digest
from lipsrl.evaluation._rollout import Task

Row = dict[str, Any]


class Store:
    """A folder of small JSON files, each with the rows of some episodes under the key of what they belong to.

    Files are written whole and never changed, so several evaluations may share a folder.

    Args:
        path: the folder; made if it is missing.

    Raises:
        ValueError: something else is there, or a file in it is not one of these.
    """

    def __init__(self, path: str | Path) -> None:
        self._folder = Path(path)
        if self._folder.exists() and not self._folder.is_dir():
            raise ValueError(
                f"resume={str(path)!r} must be a folder (or not be there yet), but a file of this name is there. "
                "Finished episodes are kept in it until they are deleted."
            )
        self._rows: dict[str, dict[Task, Row]] = {}
        for file in sorted(self._folder.glob("*.json")):
            if file.name.startswith("."):
                continue  # being written by another process, or by one that was killed
            try:
                content = json.loads(file.read_text(encoding="utf-8"))
                rows = {Task(strength, episode): row for strength, episode, row in content["rows"]}
                self._rows.setdefault(content["key"], {}).update(rows)
            except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{str(file)!r} is not what an evaluation left behind ({type(error).__name__}: {error}). "
                    "Delete it, or give resume= another folder."
                ) from error

    def rows(self, key: str, tasks: Sequence[Task]) -> dict[Task, Row]:
        """What is known of these episodes."""
        known = self._rows.get(key, {})
        return {task: known[task] for task in tasks if task in known}

    def keep(self, key: str, rows: dict[Task, Row]) -> None:
        """Write the rows of some episodes."""
        if rows:
            listed = [[task.strength, task.episode, row] for task, row in rows.items()]
            name = digest([key, sorted([t.strength, t.episode] for t in rows)])[:32]
            write_text(self._folder / f"{name}.json", json.dumps({"key": key, "rows": listed}))
