"""What the panels of a dashboard ask W&B for, read from the models that are sent."""

from __future__ import annotations

import json
import re


def asked_for(panel):
    """``(keys, patterns)`` of runs that a panel shows; every kind of panel that we make is known here."""
    model = json.loads(panel._to_model().model_dump_json(by_alias=True, exclude_none=True))
    config = model["config"]
    match model["viewType"]:
        case "Run History Line Plot":
            patterns = {config["metricRegex"]} if config.get("useMetricRegex") else set()
            return {config["xAxis"], *config["metrics"]}, patterns
        case "Bar Chart":
            return set(config["metrics"]), set()
        case "Scatter Plot":
            return {config[axis].removeprefix("summary:") for axis in ("xAxis", "yAxis")}, set()
        case "Media Browser":
            return set(config["mediaKeys"]), set()
        case "Vega2":
            return set(re.findall(r'"tableKey", "value": "([^"]+)"', json.dumps(config))), set()
        case "Weave":
            return {panel.table_name}, set()
        case other:
            raise AssertionError(f"a panel that this test does not know: {other}")


def all_panels(view):
    return [panel for section in view.sections for panel in section.panels]


def grids(page):
    return [block for block in page.blocks if type(block).__name__ == "PanelGrid"]


def empty_panels(view, runs):
    """``(panel, keys)`` of a view that no run has logged, as W&B would look for them.

    Args:
        view: a workspace.
        runs: ``tests.tracking.offline.Run``.
    """
    lines = {key for run in runs for row in run.history for key in row}
    numbers = {key for run in runs for key in run.summary}
    # a table or clip is a reference with several entries: KEY.path, KEY._type, …
    files = {key.rsplit(".", 1)[0] for key in lines | numbers if key.endswith("._type")}
    found = []
    for panel in all_panels(view):
        keys, patterns = asked_for(panel)
        kind = type(panel).__name__
        known = {"LinePlot": lines, "BarPlot": numbers, "ScatterPlot": numbers}.get(kind, files)
        missing = keys - known | {p for p in patterns if not any(re.fullmatch(p, key) for key in known)}
        if kind == "LinePlot":  # and on one row with its x-axis
            x = json.loads(panel._to_model().model_dump_json(by_alias=True))["config"]["xAxis"]
            drawn = {key for run in runs for row in run.history if x in row for key in row}
            missing |= keys - drawn
        if kind == "ScatterPlot" and not any(keys <= set(run.summary) for run in runs):
            missing |= keys
        if missing:
            found.append((getattr(panel, "title", kind), sorted(missing)))
    return found


def unknown_columns(view, runs):
    """Pinned columns of the table of runs that no run fills."""
    known = {"run:displayName", "run:jobType"}
    for run in runs:
        known |= {f"config:{key}.value" for key in run.config} | {f"summary:{key}" for key in run.summary}
    return [column for column in view.runset_settings.pinned_columns if column not in known]
