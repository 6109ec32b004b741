"""Norm of a strided convolution with zero padding, never below the exact value. Proofs: docs/convolutions.md."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lipsrl.layers._linalg import EPS64, check_finite, random_orthonormal

Pair = tuple[int, int]

#: Where the size of the output is unknown, grids are fine enough to keep the bound within this factor of the norm.
GRID_FACTOR = 1.004

#: Grid points per tap at which :func:`cut_norm` looks.
COARSE = 3

#: Directions per frequency that :func:`cut_norm` follows.
N_DIRECTIONS = 4

#: Frequencies whose matrices are held in memory at once.
_CHUNK = 256

#: Phases that are kept for the next time have no more entries than this; products of taps are formed up to the other.
_REMEMBERED, _LARGEST = 2**16, 2**24


def polyphase(weight: Tensor, stride: Pair) -> Tensor:
    """The stride-1 kernel that does to the ``stride_h·stride_w`` phases of an image what ``weight`` does to the image.

    Args:
        weight: (out, in, height, width). Kernels that the stride does not divide are padded with zeros.

    Returns:
        (taps_h, taps_w, out, in·stride_h·stride_w).
    """
    out, channels, height, width = weight.shape
    taps_h, taps_w = -(-height // stride[0]), -(-width // stride[1])
    padded = F.pad(weight, (0, taps_w * stride[1] - width, 0, taps_h * stride[0] - height))
    phases = padded.reshape(out, channels, taps_h, stride[0], taps_w, stride[1]).permute(2, 4, 0, 1, 3, 5)
    return phases.reshape(taps_h, taps_w, out, channels * stride[0] * stride[1])


def waves(taps: Pair, grid: Pair, first: Pair = (0, 0)) -> Tensor:
    """``e^{i⟨q, ω⟩}``, complex128 (frequencies, taps_h·taps_w), on the half of a ``grid`` over [0, 2π)² that matters.

    The transfer matrices of a real kernel at ω and -ω are complex conjugates. q runs from ``first``.
    """
    size = grid[0] * (grid[1] // 2 + 1) * taps[0] * taps[1]
    return (_remembered_waves if size <= _REMEMBERED else _waves)(taps, grid, first)


def _waves(taps: Pair, grid: Pair, first: Pair) -> Tensor:
    with torch.inference_mode(False), torch.device("cpu"):  # it may outlive the call
        q_h, q_w = (torch.arange(start, start + n).double() for start, n in zip(first, taps, strict=True))
        rows, columns = torch.arange(grid[0]).outer(q_h), torch.arange(grid[1] // 2 + 1).outer(q_w)
        turns = (
            (rows[:, None, :, None] / grid[0] + columns[None, :, None, :] / grid[1]).flatten(2).flatten(0, 1)
        )
        return torch.polar(torch.ones_like(turns), 2 * torch.pi * turns)


_remembered_waves = lru_cache(maxsize=64)(_waves)


def transfer_matrices(taps: Tensor, waves: Tensor) -> Tensor:
    """``F(ω) = Σ_q W_q e^{i⟨q, ω⟩}``, complex (frequencies, out, in), of the ``taps`` that :func:`polyphase` gives."""
    flat = taps.flatten(2).flatten(0, 1)
    real, imaginary = (part.to(flat) @ flat for part in (waves.real, waves.imag))
    return torch.complex(real, imaginary).reshape(-1, *taps.shape[2:])


def gram_matrices(taps: Tensor, grid: Pair) -> Iterator[Tensor]:
    """The smaller Gram matrices of :func:`transfer_matrices` on ``grid``, complex (frequencies, k, k), in chunks.

    ``F(ω)F(ω)* = Σ_d R_d e^{i⟨d, ω⟩}`` with ``R_d = Σ_q W_{q+d} W_qᵀ``: where the taps are few, they are multiplied
    once, not at every frequency. Where there are fewer inputs than outputs, the same with the transposed taps (the
    conjugates of F*F).
    """
    taps = taps if taps.shape[2] <= taps.shape[3] else taps.mT
    n_h, n_w, k, _ = taps.shape
    n, frequencies = n_h * n_w, grid[0] * (grid[1] // 2 + 1)
    if (
        n**2 <= 4 * frequencies and (n * k) ** 2 + 4 * n * frequencies <= _LARGEST
    ):  # complex products cost four
        lags = _autocorrelation(taps)
        for part in torch.split(waves((2 * n_h - 1, 2 * n_w - 1), grid, (1 - n_h, 1 - n_w)), _CHUNK):
            yield transfer_matrices(lags, part)
    else:
        for part in torch.split(waves((n_h, n_w), grid), _CHUNK):
            matrices = transfer_matrices(taps, part)
            yield matrices @ matrices.mH


def _autocorrelation(taps: Tensor) -> Tensor:
    """``R_d = Σ_q W_{q+d} W_qᵀ`` (2·taps_h - 1, 2·taps_w - 1, out, out), from the most negative d on."""
    n_h, n_w, k, _ = taps.shape
    flat = taps.reshape(n_h * n_w * k, -1)
    products = (flat @ flat.mT).reshape(n_h, n_w, k, n_h, n_w, k).permute(3, 4, 0, 1, 2, 5)
    lags = products.new_zeros(2 * n_h - 1, 2 * n_w - 1, k, k)
    for i in range(n_h):
        for j in range(n_w):
            lags[n_h - 1 - i : 2 * n_h - 1 - i, n_w - 1 - j : 2 * n_w - 1 - j] += products[i, j]
    return lags


def frequency_grid(taps: int, positions: int | None) -> tuple[int, float]:
    """Grid points along one axis, and how much larger than the largest value on the grid the norm may be.

    Args:
        taps: length of the polyphase kernel; its centred symbol has degree ``(taps - 1)/2``.
        positions: length of the output, or ``None`` for any.
    """
    angle = math.pi * (taps - 1) / 2
    points = max(1, math.ceil(angle / math.acos(GRID_FACTOR**-0.5)))
    if positions is not None and positions + taps - 1 <= points:
        return positions + taps - 1, 1.0  # the convolution fits on a torus
    return points, 1.0 / math.cos(angle / points)


def _grid(taps: Tensor, output_size: Pair | None) -> tuple[Pair, float, float]:
    """The grid for the ``taps``, how much larger than on it the norm may be, and what rounding adds to its square.

    The rounding is relative and covers the products, the sums, the phases and LAPACK: each is wrong by a multiple of
    ``eps·‖Σ_q |W_q|‖_F² ≤ eps·n·‖W‖_F²`` with n taps, and ``‖W‖_F² ≤ k·(largest value on the grid)²`` by Parseval.
    """
    n_h, n_w, out, channels = taps.shape
    height, width = (None, None) if output_size is None else output_size
    (grid_h, factor_h), (grid_w, factor_w) = frequency_grid(n_h, height), frequency_grid(n_w, width)
    rounding = 16 * EPS64 * (4 * n_h * n_w + out + channels) * n_h * n_w * min(out, channels)
    return (grid_h, grid_w), factor_h * factor_w, rounding


@torch.no_grad()
def convolution_norm(weight: Tensor, stride: Pair = (1, 1), output_size: Pair | None = None) -> float:
    """Upper bound (l2, float64) of the norm of the convolution with ``weight``, whatever its zero padding.

    The norm on the infinite plane is the largest spectral norm of the transfer matrix over all frequencies. It is
    taken on a grid, and multiplied by ``1/cos(πd/N)`` per axis for what lies between the points (docs/convolutions.md;
    Pfister & Bresler 2019, "Bounding multivariate trigonometric polynomials", have ``(1 - 2d/N)^(-1/2)``). Where the
    output is no larger than ``output_size``, a grid of that size is enough and the factor is 1. Float64 rounding is
    counted; kernels are scaled by max|W| first.

    Args:
        weight: (out, in, height, width).
        output_size: (height, width) of the largest output, or ``None`` for images of every size.

    Raises:
        ValueError: NaN or infinite weights.
    """
    check_finite(weight)
    exact = weight.detach().to("cpu", torch.float64)
    scale = float(exact.abs().max()) if exact.numel() else 0.0
    if scale == 0.0:
        return 0.0
    taps = polyphase(exact / scale, stride)
    grid, factor, rounding = _grid(taps, output_size)
    square = max(float(torch.linalg.eigvalsh(grams).max()) for grams in gram_matrices(taps, grid))
    return math.sqrt(square) * scale * factor * (1.0 + rounding)


@torch.no_grad()
def convolution_fits(
    weight: Tensor, bound: float, stride: Pair = (1, 1), output_size: Pair | None = None
) -> bool:
    """Whether :func:`convolution_norm` is at most ``bound``, by Cholesky tests at a quarter of its price.

    ``False`` may be a false alarm within rounding (and is said of NaN and infinity); ``True`` is not.
    """
    taps = polyphase(weight.detach().to("cpu", torch.float64), stride)
    grid, factor, rounding = _grid(taps, output_size)
    for grams in gram_matrices(taps * (factor / bound), grid):
        slack = grams.neg_()
        # of the square: 2·rounding is what convolution_norm adds, the rest what the factorisation may be wrong by
        slack.diagonal(dim1=1, dim2=2).add_(1.0 - 4 * rounding)
        if bool(torch.linalg.cholesky_ex(slack).info.any()):
            return False
    return True


def conv2d_norm(conv: nn.Conv2d) -> float:
    """:func:`convolution_norm` of a plain ``nn.Conv2d``, for images of every size; groups and dilation included.

    Raises:
        ValueError: a padding mode that the bound does not cover, or NaN or infinite weights.
    """
    if conv.padding_mode != "zeros":
        raise ValueError(
            f"padding_mode={conv.padding_mode!r} repeats pixels, which can make an image longer by itself, so the norm "
            "of the kernel is no bound. Use padding_mode='zeros', or pad in an environment wrapper."
        )
    weight = conv.weight.detach()
    (dilation_h, dilation_w), (height, width) = conv.dilation, weight.shape[2:]
    spread = weight.new_zeros(*weight.shape[:2], (height - 1) * dilation_h + 1, (width - 1) * dilation_w + 1)
    spread[:, :, ::dilation_h, ::dilation_w] = weight
    stride = conv.stride[0], conv.stride[1]
    return max(convolution_norm(group, stride) for group in spread.chunk(conv.groups))


@torch.no_grad()
def random_paraunitary(out: int, channels: int, kernel: Pair, stride: Pair) -> Tensor:
    """Random float64 kernel (out, channels, *kernel) whose transfer matrices all have orthonormal rows (columns).

    Products of factors ``P + (I - P)e^{iω}`` with random projections P (Vaidyanathan 1993, "Multirate systems and
    filter banks", section 14.4; Li et al. 2019, "Preventing gradient attenuation in Lipschitz constrained
    convolutional networks", for two dimensions). Where the stride does not divide the kernel, its end is zero.
    """
    patch = min(kernel[0], stride[0]), min(kernel[1], stride[1])
    size = channels * patch[0] * patch[1]
    taps = random_orthonormal(out, size)[None, None]
    for axis in (0, 1):
        for _ in range(1, kernel[axis] // stride[axis]):
            half = random_orthonormal(min(out, size), min(out, size))[:, ::2]
            projection = half @ half.mT
            kept = projection @ taps if out <= size else taps @ projection
            zero = torch.zeros_like(taps.narrow(axis, 0, 1))
            taps = torch.cat([kept, zero], axis) + torch.cat([zero, taps - kept], axis)
    taps_h, taps_w = taps.shape[:2]
    blocks = taps.reshape(taps_h, taps_w, out, channels, *patch).permute(2, 3, 0, 4, 1, 5)
    filled = blocks.reshape(out, channels, taps_h * patch[0], taps_w * patch[1])
    return F.pad(filled, (0, kernel[1] - filled.shape[3], 0, kernel[0] - filled.shape[2]))


@torch.no_grad()
def cut_norm(
    weight: Tensor, stride: Pair, bound: float, directions: Tensor | None, output_size: Pair | None = None
) -> tuple[float, Tensor | None]:
    """One step of ``weight`` towards the kernels of norm ≤ ``bound``, in place; never away from any of them.

    At the frequencies of a coarse grid (of the exact one, where the outputs are few), unit vectors u and v are found by
    a warm block power iteration. Every such pair gives a half-space ``Re u*F(ω)v ≤ bound`` that holds the whole set;
    the weight is projected on the half-space that is the mean of the violated ones, weighted by their violation
    (Pierra 1984, extrapolated parallel projections). It *under*estimates the norm: a stand-in between optimizer
    steps, never a bound.

    Args:
        directions: (frequencies, in, k) orthonormal v's of the last step, or ``None``.

    Returns:
        The largest violation, relative to ``bound``, and the directions to start from next time.
    """
    scale = float(weight.abs().max())
    if not 0.0 < scale < math.inf:
        return 0.0, directions
    taps = polyphase(weight / scale, stride)
    n_h, n_w, out, channels = taps.shape
    height, width = (math.inf, math.inf) if output_size is None else output_size
    grid = int(min(_coarse(n_h), height + n_h - 1)), int(min(_coarse(n_w), width + n_w - 1))
    phases = waves((n_h, n_w), grid).to(taps.device)
    matrices = transfer_matrices(taps, phases)
    if directions is None:
        start = torch.randn(channels, min(channels, N_DIRECTIONS), generator=torch.Generator().manual_seed(0))
        directions = start.expand(len(matrices), -1, -1)
    right = torch.linalg.qr(((matrices @ directions.to(matrices)).mH @ matrices).mH).Q
    left = matrices @ right
    sizes = torch.view_as_real(left).square().sum(dim=(1, 3)).sqrt_().unsqueeze(1)
    violation = (sizes - bound / scale).clamp_min_(0.0)
    worst = float(violation.max())
    if not worst > 0.0:
        return 0.0, right
    # the gradient of Σ violation·Re u*F(ω)v with respect to the taps
    outer = (left * (violation / sizes.clamp_min(1e-30)) @ right.mH).flatten(1)
    normal = (phases.to(outer).mH @ outer).real.reshape(n_h, n_w, out, channels)
    normal = _inverse_polyphase(normal, stride, weight.shape)
    weight.sub_(normal, alpha=scale * float(violation.square().sum() / normal.square().sum()))
    return worst * scale / bound, right


def _coarse(taps: int) -> int:
    return COARSE * taps if taps > 1 else 1


def _inverse_polyphase(taps: Tensor, stride: Pair, shape: torch.Size) -> Tensor:
    """The kernel of ``shape`` that :func:`polyphase` turned into ``taps``."""
    n_h, n_w, out, _ = taps.shape
    phases = taps.reshape(n_h, n_w, out, -1, *stride).permute(2, 3, 0, 4, 1, 5)
    kernel = phases.reshape(out, -1, n_h * stride[0], n_w * stride[1])
    return kernel[:, :, : shape[2], : shape[3]]
