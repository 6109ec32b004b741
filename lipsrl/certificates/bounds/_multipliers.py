"""LipSDP-Neuron multipliers for windows of frames: one set for each question, all of them good for every question."""

from __future__ import annotations

import math

import numpy as np
import scipy.optimize
import torch
from numpy.typing import NDArray
from torch import Tensor

from lipsrl._threads import one_thread
from lipsrl.certificates.bounds._chain import Chain
from lipsrl.certificates.bounds._interior_point import minimise
from lipsrl.certificates.bounds._lipsdp import GAP, normalised
from lipsrl.certificates.bounds._problem import Problem
from lipsrl.certificates.bounds._verification import verified
from lipsrl.certificates.bounds._windows import lag_sums, largest_at, signal_gain

#: Exponents of the norm that stands for the maximum over frequencies, one after the other.
EXPONENTS = (40.0, 160.0)

#: Evaluations of the objective for each exponent.
EVALUATIONS = 40


@one_thread()
def window_forms(
    chain: Chain, frames: int, start: Tensor | None = None, *, gap: float = GAP, signal: bool = True
) -> list[Tensor]:
    """Quadratic forms S over the window, ``‖Δa‖² ≤ Δwᵀ S Δw``, each one verified.

    S depends on the multipliers of the hidden units alone (the Schur complement of M's input block), so those that were
    found for a network of other inputs, such as the newest frame or the sum of all frames, are multipliers of this
    one. That for signals minimises λmax(R(ω)) over all ω (:func:`~._windows.signal_gain`): convex in the multipliers,
    because S is matrix convex in them. One thread: the matrices are small, and where cores are busy several threads
    were ten times slower.

    Args:
        chain: network whose input is the window, the oldest frame first.
        start: (units,) multipliers that were found for the whole window, if any.
        gap: of the semidefinite programs.
        signal: look for those of signals, too.

    Returns:
        (in, in) forms; none where float64 verifies none, or where the chain has no hidden units.
    """
    if len(chain.weights) == 1:
        return []
    unit, scale = normalised(chain)
    if not 1e-140 < scale < 1e140:
        return []
    problem = Problem(unit)
    weight = unit.weights[0]
    single = weight.shape[1] // frames
    candidates = [] if start is None else [start]
    for first in (weight[:, -single:], weight.reshape(len(weight), frames, single).sum(dim=1)):
        try:
            candidates.append(minimise(Problem(Chain((first, *unit.weights[1:]), unit.low, unit.high)), gap))
        except RuntimeError:  # extreme weights
            continue
    found = _with_forms(problem, candidates)
    if signal and found:
        best = min(found, key=lambda pair: signal_gain(pair[1], frames))[0]
        found += _with_forms(problem, _for_signals(problem, best, frames))
    return [form * scale**2 for _, form in found]


def _with_forms(problem: Problem, candidates: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Multipliers that float64 verifies, and their forms."""
    found = []
    for multipliers in candidates:
        try:
            ellipsoid = verified(problem, multipliers)
        except RuntimeError:  # no Cholesky factor of the hidden block
            continue
        if ellipsoid is not None:
            found.append((multipliers, ellipsoid.matrix))
    return found


def _for_signals(problem: Problem, start: Tensor, frames: int) -> list[Tensor]:
    """Multipliers that make the largest λmax(R(ω)) small, from ``start``, by L-BFGS on their logarithms."""
    omega = torch.linspace(0.0, math.pi, 2 * frames + 1, dtype=torch.float64)
    point = torch.log(start.clamp_min(1e-12 * float(start.max()))).numpy()
    found = []
    for exponent in EXPONENTS:

        def objective(
            logarithms: NDArray[np.float64], exponent: float = exponent
        ) -> tuple[float, NDArray[np.float64]]:
            variables = torch.as_tensor(logarithms).requires_grad_(True)
            try:
                with torch.enable_grad():
                    lags, _ = lag_sums(problem.schur(torch.exp(variables)), frames)
                    top = exponent * torch.log(largest_at(lags, omega).clamp_min(1e-300))
                    value = torch.logsumexp(top, dim=0) / exponent
                    (slope,) = torch.autograd.grad(value, variables)
            except RuntimeError:  # outside of the cone
                return 1e6, np.zeros_like(logarithms)
            return float(value.detach()), slope.nan_to_num(0.0).numpy()

        result = scipy.optimize.minimize(
            objective, point, jac=True, method="L-BFGS-B", options={"maxfun": EVALUATIONS}
        )
        point = np.asarray(result.x, dtype=np.float64)
        found.append(torch.exp(torch.as_tensor(point)))
    return found
