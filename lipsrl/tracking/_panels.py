"""The kinds of panel that a dashboard has, each of keys of the scheme of names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lipsrl.tracking._wandb_workspaces import import_workspaces
from lipsrl.tracking.names import NAMES, STEP, Job, Name, name_of

#: Runs that a panel shows, where W&B would stop at ten. Its panels of tables stop at 500 too.
MAX_RUNS = 500

_ENTRIES = {name.key: name for name in NAMES}


@dataclass(frozen=True)
class Contents:
    """What a project holds: panels of anything else would stay empty.

    Attributes:
        disturbances: parts of keys (:func:`lipsrl.tracking.names.key_part`), in the order of the panels.
        attacks: the same of attacks, which have no AUC: their strength is a radius.
        jobs: what has been run.
    """

    disturbances: tuple[str, ...]
    attacks: tuple[str, ...]
    jobs: frozenset[Job]

    def has(self, name: Name) -> bool:
        """Whether runs of these jobs log ``name``."""
        return bool(self.jobs.intersection(name.jobs))


# A panel is of keys of the scheme. What no job of this project logs is left out, and so is a panel without any.


def _entries(contents: Contents, keys: Sequence[str]) -> list[Name]:
    return [_ENTRIES[key] for key in keys if contents.has(_ENTRIES[key])]


def _axis(entry: Name) -> str:
    return f"{entry.what.split(';')[0]} [{entry.unit}]" if entry.unit else entry.what


def _by_agent() -> dict[str, Any]:
    _, reports = import_workspaces()
    return {"groupby": reports.Config("agent"), "groupby_aggfunc": "mean", "groupby_rangefunc": "stderr"}


def curve(contents: Contents, title: str, *keys: str, log_y: bool | None = None) -> Any:
    """Curves of a training, the mean of each agent with its standard error."""
    _, reports = import_workspaces()
    entries = _entries(contents, keys)
    if not entries:
        return None
    return reports.LinePlot(
        title=title,
        x=STEP,
        y=[entry.key for entry in entries],
        title_x="environment steps",
        title_y=entries[0].unit,
        log_y=log_y,
        max_runs_to_show=MAX_RUNS,
        **_by_agent(),
    )


def layer_curves(contents: Contents, title: str, key: str) -> Any:
    """Curves of each layer; how many there are differs from agent to agent."""
    _, reports = import_workspaces()
    (entry,) = _entries(contents, [key]) or (None,)
    if entry is None:
        return None
    return reports.LinePlot(
        title=title,
        x=STEP,
        y=[],
        metric_regex=entry.key.replace("<i>", "[0-9]+"),
        title_x="environment steps",
        title_y=entry.unit,
        max_runs_to_show=MAX_RUNS,
        **_by_agent(),
    )


def over_strength(contents: Contents, title: str, disturbance: str, *keys: str) -> Any:
    _, reports = import_workspaces()
    entries = _entries(contents, [f"robustness/<disturbance>/{key}" for key in keys])
    if not entries:
        return None
    step = _ENTRIES[entries[0].step]
    return reports.LinePlot(
        title=f"{title}: {disturbance}",
        x=step.of(disturbance=disturbance),
        y=[entry.of(disturbance=disturbance) for entry in entries],
        title_x=f"strength [{step.unit}]",
        title_y=entries[0].unit,
        max_runs_to_show=MAX_RUNS,
        **_by_agent(),
    )


def bars(contents: Contents, title: str, *keys: str) -> Any:
    """The mean of each agent over its seeds; our own intervals are in the tables."""
    _, reports = import_workspaces()
    entries = [(key, name_of(key)) for key in keys]
    found = [(key, entry) for key, entry in entries if entry is not None and contents.has(entry)]
    if not found:
        return None
    return reports.BarPlot(
        title=title,
        metrics=[key for key, _ in found],
        title_x=_axis(found[0][1]),
        max_runs_to_show=MAX_RUNS,
        max_bars_to_show=MAX_RUNS,
        **_by_agent(),
    )


def scatter(contents: Contents, title: str, x: str, y: str, **options: Any) -> Any:
    _, reports = import_workspaces()
    if len(_entries(contents, [x, y])) < 2:
        return None
    return reports.ScatterPlot(title=title, x=_ENTRIES[x].key, y=_ENTRIES[y].key, **options)


def table(contents: Contents, key: str) -> Any:
    _, reports = import_workspaces()
    return reports.panels.WeavePanelSummaryTable(table_name=key) if _entries(contents, [key]) else None


def logged_lines(contents: Contents, title: str, key: str, x_title: str, **parts: str) -> Any:
    """Lines that a run logged with ``wandb.plot.line_series``, of all runs that are shown."""
    _, reports = import_workspaces()
    (entry,) = _entries(contents, [key]) or (None,)
    if entry is None:
        return None
    return reports.CustomChart(
        query={"summaryTable": {"tableKey": f"{entry.of(**parts)}_table"}},
        chart_name="wandb/lineseries/v0",
        chart_fields={"step": "step", "lineKey": "lineKey", "lineVal": "lineVal"},
        chart_strings={"title": title, "xname": x_title},
    )


def media(contents: Contents, title: str, key: str) -> Any:
    _, reports = import_workspaces()
    if not _entries(contents, [key]):
        return None
    return reports.MediaBrowser(
        title=title, media_keys=[key], num_columns=2, mode="grid", grid_x_axis="run", grid_y_axis="index"
    )


def auc(disturbance: str) -> str:
    return _ENTRIES["robustness/<disturbance>/auc"].of(disturbance=disturbance)
