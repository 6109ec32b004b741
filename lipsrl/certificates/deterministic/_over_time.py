"""From the gains of a window to what errors do over time, past actions that come back included."""

from __future__ import annotations

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from lipsrl.certificates.deterministic._memory import Memory, memory_of
from lipsrl.certificates.deterministic._window import MOST_INPUTS, Asked, Gains, block_gains
from lipsrl.certificates.deterministic._window_bounds import SensorWindow, WindowBounds
from lipsrl.layers._linalg import EPS64


def window_bounds(
    asked: Asked, model: BaseAlgorithm, upper: float, per_sensor: list[float]
) -> tuple[WindowBounds | None, tuple[str, ...]]:
    """Of a model that sees several observations; ``None`` for others. And warnings, in words.

    Past actions (rl-zoo's HistoryWrapper) are errors that come back: with ``‖Δa‖ ≤ G_o‖Δo‖ + G_a‖Δa‖`` over any time,
    each action earlier than what it moves, ``‖Δa‖ ≤ G_o/(1 - G_a) ‖Δo‖`` where ``G_a < 1`` (small gain; Zames 1966). In
    l2 over time for signals, by the largest over time for a constant.

    Args:
        upper, per_sensor: of the certificate.
    """
    pipeline = asked.reading.pipeline
    memory = memory_of(model, pipeline)
    if memory is None:
        return None, ()
    if len(pipeline.gain) > MOST_INPUTS:
        return None, (
            f"Windows are judged frame by frame up to {MOST_INPUTS} values, this one has {len(pipeline.gain)}.",
        )
    together, sensors = block_gains(asked, memory.observed, memory.frames)
    whole, each = asked.raw.value, upper
    alone = per_sensor
    if len(memory.acted):
        whole, each = together.whole, together.each
        alone = [gains.each for gains in sensors]
    over_time, said = _over_time(asked, memory)
    signal, bias, unclipped = over_time.of(together, each)
    return (
        WindowBounds(
            memory.frames, min(together.newest, whole), each, whole, signal, bias, unclipped,
            tuple(
                SensorWindow(min(gains.newest, one), one, *over_time.of(gains, one))
                for gains, one in zip(sensors, alone, strict=True)
            ),
            over_time.past_actions,
        ),
        said,
    )  # fmt: skip


class _OverTime:
    """What comes back of an action: gains in l2 over time and of the largest, ``None`` where nothing is proven."""

    def __init__(self, signal: float | None, peak: float | None, past_actions: float | None = None) -> None:
        self.signal, self.peak, self.past_actions = signal, peak, past_actions

    def of(self, gains: Gains, each: float) -> tuple[float | None, float | None, float | None]:
        """Signal, bias and bias_unclipped with the loop closed; none of them is larger than ``each`` without it."""
        signal, peak = self.signal, self.peak
        return (
            _closed(gains.signal, each, signal),
            _closed(gains.bias, each, peak),
            _closed(gains.bias_unclipped, each, peak),
        )


def _closed(forward: float | None, each: float, back: float | None) -> float | None:
    if forward is None or back is None or back >= 1.0:
        return None
    forward = min(forward, each)
    return forward / (1.0 - back) * (1 + 4 * EPS64) if back > 0 else forward


def _over_time(asked: Asked, memory: Memory) -> tuple[_OverTime, tuple[str, ...]]:
    unit = asked.reading.unit
    why = memory.unknown
    frames = unit[memory.observed].reshape(memory.frames, -1)
    if not why and not bool((frames == frames[0]).all()):
        why = "sensor_scale gives one sensor another unit in every frame"
    if why:
        return _OverTime(None, None), (f"Nothing is said of signals and constant errors: {why}.",)
    if not len(memory.acted):
        return _OverTime(0.0, 0.0), ()
    acted, _ = block_gains(asked, memory.acted, memory.frames)
    smallest = float(np.min(unit[memory.acted])) * (1 - 2 * EPS64)  # actions come back in their own units
    peak = acted.each / smallest
    signal = None if acted.signal is None else acted.signal / smallest
    shown = peak if signal is None else signal
    said: tuple[str, ...] = ()
    if min(shown, peak) >= 1.0:
        said = (
            f"Nothing is said of signals and constant errors: past actions come back with a gain of up to {shown:.3g}, "
            "and only below 1 is it certain that an error dies out. Leave them out of the observation, or give them a "
            "smaller scale.",
        )
    elif peak >= 1.0:
        said = (
            f"Nothing is said of constant errors: past actions come back with a gain of up to {peak:.3g} at one moment "
            f"(in l2 over time {shown:.3g}), and only below 1 is it certain that an error dies out.",
        )
    return _OverTime(signal, peak, shown), said
