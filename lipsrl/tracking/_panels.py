"""Which panels a dashboard of smoothness has, section by section: the saved view and the report show the same ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
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


@dataclass(frozen=True)
class Section:
    """Panels that answer one question.

    Attributes:
        name: of the section.
        text: one paragraph: how to read it.
        panels: wandb-workspaces' own, without a layout.
    """

    name: str
    text: str
    panels: list[Any]


def sections(contents: Contents) -> list[Section]:
    """All sections that have a panel, in reading order.

    Raises:
        ImportError: wandb-workspaces is not installed.
    """
    built = []
    for name, (text, make) in _SECTIONS.items():
        panels = [panel for panel in make(contents) if panel is not None]
        for panel in panels:
            # W&B draws them at random; the same dashboard shall be the same file
            panel._id = hashlib.sha256(f"{name}/{_describe(panel)}".encode()).hexdigest()[:12]
        if panels:
            built.append(Section(name, text, panels))
    return built


def _describe(panel: Any) -> str:
    return repr(panel._to_model().model_dump(exclude={"id", "layout"}))


# A panel is of keys of the scheme. What no job of this project logs is left out, and so is a panel without any.


def _entries(contents: Contents, keys: Sequence[str]) -> list[Name]:
    return [_ENTRIES[key] for key in keys if contents.has(_ENTRIES[key])]


def _axis(entry: Name) -> str:
    return f"{entry.what.split(';')[0]} [{entry.unit}]" if entry.unit else entry.what


def _by_agent() -> dict[str, Any]:
    _, reports = import_workspaces()
    return {"groupby": reports.Config("agent"), "groupby_aggfunc": "mean", "groupby_rangefunc": "stderr"}


def _curve(contents: Contents, title: str, *keys: str, log_y: bool | None = None) -> Any:
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


def _layers(contents: Contents, title: str, key: str) -> Any:
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


def _over_strength(contents: Contents, title: str, disturbance: str, *keys: str) -> Any:
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


def _bars(contents: Contents, title: str, *keys: str) -> Any:
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


def _scatter(contents: Contents, title: str, x: str, y: str, **options: Any) -> Any:
    _, reports = import_workspaces()
    if len(_entries(contents, [x, y])) < 2:
        return None
    return reports.ScatterPlot(title=title, x=_ENTRIES[x].key, y=_ENTRIES[y].key, **options)


def _table(contents: Contents, key: str) -> Any:
    _, reports = import_workspaces()
    return reports.panels.WeavePanelSummaryTable(table_name=key) if _entries(contents, [key]) else None


def _lines(contents: Contents, title: str, key: str, x_title: str, **parts: str) -> Any:
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


def _media(contents: Contents, title: str, key: str) -> Any:
    _, reports = import_workspaces()
    if not _entries(contents, [key]):
        return None
    return reports.MediaBrowser(
        title=title, media_keys=[key], num_columns=2, mode="grid", grid_x_axis="run", grid_y_axis="index"
    )


def _auc(disturbance: str) -> str:
    return _ENTRIES["robustness/<disturbance>/auc"].of(disturbance=disturbance)


def _answer(contents: Contents) -> Iterator[Any]:
    yield _scatter(
        contents,
        "Return against action fluctuation under noise (up and left is better)",
        "robustness/noisy_action_fluctuation",
        "robustness/noisy_return",
    )
    for disturbance in contents.disturbances[:1]:
        yield _bars(contents, f"Share of the return that survives: {disturbance}", _auc(disturbance))
    yield _scatter(
        contents,
        "Certified slope against its tightness (left: smoother; up: known more exactly)",
        "certificate/upper_bound",
        "certificate/tightness",
        log_x=True,
    )
    yield _table(contents, "tables/robustness")


def _learning(contents: Contents) -> Iterator[Any]:
    yield _curve(contents, "Return of the training episodes", "rollout/ep_rew_mean")
    yield _curve(contents, "Return without disturbance", "robustness/clean_return")
    yield _curve(contents, "Return under noise", "robustness/noisy_return")
    yield _curve(contents, "Action fluctuation on visited states", "smoothness/action_fluctuation")
    yield _curve(contents, "Action fluctuation under noise", "robustness/noisy_action_fluctuation")
    yield _curve(contents, "Slope where it is steepest", "smoothness/max_sensitivity", log_y=True)
    yield _curve(
        contents,
        "Proven bound, promise, and what the task demands",
        "smoothness/lipschitz_bound",
        "smoothness/promise",
        "smoothness/feasibility_floor",
        log_y=True,
    )
    yield _curve(contents, "Share of the bound that is used", "smoothness/tightness")
    yield _curve(
        contents,
        "Steps at an action limit, or at which a discrete action changes",
        "smoothness/saturation",
        "smoothness/action_changes",
    )
    yield _layers(contents, "Share of its budget that each layer uses", "smoothness/layer_share/<i>")


def _robustness(contents: Contents) -> Iterator[Any]:
    for disturbance in contents.disturbances:
        yield _over_strength(
            contents, "Return with its 95 % interval", disturbance, "return", "return_low", "return_high"
        )
        yield _over_strength(contents, "Action fluctuation", disturbance, "action_fluctuation")
        yield _bars(contents, f"Share of the return that survives: {disturbance}", _auc(disturbance))
    for attack in contents.attacks if "attack" in contents.jobs else ():
        yield _over_strength(
            contents,
            "Return under attack, with its 95 % interval",
            attack,
            "return",
            "return_low",
            "return_high",
        )
        yield _over_strength(contents, "Action fluctuation under attack", attack, "action_fluctuation")
    yield _bars(contents, "Return under the worst attack", "robustness/worst_attack_return")
    yield _table(contents, "tables/degradation")


def _certificates(contents: Contents) -> Iterator[Any]:
    yield _bars(contents, "Proven: action per raw unit", "certificate/upper_bound")
    yield _bars(contents, "Steepest slope found", "certificate/lower_bound")
    yield _bars(contents, "Tightness of the certificate", "certificate/tightness")
    yield _scatter(
        contents,
        "Proven of the network against steepest found",
        "certificate/network_lower_bound",
        "certificate/network_upper_bound",
    )
    yield _table(contents, "tables/certificate")
    yield _table(contents, "tables/sensors")


def _actions(contents: Contents) -> Iterator[Any]:
    yield _lines(contents, "Actions of one episode, same start, same noise", "actions/trace", "step")
    yield _lines(contents, "Power of the actions over frequency", "actions/spectrum", "frequency")
    yield _media(contents, "The same episode, rendered", "actions/clip")


_SECTIONS: dict[str, tuple[str, Callable[[Contents], Iterator[Any]]]] = {
    "answer": (
        "Who keeps its return under noise with calm actions, and what is proven of it. One dot is one run.",
        _answer,
    ),
    "learning": (
        "Over environment steps; the line is the mean of an agent's seeds, the band their standard error.",
        _learning,
    ),
    "robustness": (
        "Return and chatter as a disturbance grows. The share that survives (AUC) is 1 where nothing is lost and 0 at "
        "the return of random actions.",
        _robustness,
    ),
    "certificates": (
        "An upper bound is proven, a lower bound is a pair of observations that was found; the truth lies between.",
        _certificates,
    ),
    "actions": ("What the actuator receives.", _actions),
}
