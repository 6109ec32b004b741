"""Which panels a dashboard of smoothness has, section by section: the saved view and the report show the same ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from lipsrl.tracking._panels import (
    Contents,
    auc,
    bars,
    curve,
    layer_curves,
    logged_lines,
    media,
    over_strength,
    scatter,
    table,
)


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


def _answer(contents: Contents) -> Iterator[Any]:
    yield scatter(
        contents,
        "Return against action fluctuation under noise (up and left is better)",
        "robustness/noisy_action_fluctuation",
        "robustness/noisy_return",
    )
    for disturbance in contents.disturbances[:1]:
        yield bars(contents, f"Share of the return that survives: {disturbance}", auc(disturbance))
    yield scatter(
        contents,
        "Certified slope against its tightness (left: smoother; up: known more exactly)",
        "certificate/upper_bound",
        "certificate/tightness",
        log_x=True,
    )
    yield table(contents, "tables/robustness")


def _learning(contents: Contents) -> Iterator[Any]:
    yield curve(contents, "Return of the training episodes", "rollout/ep_rew_mean")
    yield curve(contents, "Return without disturbance", "robustness/clean_return")
    yield curve(contents, "Return under noise", "robustness/noisy_return")
    yield curve(contents, "Action fluctuation on visited states", "smoothness/action_fluctuation")
    yield curve(contents, "Action fluctuation under noise", "robustness/noisy_action_fluctuation")
    yield curve(contents, "Slope where it is steepest", "smoothness/max_sensitivity", log_y=True)
    yield curve(
        contents,
        "Proven bound, promise, and what the task demands",
        "smoothness/lipschitz_bound",
        "smoothness/promise",
        "smoothness/feasibility_floor",
        log_y=True,
    )
    yield curve(contents, "Share of the bound that is used", "smoothness/tightness")
    yield curve(
        contents,
        "Steps at an action limit, or at which a discrete action changes",
        "smoothness/saturation",
        "smoothness/action_changes",
    )
    yield layer_curves(contents, "Share of its budget that each layer uses", "smoothness/layer_share/<i>")


def _robustness(contents: Contents) -> Iterator[Any]:
    for disturbance in contents.disturbances:
        yield over_strength(
            contents, "Return with its 95 % interval", disturbance, "return", "return_low", "return_high"
        )
        yield over_strength(contents, "Action fluctuation", disturbance, "action_fluctuation")
        yield bars(contents, f"Share of the return that survives: {disturbance}", auc(disturbance))
    for attack in contents.attacks if "attack" in contents.jobs else ():
        yield over_strength(
            contents,
            "Return under attack, with its 95 % interval",
            attack,
            "return",
            "return_low",
            "return_high",
        )
        yield over_strength(contents, "Action fluctuation under attack", attack, "action_fluctuation")
    yield bars(contents, "Return under the worst attack", "robustness/worst_attack_return")
    yield table(contents, "tables/degradation")


def _certificates(contents: Contents) -> Iterator[Any]:
    yield bars(contents, "Proven: action per raw unit", "certificate/upper_bound")
    yield bars(contents, "Steepest slope found", "certificate/lower_bound")
    yield bars(contents, "Tightness of the certificate", "certificate/tightness")
    yield scatter(
        contents,
        "Proven of the network against steepest found",
        "certificate/network_lower_bound",
        "certificate/network_upper_bound",
    )
    yield table(contents, "tables/certificate")
    yield table(contents, "tables/sensors")


def _actions(contents: Contents) -> Iterator[Any]:
    yield logged_lines(
        contents, "Actions of one episode, same start, same noise", "actions/trace", "time (s, or steps)"
    )
    yield logged_lines(
        contents, "Power of the actions over frequency", "actions/spectrum", "frequency (Hz, or 1/step)"
    )
    yield media(contents, "The same episode, rendered", "actions/clip")


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
