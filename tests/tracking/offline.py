"""Reading W&B's offline files back, as `wandb sync` would send them."""

import functools
import json
import subprocess
from pathlib import Path

from wandb.util import get_core_path


def base(key):
    """The key that was logged, of one that W&B made of it for a table, chart or file."""
    return key.split(".")[0].removesuffix("_table")


class Run:
    """One offline run.

    Attributes:
        raw: the records as text.
        info: group, job type, name.
        config, summary: as they are in the end.
        history: rows.
        metrics: what was defined, by name or pattern.
        artifacts: records.
        folder: of its files.
    """

    def __init__(self, path):
        # what `wandb leet inspect --json` starts, without the two seconds of Python around it
        place = ["--run-file", str(path.resolve()), str(path.resolve().parent.parent)]
        command = [get_core_path(), "leet", "inspect", "--no-observability", "--json", *place]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        self.raw, self.folder = done.stdout, path.parent
        self.info, self.config, self.summary = {}, {}, {}
        self.history, self.metrics, self.artifacts, self.kinds = [], {}, [], set()
        for line in self.raw.splitlines():
            record = json.loads(line)
            kind = record["type"]
            self.kinds.add(kind)
            body = record.get(kind, {})
            if kind == "run":
                self.info = body
                self.config |= body.get("config", {}).get("update", {})
            elif kind == "config":
                self.config |= body.get("update", {})
            elif kind == "summary":
                self.summary |= body.get("update", {})
            elif kind == "history":
                self.history.append(body["item"])
            elif kind == "metric":
                self.metrics[body.get("name") or body["glob_name"]] = body
            elif kind == "artifact":
                self.artifacts.append(body)

    @property
    def keys(self):
        """All keys of the history, those of tables and media without what W&B puts behind them."""
        return {base(key) for row in self.history for key in row if not key.startswith("_")}

    def agents(self):
        """(name, used or made, files) of the artifacts that are agents."""
        return [
            (
                artifact["name"],
                "used" if artifact.get("use_after_commit") else "made",
                {entry["path"] for entry in artifact["manifest"]["contents"]},
            )
            for artifact in self.artifacts
            if artifact["type"] == "agent"
        ]

    def table(self, key):
        """Columns and rows of the table that was logged as ``key``."""
        path = next(row[f"{key}.path"] for row in self.history if f"{key}.path" in row)
        data = json.loads((self.folder / "files" / path).read_text())
        return data["columns"], data["data"]


def runs_in(folder):
    """All offline runs below ``folder``, in the order they began."""
    found = sorted(Path(folder).rglob("run-*.wandb"), key=lambda p: p.stat().st_mtime)
    return [_read(path, path.stat().st_mtime_ns) for path in found]


@functools.cache
def _read(path, _):
    return Run(path)
