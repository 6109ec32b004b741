"""Bounds of a policy that sees the last k observations: one frame off, all of them, a signal, a constant bias."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lipsrl.actors.pipeline import Pipeline
from lipsrl.certificates.bounds._first_layer import first_layer
from lipsrl.certificates.bounds._multipliers import window_forms
from lipsrl.certificates.bounds._upper import SENSOR_GAP, Bound
from lipsrl.certificates.bounds._windows import (
    constant_gain,
    each_gain,
    largest,
    masked_constant_gain,
    masked_sum,
    newest_gain,
    of_sensor,
    signal_gain,
)
from lipsrl.certificates.deterministic._gains import LARGEST_SENSOR_PROBLEM, MOST_SENSORS
from lipsrl.certificates.deterministic._reading import Reading
from lipsrl.layers import operator_norm
from lipsrl.layers._linalg import EPS64

#: Windows with more inputs and units than this get no semidefinite programs of their own, and none at all with more
#: inputs than :data:`MOST_INPUTS`.
LARGEST_WINDOW_PROBLEM, MOST_INPUTS = 700, 1500


@dataclass(frozen=True)
class Gains:
    """Of one block of frames, the rest of the observation held; as :class:`WindowBounds`."""

    newest: float
    each: float
    whole: float
    signal: float | None
    bias: float
    bias_unclipped: float


@dataclass(frozen=True, eq=False)
class Asked:
    """A certificate's question and what has been found already.

    Attributes:
        reading: the agent, its norm and units.
        raw, own: bounds of the whole pipeline per unit, and of the network in its own units.
        method: of :func:`lipsrl.certify`.
    """

    reading: Reading
    raw: Bound
    own: Bound
    method: str

    @property
    def gain(self) -> Tensor:
        """(obs,) of each coordinate, in the network's own units per unit."""
        pipeline = self.reading.pipeline
        return torch.as_tensor(pipeline.gain / pipeline.input_scale * self.reading.unit)

    @property
    def folded(self) -> bool:
        """Whether the network's first layer sees single coordinates of the observation."""
        return self.reading.pipeline.front.diagonal


def block_gains(asked: Asked, columns: np.ndarray, frames: int) -> tuple[Gains, list[Gains]]:
    """Of the frames at ``columns`` (frames·sensors,) of the observation, the oldest first; and of each sensor alone."""
    index = torch.as_tensor(columns)
    sensors = len(columns) // frames
    if asked.raw.value == 0.0:
        nothing = Gains(0.0, 0.0, 0.0, 0.0 if asked.reading.norm == "l2" else None, 0.0, 0.0)
        return nothing, [nothing] * sensors
    gains = _from_forms if asked.reading.norm == "l2" else _from_sums
    return gains(asked, index, frames)


def _from_forms(asked: Asked, index: Tensor, frames: int) -> tuple[Gains, list[Gains]]:
    """l2: by quadratic forms, in units of a power of two near the bound, whose squares neither over- nor underflow."""
    size = 2.0 ** min(max(round(math.log2(asked.raw.value)), -500), 500)
    forms = [form[index][:, index] for form in _shared_forms(asked, size)]
    chain = asked.raw.chain if asked.folded and asked.method in ("auto", "lipsdp") else None
    if chain is not None and chain.size <= LARGEST_WINDOW_PROBLEM:
        whole = len(index) == chain.weights[0].shape[1]
        start = asked.raw.ellipsoid.multipliers if whole and asked.raw.ellipsoid is not None else None
        own = window_forms(chain if whole else chain.of_inputs(index), frames, start)
        forms += _finite([form / size**2 for form in own])
    pipeline = asked.reading.pipeline
    sensors = len(index) // frames
    few = chain is not None and sensors <= MOST_SENSORS and chain.size <= LARGEST_SENSOR_PROBLEM
    single = []
    for sensor in range(sensors):
        columns = index[sensor::sensors]
        alone = [of_sensor(form, frames, sensor) for form in forms]
        if chain is not None and few:
            found = window_forms(chain.of_inputs(columns), frames, gap=SENSOR_GAP, signal=False)
            alone += _finite([form / size**2 for form in found])
        single.append(_by_forms(alone, frames, *_clip(pipeline, columns, frames), size))
    return _by_forms(forms, frames, *_clip(pipeline, index, frames), size), single


def _shared_forms(asked: Asked, size: float) -> list[Tensor]:
    """(obs, obs) forms of all that is known of the whole pipeline, in units of ``size``."""
    gain, raw = asked.gain, asked.raw
    diagonals = [torch.full_like(gain, raw.value / size), asked.own.value / size * gain]
    forms = [torch.diag((d.square() * (1 + 8 * EPS64)).clamp_min(1e-300)) for d in diagonals]
    if raw.ellipsoid is not None and asked.folded:
        forms.append(raw.ellipsoid.matrix / size**2)
    if asked.folded and asked.method in ("auto", "product"):
        found = first_layer(asked.reading.pipeline, asked.reading.units, "l2")
        if found is not None:
            weight = found.weight * (found.rest / size)
            form = weight.mT @ weight
            form.diagonal().add_(8 * EPS64 * (len(weight) + 4) * float(weight.square().sum()))
            forms.append(form)
    return _finite(forms)


def _finite(forms: list[Tensor]) -> list[Tensor]:
    return [form for form in forms if bool(torch.isfinite(form).all())]


def _clip(pipeline: Pipeline, columns: Tensor, frames: int) -> tuple[bool, bool]:
    """Whether a clip can act on these coordinates, and whether it treats a value alike in every frame."""
    at = columns.numpy()
    clipped = bool(np.isfinite(pipeline.limit[at]).any())
    values = [array[at].reshape(frames, -1) for array in (pipeline.mean, pipeline.gain, pipeline.limit)]
    return clipped, all(bool((value == value[0]).all()) for value in values)


def _by_forms(forms: list[Tensor], frames: int, clipped: bool, alike: bool, size: float) -> Gains:
    """The smallest gains of all forms.

    A clip that acts alike in every frame leaves a signal that is nowhere larger. One that does not (VecNormalize around
    the stack, with statistics of its own for every frame) leaves θ·Δ with another θ in [0, 1] in every frame: half of
    that is a signal, half a window of any kind, as in :func:`masked_constant_gain`.
    """

    def smallest(gain: Callable[[Tensor, int], float]) -> float:
        return min(gain(form, frames) for form in forms)

    def whole(form: Tensor, frames: int) -> float:
        return largest(form)

    def signal(form: Tensor, frames: int) -> float:
        over_time = signal_gain(form, frames)
        return (over_time + each_gain(form, frames)) / 2 if clipped and not alike else over_time

    each = smallest(each_gain)
    unclipped = min(smallest(constant_gain), each)
    bias = min(smallest(masked_constant_gain), each) if clipped else unclipped
    found = (smallest(newest_gain), each, smallest(whole), min(smallest(signal), each), bias, unclipped)
    return Gains(*(value * size * (1 + 8 * EPS64) for value in found))


def _from_sums(asked: Asked, index: Tensor, frames: int) -> tuple[Gains, list[Gains]]:
    """l-inf and l1: by operator norms of the first layer and a product for what follows."""
    norm, pipeline, sensors = asked.reading.norm, asked.reading.pipeline, len(index) // frames
    each_of = float(frames) if norm == "l1" else 1.0
    first = None
    if asked.folded and asked.method in ("auto", "product"):
        first = first_layer(pipeline, asked.reading.units, norm)

    def gains(columns: Tensor) -> Gains:
        gain = asked.own.value * asked.gain[columns]
        step = len(columns) // frames
        whole, newest = min(asked.raw.value, float(gain.max())), float(gain[-step:].max())
        bias = unclipped = math.inf
        if first is not None:
            blocks = first.weight[:, columns].reshape(len(first.weight), frames, step)

            def through(weight: Tensor, summed: int = 0) -> float:
                # sums of so many entries may have cancelled
                error = 2 * EPS64 * (summed + 1) * operator_norm(blocks.abs().sum(dim=1), norm)
                return (operator_norm(weight, norm) + error * bool(summed)) * first.rest

            whole = min(whole, through(blocks.reshape(len(blocks), -1)))
            newest = min(newest, through(blocks[:, -1]))
            partial = blocks.flip(1).cumsum(dim=1)
            unclipped = max(through(partial[:, j], frames) for j in range(frames))
            bias = through(masked_sum(blocks), frames)
        if not _clip(pipeline, columns, frames)[0]:
            bias = unclipped
        newest, each = min(newest, whole), whole * each_of
        found = (newest, each, whole, min(bias, each), min(unclipped, each))
        newest, each, whole, bias, unclipped = (value * (1 + 8 * EPS64) for value in found)
        return Gains(newest, each, whole, None, bias, unclipped)

    return gains(index), [gains(index[sensor::sensors]) for sensor in range(sensors)]
