"""What a quadratic form over a window of frames says of observations over time.

A form S (float64, symmetric, positive semidefinite) stands for ``‖Δa‖² ≤ Δwᵀ S Δw``, with w the window: k frames of d
sensors, the oldest first. Everything here is rounded up.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor

from lipsrl.layers._linalg import EPS64

#: The maximum over all frequencies is at most so much (relative, of the squared gain) above that over the grid.
GRID_LOSS = 1e-4

#: Subsets of the frames are tried one by one up to so many frames, and up to so many numbers on the way.
MOST_SUBSETS, LARGEST_TRIAL = 12, 2e8

#: Frequencies times sensors cubed: beyond, :func:`each_gain` is that of signals.
LARGEST_GRID = 2e9

#: Numbers of a response that are held at a time.
CHUNK = 2_000_000


def largest(form: Tensor) -> float:
    """√λmax of a form (n, n)."""
    if not bool(form.any()):
        return 0.0
    value = float(torch.linalg.eigvalsh(form)[-1])
    slack = 4 * EPS64 * (len(form) + 2) * float(form.norm())
    return math.sqrt(max(value, 0.0) + slack) * (1 + 4 * EPS64)


def of_sensor(form: Tensor, frames: int, sensor: int) -> Tensor:
    """(k, k) the form of one sensor's frames, the other sensors held."""
    step = len(form) // frames
    return form[sensor::step, sensor::step]


def newest_gain(form: Tensor, frames: int) -> float:
    """Largest ‖Δa‖ per ‖Δ newest frame‖₂, the others held."""
    d = len(form) // frames
    return largest(form[-d:, -d:])


def each_gain(form: Tensor, frames: int) -> float:
    """Largest ‖Δa‖ where each frame may be off by a vector of length one, whatever the others are.

    The smaller of √k times that of the window and the sum over the frames one by one. The latter holds for time-varying
    windows as well, in l2 over time: frame i by frame i, errors pass with a delay.
    """
    d = len(form) // frames
    alone = sum(largest(form[i : i + d, i : i + d]) for i in range(0, len(form), d))
    return min(math.sqrt(frames) * largest(form), alone) * (1 + EPS64 * (frames + 4))


def constant_gain(form: Tensor, frames: int) -> float:
    """Largest ‖Δa‖ per ‖b‖₂ where the newest j frames are all off by the same b, for the worst j = 1 … k."""
    d = len(form) // frames
    blocks = form.reshape(frames, d, frames, d).permute(0, 2, 1, 3)
    total, size, worst = torch.zeros_like(form[:d, :d]), torch.zeros_like(form[:d, :d]), 0.0
    for first in reversed(range(frames)):
        added = [blocks[first, first], *blocks[first, first + 1 :], *blocks[first + 1 :, first]]
        total = total + torch.stack(added).sum(dim=0)
        size = size + torch.stack(added).abs().sum(dim=0)
        worst = max(worst, _with_slack((total + total.mT) / 2, size, frames**2))
    return worst


def signal_gain(form: Tensor, frames: int) -> float:
    """G with ``Σ_t ‖Δa_t‖² ≤ G² Σ_t ‖Δo_t‖²``, window t holding the observations o_{t-k+1} … o_t.

    ``Σ_t Δw_tᵀ S Δw_t`` is, by Parseval, the mean over ω of ``ô(ω)ᴴ R(ω) ô(ω)`` with
    ``R(ω) = Σ_{a,b} S_ab e^{jω(a - b)}``. For each vector v, ``vᴴ R(ω) v`` is a real trigonometric polynomial of degree
    n = k - 1 and not negative. Around its maximum such a polynomial stays above ``cos(nδ)`` of it up to δ ≤ π/n
    (M. Riesz 1914), and one of N equispaced points lies within π/N; so the maximum over the grid divided by
    ``cos(πn/N)`` (Ehlich & Zeller 1964) bounds λmax(R) at every ω.
    """
    degree = frames - 1
    half = grid_size(frames) // 2
    plain = each_gain(form, frames)
    if half * (len(form) // frames) ** 3 > LARGEST_GRID:
        return plain
    lags, size = lag_sums(form, frames)
    omega = torch.arange(half + 1, dtype=torch.float64) * (math.pi / half)  # R(-ω) is R(ω) transposed
    chunks = omega.split(max(1, CHUNK // len(size) ** 2))  # type: ignore[no-untyped-call]
    top = max(float(largest_at(lags, part).max()) for part in chunks)
    value = top / math.cos(math.pi * degree / (2 * half))
    # entries: k² products with cosines of rounded angles; eigenvalues: backward error
    slack = 16 * EPS64 * (frames**2 + len(size)) * float(size.norm()) * (1 + degree)
    return min(plain, math.sqrt(max(value, 0.0) + slack) * (1 + 8 * EPS64))


def grid_size(frames: int) -> int:
    """An even number N of equispaced frequencies with ``1/cos(π(k - 1)/N) ≤ 1 + GRID_LOSS``."""
    return 2 * max(1, math.ceil(math.pi * (frames - 1) / math.acos(1 / (1 + GRID_LOSS)) / 2))


def lag_sums(form: Tensor, frames: int) -> tuple[Tensor, Tensor]:
    """(k, d, d) ``Σ_{a - b = l} S_ab`` for l = 0 … k - 1, and (d, d) the sum of all |S_ab|."""
    d = len(form) // frames
    blocks = form.reshape(frames, d, frames, d).permute(0, 2, 1, 3)
    lags = torch.stack([blocks.diagonal(-lag).sum(dim=-1) for lag in range(frames)])
    return lags, blocks.abs().sum(dim=(0, 1))


def largest_at(lags: Tensor, omega: Tensor) -> Tensor:
    """λmax (n,) of R at each frequency (n,); differentiable."""
    top: Tensor = torch.linalg.eigvalsh(response(lags, omega))[:, -1]
    return top


def response(lags: Tensor, omega: Tensor) -> Tensor:
    """R (n, d, d), complex Hermitian, at each frequency (n,)."""
    angles = omega.unsqueeze(1) * torch.arange(1, len(lags), dtype=torch.float64)
    waves = torch.polar(torch.ones_like(angles), angles)
    half = torch.einsum("nl,lab->nab", waves, lags[1:].to(waves.dtype))
    return lags[0] + half + half.mH


def masked_constant_gain(form: Tensor, frames: int) -> float:
    """Largest ‖Δa‖ per ‖b‖₂ where coordinate s of frame i is off by θ_is·b_s, with any θ in [0, 1].

    This is what a clip leaves of a constant displacement, and what a window that is still filling sees of it. With
    ``θ = ½ + ½δ``, |δ| ≤ 1, half of the displacement is constant and half is a window of frames ≤ ‖b‖. Or pair by pair:
    ``Δwᵀ S Δw ≤ |b|ᵀ C |b|``, C the largest that each pair of sensors can reach. The smaller of both.
    """
    d = len(form) // frames
    halves = (constant_gain(form, frames) + each_gain(form, frames)) / 2
    blocks = form.reshape(frames, d, frames, d).permute(1, 3, 0, 2)
    pairs = _largest_bilinear(blocks)
    for sensor in range(d):
        pairs[sensor, sensor] = _largest_quadratic(blocks[sensor, sensor])
    return min(halves * (1 + 4 * EPS64), _with_slack(pairs, blocks.abs().sum(dim=(2, 3)), frames**2))


def _subsets(frames: int) -> Tensor:
    """(2ᵏ, k) of zeros and ones."""
    return torch.tensor(np.array(list(itertools.product((0.0, 1.0), repeat=frames))), dtype=torch.float64)


def _largest_bilinear(blocks: Tensor) -> Tensor:
    """(…) max of ``|θᵀ S θ′|`` over θ, θ′ in [0, 1]ᵏ, for blocks (…, k, k): at vertices, the form is affine in each."""
    frames = blocks.shape[-1]
    if frames > MOST_SUBSETS or blocks.numel() * 2.0**frames > LARGEST_TRIAL:
        sums = [part.clamp_min(0.0).sum(dim=(-2, -1)) for part in (blocks, -blocks)]
        return torch.maximum(*sums)
    chosen = _subsets(frames)
    worst = torch.zeros(blocks.shape[:-2], dtype=torch.float64)
    for row in range(len(worst)):
        rows = chosen @ blocks[row]
        sums = [part.clamp_min(0.0).sum(dim=-1).amax(dim=-1) for part in (rows, -rows)]
        worst[row] = torch.maximum(*sums)
    return worst


def _largest_quadratic(block: Tensor) -> float:
    """Max of ``θᵀ S θ`` over θ in [0, 1]ᵏ for one positive semidefinite block (k, k): convex, so at a vertex."""
    if len(block) > MOST_SUBSETS:
        # θ = ½ + ½δ again, or all that is positive
        halves = (math.sqrt(max(float(block.sum()), 0.0)) + math.sqrt(len(block)) * largest(block)) ** 2 / 4
        return min(halves, float(block.clamp_min(0.0).sum()))
    chosen = _subsets(len(block))
    return max(float(((chosen @ block) * chosen).sum(dim=1).max()), 0.0)


def _with_slack(total: Tensor, size: Tensor, terms: int) -> float:
    """√λmax of ``total``, whose entries are sums of ``terms`` terms with absolute values that add up to ``size``."""
    if not bool(size.any()):
        return 0.0
    value = float(torch.linalg.eigvalsh(total)[-1])
    slack = 8 * EPS64 * (terms + len(total)) * float(size.norm())
    return math.sqrt(max(value, 0.0) + slack) * (1 + 4 * EPS64)


def masked_sum(blocks: Tensor) -> Tensor:
    """(features, d) largest ``|Σ_i θ_i W_i|``, entry by entry, over θ in [0, 1]ᵏ, for weights (features, k, d)."""
    return torch.maximum(blocks.clamp_min(0.0).sum(dim=1), (-blocks).clamp_min(0.0).sum(dim=1))
