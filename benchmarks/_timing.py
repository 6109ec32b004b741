"""Timing on a machine that others use too: interleaved rounds, paired ratios, and what it ran on."""

from __future__ import annotations

import math
import os
import platform
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch

from lipsrl.statistics import Interval, bootstrap_ci

Function = Callable[[], object]


def wait_for_devices() -> None:
    """Until a GPU has done what it was told, so that the clock reads work and not orders."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def seconds_per_call(function: Function, calls: int) -> float:
    """Mean wall-clock seconds of ``calls`` calls."""
    wait_for_devices()
    begun = time.perf_counter()
    for _ in range(calls):
        function()
    wait_for_devices()
    return (time.perf_counter() - begun) / calls


def calls_within(seconds: float, function: Function, multiple_of: int = 1) -> int:
    """How many calls take about ``seconds``, rounded up to a multiple; also warms the function up."""
    function()
    calls, each = 1, seconds_per_call(function, 1)
    while calls * each < seconds / 4:
        calls *= 2
        each = seconds_per_call(function, calls)
    return multiple_of * math.ceil(max(1.0, seconds / each) / multiple_of)


def interleave(
    functions: Mapping[str, Function],
    calls: Mapping[str, int],
    repeats: int,
    *,
    within: Callable[[], AbstractContextManager[object]] = nullcontext,
    after_round: Function | None = None,
) -> dict[str, list[float]]:
    """Time each function once per round, in an order that is shuffled anew each round.

    A machine that drifts, or that another process slows down, hits all alike; the shuffle leaves none always behind
    the same neighbour, whose data it would find in the processor's caches.

    Args:
        functions: name → what is timed.
        calls: name → calls per round.
        repeats: rounds.
        within: context that is held around the calls of one function; one untimed call is made in it first.
        after_round: called after each round, untimed.

    Returns:
        name → seconds per call, one value per round.
    """
    order = random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name in order.sample(list(functions), len(functions)):
            with within():
                if within is not nullcontext:
                    functions[name]()
                times[name].append(seconds_per_call(functions[name], calls[name]))
        if after_round is not None:
            after_round()
    return times


def paired_ratio(times: Sequence[float], baseline: Sequence[float]) -> Interval:
    """Median over rounds of time / baseline of the same round, with its 95 % bootstrap interval."""
    return bootstrap_ci(np.asarray(times) / np.asarray(baseline), np.median)


def machine() -> dict[str, object]:
    """What the times depend on: system, processor, cores, torch threads, and the load that others make."""
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_initialized() else None,
        "load_average": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
    }


def cpu_model() -> str:
    """The processor's name, as Linux knows it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def as_time(seconds: float) -> str:
    """``seconds`` in the unit that suits it."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
