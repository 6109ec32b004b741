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
