"""The one scheme of names: what runs log, in which unit, from which job, and what W&B keeps of it.

docs/tracking.md holds the same as a table. Plain data: nothing here imports W&B or torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

#: The x-axis of every curve of a training.
STEP = "time/total_timesteps"

#: ``curve``: over a step; ``number``, ``text``: one per run, in its summary; the others: W&B's own.
Kind = Literal["curve", "number", "text", "table", "media", "chart"]

#: What a W&B run is called by what it did.
Job = Literal["train", "evaluate", "distill", "attack"]
JOBS: tuple[Job, ...] = ("train", "evaluate", "distill", "attack")

#: What W&B keeps of a curve: ``last`` under the key itself, ``max`` and ``min`` as ``KEY.max`` and ``KEY.min``.
Summary = Literal["last", "max", "min", "none"]

_MEASURED: tuple[Job, ...] = ("evaluate", "distill", "attack")
_EVALUATED: tuple[Job, ...] = ("evaluate", "distill")
_CERTIFIED = JOBS


@dataclass(frozen=True)
class Name:
    """One key of the scheme, or a pattern of keys.

    Attributes:
        key: as it is logged; ``<disturbance>``, ``<i>`` and ``*`` stand for what differs.
        unit: of the value.
        what: it is.
        jobs: that log it.
        kind: curve, number, text, table, media or chart.
        step: the key of a curve's x-axis; empty where there is none.
        summary: what W&B keeps of a curve.
    """

    key: str
    unit: str
    what: str
    jobs: tuple[Job, ...] = ("train",)
    kind: Kind = "curve"
    step: str = ""
    summary: Summary = "last"

    def of(self, **parts: str) -> str:
        """The key where ``<name>`` is ``parts[name]``."""
        key = self.key
        for name, part in parts.items():
            key = key.replace(f"<{name}>", key_part(part))
        return key

    def matches(self, key: str) -> bool:
        """Whether ``key`` is this key, or one of this pattern."""
        pattern = re.sub(r"<\w+>", "[^/]+", re.escape(self.key).replace(r"\*", ".+"))
        return re.fullmatch(pattern, key) is not None


def _curve(
    key: str, unit: str, what: str, summary: Summary = "last", jobs: tuple[Job, ...] = ("train",)
) -> Name:
    return Name(key, unit, what, jobs, step=STEP, summary=summary)


def _both(key: str, unit: str, what: str) -> Name:
    """Live over the training, and once of the evaluation."""
    return _curve(key, unit, what, jobs=JOBS)


def _strength(name: str, unit: str, what: str) -> Name:
    prefix = "robustness/<disturbance>/"
    return Name(prefix + name, unit, what, _MEASURED, step=prefix + "strength", summary="none")


def _number(
    key: str, unit: str, what: str, jobs: tuple[Job, ...] = _CERTIFIED, kind: Kind = "number"
) -> Name:
    return Name(key, unit, what, jobs, kind)


_SLOPE = "action per policy unit"  # logits or Q-values where actions are discrete
_RAW = "action per raw unit"

NAMES: tuple[Name, ...] = (
    # SB3's own
    Name(STEP, "environment steps", "the step of all curves of a training"),
    _curve("time/*", "as SB3", "iterations, episodes, fps, seconds"),
    _curve(
        "rollout/ep_rew_mean", "return", "mean return of the last 100 training episodes, disturbed as trained", "max"
    ),
    _curve("rollout/*", "as SB3", "of the training episodes: length, success rate"),
    _curve("train/*", "as SB3", "losses, learning rate, entropy, standard deviation"),
    # SmoothnessCallback, on the newest observations of the training
    _curve("smoothness/action_fluctuation", "action", "mean ‖μ(o_t+1) − μ(o_t)‖ of the deterministic action"),
    _curve("smoothness/action_changes", "share", "steps at which the greedy action changes (discrete actions)"),
    _curve("smoothness/sensitivity", _SLOPE, "mean norm of the Jacobian of μ"),
    _curve("smoothness/max_sensitivity", _SLOPE, "largest norm of the Jacobian of μ"),
    _curve(
        "smoothness/lipschitz_bound", _SLOPE,
        "sound bound, by one method for all agents: the smallest of ECLipsE-Fast, product of norms, and the promise",
    ),
    _curve("smoothness/promise", _SLOPE, "the K that the policy holds by construction (constrained agents)"),
    _curve("smoothness/raw_lipschitz_bound", _RAW, "lipschitz_bound in raw units, VecNormalize as it is then"),
    _curve("smoothness/tightness", "share", "max_sensitivity over lipschitz_bound"),
    _curve("smoothness/saturation", "share", "unclipped actions at or beyond the limits (continuous actions)"),
    _curve("smoothness/certified_radius", "policy unit",
           "mean distance within which the greedy action is proven to stay (discrete actions)"),
    _curve("smoothness/layer_norm/<i>", "1", "Lipschitz bound of layer i by itself, from the first, 0"),
    _curve("smoothness/layer_share/<i>", "share", "layer_norm over what the budget allows it (constrained agents)"),
    _curve("smoothness/feasibility_floor", _SLOPE, "least slope that holds the task's equilibrium"),
    _both("robustness/clean_return", "return", "episodes without disturbance; live a few, evaluated many"),
    _both("robustness/clean_action_fluctuation", "action per step", "mean ‖Δa‖ in them"),
    _both(
        "robustness/noisy_return", "return",
        "the same episodes under noise: live of `live_disturbance`, evaluated at the smallest strength above 0",
    ),
    _both("robustness/noisy_action_fluctuation", "action per step", "mean ‖Δa‖ in them"),
    # of the weights at the end
    _number("certificate/upper_bound", _RAW, "proven Lipschitz constant, sensor to action"),
    _number("certificate/lower_bound", _RAW, "steepest slope found"),
    _number("certificate/tightness", "share", "lower_bound over upper_bound"),
    _number("certificate/network_upper_bound", _SLOPE, "proven constant without VecNormalize"),
    _number("certificate/network_lower_bound", _SLOPE, "steepest slope found of that"),
    _number("certificate/network_tightness", "share", "lower over upper of that"),
    _number("certificate/promise", _SLOPE, "K as trained (constrained agents)"),
    _number("certificate/method", "", "what gave the upper bound", kind="text"),
    _number("certificate/window_frames", "observations", "how many the policy sees (windows)"),
    _number("certificate/window_newest", _RAW, "where the newest observation alone is off"),
    _number("certificate/window_each", _RAW, "where each is off by a unit"),
    _number("certificate/window_whole", _RAW, "per norm of the window as one vector"),
    _number("certificate/window_signal", "action per raw unit, l2 over time", "over any number of steps"),
    # evaluation: curves over the strength of each disturbance or attack
    Name("robustness/<disturbance>/strength", "× disturbance, or ε", "the step of the curves beside it",
         _MEASURED, summary="none"),
    _strength("return", "return", "IQM over training seeds, or mean over episodes"),
    _strength("return_low", "return", "its 95 % interval, below"),
    _strength("return_high", "return", "its 95 % interval, above"),
    _strength("action_fluctuation", "action per step", "mean ‖Δa‖"),
    _number("robustness/<disturbance>/auc", "share", "of the clean return, from the floor, that survives", _MEASURED),
    _number("robustness/<disturbance>/breakdown", "strength", "at which half of it is lost", _MEASURED),
    _number("robustness/noisy_strength", "× disturbance", "strength of noisy_return", _MEASURED),
    _number("robustness/worst_attack_return", "return", "least of all attacks, at the greatest ε", ("attack",)),
    _number("robustness/worst_attack_epsilon", "radius", "that ε", ("attack",)),
    _number("robustness/worst_attack_name", "", "the attack that gave it", ("attack",), "text"),
    # tables and pictures
    _number("tables/degradation", "", "agent × disturbance × strength: return, ‖Δa‖, intervals", _MEASURED, "table"),
    _number("tables/robustness", "", "agent × disturbance: AUC and breakdown with intervals", _MEASURED, "table"),
    _number("tables/certificate", "", "agent: bounds, and their factors from sensor to action", _CERTIFIED, "table"),
    _number("tables/sensors", "", "agent × sensor: the bound where that sensor alone is off", _CERTIFIED, "table"),
    _number("tables/frontier", "", "K × strength: return, ‖Δa‖, bounds (`lipsrl frontier`)", ("distill",), "table"),
    _number("curves/<disturbance>", "return", "lines over strength, one per agent", _MEASURED, "chart"),
    _number("curves/frontier", "return", "lines over K, one per strength (`lipsrl frontier`)", ("distill",), "chart"),
    _number("actions/trace", "action", "one episode of each agent, same start, same noise", _EVALUATED, "chart"),
    _number("actions/spectrum", "action² per bin", "power of that over frequency", _EVALUATED, "chart"),
    _number("actions/clip", "", "that episode, rendered; agents side by side", _EVALUATED, "media"),
)  # fmt: skip


def key_part(name: str) -> str:
    """``name`` as one part of a key: ``/`` begins another part, and W&B reads a dot as a path of its own.

    Example:
        >>> key_part("ar1:0.1/0.9")
        'ar1-0_1-0_9'
    """
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name.replace(".", "_")).strip("-") or "unnamed"


def key_parts(names: Iterable[str], attacks: Iterable[str] = ()) -> dict[str, str]:
    """:func:`key_part` of each; numbered where two would be the same.

    Args:
        names: of disturbances.
        attacks: those of them that look at the policy. Their parts begin with ``attack-``: a constant bias is a
            disturbance, and an attack where it is chosen to harm, and strengths of the two are different things.

    Example:
        >>> key_parts(["gaussian", "bias"], attacks=["bias"])
        {'gaussian': 'gaussian', 'bias': 'attack-bias'}
    """
    of_attacks = set(attacks)
    found: dict[str, str] = {}
    for name in dict.fromkeys(names):
        first = part = key_part(f"attack-{name}" if name in of_attacks else name)
        number = 2
        while part in found.values():
            part, number = f"{first}-{number}", number + 1
        found[name] = part
    return found


def name_of(key: str) -> Name | None:
    """The entry that ``key`` belongs to: the exact one before a pattern; ``None``: it is not of the scheme."""
    matching = [name for name in NAMES if name.matches(key)]
    return min(matching, key=lambda name: (name.key != key, "*" in name.key), default=None)
