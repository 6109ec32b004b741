"""The certificate table: what is proven, found and measured, sensor to action, gain by gain."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from lipsrl.evaluation import Evaluation
from lipsrl.reporting.consistency import Certificate, as_float, by_agent
from lipsrl.reporting.numbers import number, percent
from lipsrl.reporting.rows import Cell, Kind, Row, estimate_cell


@dataclass(frozen=True)
class Quantity:
    """A number of a certificate: what it is called, how it is read out of the dict, how it is printed."""

    key: str
    label: str
    kind: Kind
    note: str
    read: Callable[[Certificate], float]
    form: Callable[[float], str]


# what is printed must still be a bound
_bound = partial(number, rounding="up")
_found = partial(number, rounding="down")
_share = partial(percent, rounding="down")

_FACTORS = {
    "normalize_observation": (
        "Gain of NormalizeObservation",
        "1/std that the normalisation inside the environment multiplies the steepest sensor by.",
    ),
    "vec_normalize": (
        "Gain of VecNormalize",
        "Largest 1/std that the observation normalisation multiplies a sensor by; noise passes with no more.",
    ),
    "frame_stack": (
        "Gain of the frame stack",
        "Every stacked frame may be off by a unit at once; for a single frame divide by this.",
    ),
    "observation_scale": (
        "Gain of the observation scale",
        "Largest 1/scale of the fixed observation_scale inside the policy; noise passes with no more.",
    ),
    "network": (
        "Gain of the network",
        "The network's own bound, before the action scaling, per unit of the observation it receives.",
    ),
    "action": (
        "Gain of the action scaling",
        "What clipping or rescaling to the action limits multiplies by at most.",
    ),
    "folding": (
        "Gain of folding",
        "What the whole is smaller by than the product of its parts, because the steepest sensor is not the network's "
        "steepest direction.",
    ),
    "sensor_scale": (
        "Unit of the sensors",
        "The numbers are per this many raw units of the steepest sensor.",
    ),
}

_PROMISE = Quantity(
    "promise",
    "Promised constant K",
    "setting",
    "The lipschitz_bound of the policy: action per unit of the observation that the policy receives, that is "
    "after VecNormalize; a plain agent has none.",
    lambda c: as_float(c.get("promise")),
    number,
)

_CONSTANTS = (
    Quantity(
        "upper_bound",
        "Upper bound, sensor to action",
        "bound",
        "No two observations, in raw sensor units, move the action by more than this per unit of distance.",
        lambda c: as_float(c.get("upper_bound")),
        _bound,
    ),
    Quantity(
        "lower_bound",
        "Lower bound, sensor to action",
        "search",
        "The steepest slope that a search found; the true constant lies between it and the upper bound.",
        lambda c: as_float(c.get("lower_bound")),
        _found,
    ),
    Quantity(
        "tightness",
        "Tightness, sensor to action",
        "search",
        "Lower bound over upper bound; at 100 % the upper bound cannot be improved.",
        lambda c: as_float(c.get("tightness")),
        _share,
    ),
    Quantity(
        "network_tightness",
        "Tightness of the network alone",
        "search",
        "The same without VecNormalize: from the observation that the policy receives to the action.",
        lambda c: as_float((c.get("network") or {}).get("tightness")),
        _share,
    ),
)

_SENSITIVITY = (
    "Mean slope of the policy around the states it visited, for small displacements in raw sensor units; "
    "never above the upper bound, and no bound itself."
)


def certificate_rows(certificates: Sequence[Certificate], evaluation: Evaluation) -> list[Row]:
    """One row per proven, searched or measured constant.

    Several certificates of one agent (training seeds) are shown as their median and range.

    Args:
        certificates: dicts ``{"agent", "seed", **Certificate.to_dict()}``.
        evaluation: gives the measured action sensitivity: `Evaluation.summary` at the smallest strength, so
            without noise if the evaluation has it.
    """
    factors = [_factor(name) for name in _factor_names(certificates)]
    rows = [_row(quantity, certificates) for quantity in (_PROMISE, *factors, *_CONSTANTS)]
    return [row for row in [*rows, _sensitivity(evaluation)] if row.cells]


def _factor_names(certificates: Iterable[Certificate]) -> list[str]:
    names = [str(f["name"]) for c in certificates for f in c.get("factors") or []]
    known = [name for name in _FACTORS if name in names]
    return known + [name for name in dict.fromkeys(names) if name not in known]


def _factor(name: str) -> Quantity:
    def gain(certificate: Certificate) -> float:
        gains = {f.get("name"): as_float(f.get("gain")) for f in certificate.get("factors") or []}
        # a pipeline without this stage passes everything on unchanged
        return gains.get(name, 1.0) if gains else math.nan

    label, note = _FACTORS.get(name, (f"Gain of {name}", "One more stage between sensor and action."))
    return Quantity(f"factor:{name}", label, "bound", note, gain, _bound)


def _row(quantity: Quantity, certificates: Sequence[Certificate]) -> Row:
    cells = {}
    for agent, given in by_agent(certificates).items():
        values = np.array([value for value in map(quantity.read, given) if not math.isnan(value)])
        if len(values):
            low, middle, high = (float(f(values)) for f in (np.min, np.median, np.max))
            detail = f"{quantity.form(low)} to {quantity.form(high)}" if low < high else ""
            cells[agent] = Cell(middle, quantity.form(middle), detail)
        elif quantity is _PROMISE:
            cells[agent] = Cell(math.nan, "none")
    return Row(quantity.key, quantity.label, quantity.kind, cells, quantity.note)


def _sensitivity(evaluation: Evaluation) -> Row:
    name = "action_sensitivity"
    # a stable sort: the same agent's rows from the smallest strength on
    summary = evaluation.summary([name]).sort_values("strength", kind="stable").drop_duplicates("agent")
    cells = {
        str(row["agent"]): estimate_cell(row[name], row[f"{name}_low"], row[f"{name}_high"])
        for _, row in summary.iterrows()
        if not math.isnan(row[name])
    }
    return Row(name, "Measured action sensitivity", "estimate", cells, _SENSITIVITY)
