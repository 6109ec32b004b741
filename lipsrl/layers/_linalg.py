"""Norms, projections and retractions of a weight matrix; every norm here is an upper bound in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor

EPS64 = torch.finfo(torch.float64).eps

#: Projections aim this far (relative) inside their set, so that rounding to float32 cannot leave it.
MARGIN = 2e-6

#: Matrices with more entries than this are treated through their Gram matrix, smaller ones by their SVD.
LARGE = 64 * 256


def check_finite(weight: Tensor, name: str = "weight") -> None:
    """Raise ``ValueError`` if ``weight`` holds NaN or infinity: no norm of it would mean anything."""
    if not bool(torch.isfinite(weight).all()):
        raise ValueError(
            f"{name} of shape {tuple(weight.shape)} holds NaN or infinite values, so it has no Lipschitz bound. "
            "Check the loss and the learning rate; reload the last good checkpoint."
        )


def in_units(weight: Tensor, unit: float, dtype: torch.dtype | None) -> Tensor:
    """``unit·weight`` in ``dtype`` (its own if ``None``); the weight itself where that is no other."""
    weight = weight if dtype is None else weight.to(dtype)
    return weight if unit == 1.0 else weight * unit


@torch.no_grad()
def spectral_norm(weight: Tensor) -> float:
    """Upper bound of the largest singular value of ``weight`` (m, n), from a float64 SVD or, if large, Gram matrix.

    Never below the exact value. The SVD is inflated by LAPACK's backward error 16·eps·max(m, n). The computed Gram
    matrix G is off by at most γ‖W‖_F², whatever the order of the sums (Higham 2002, "Accuracy and stability of
    numerical algorithms", section 3.5), and ‖W‖_F² = tr G, which also covers its eigenvalues' backward error:
    4·eps·(m + n)·tr G is added, at most 1e-9 of the norm up to 512×3136.
    Scaled by max|W| first, so that weights of 1e-20 or 1e20 neither underflow nor overflow.
    """
    check_finite(weight)
    matrix = weight.detach().to("cpu", torch.float64)
    scale = float(matrix.abs().max()) if matrix.numel() else 0.0
    if scale == 0.0:
        return 0.0
    matrix = matrix / scale
    if matrix.numel() <= LARGE:
        return float(torch.linalg.svdvals(matrix)[0]) * scale * (1.0 + 16 * EPS64 * max(matrix.shape))
    gram = smaller_gram(matrix)
    square = float(torch.linalg.eigvalsh(gram)[-1]) + 4 * EPS64 * sum(matrix.shape) * float(gram.trace())
    return math.sqrt(square) * scale * (1.0 + 4 * EPS64)


@torch.no_grad()
def operator_norm(weight: Tensor, norm: str = "l2") -> float:
    """Upper bound of the norm of ``x ↦ Wx`` in float64.

    The spectral norm (``"l2"``), the largest l1 norm of a row (``"linf"``) or of a column (``"l1"``).
    """
    if norm == "l2":
        return spectral_norm(weight)
    check_finite(weight)
    sums = weight.detach().to("cpu", torch.float64).abs().sum(dim=1 if norm == "linf" else 0)
    return float(sums.max()) * (1.0 + 2 * EPS64 * max(weight.shape))


def smaller_gram(matrix: Tensor) -> Tensor:
    """``MᵀM`` or ``MMᵀ``, whichever is smaller; both have the same largest eigenvalue."""
    return matrix.mT @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.mT


@torch.no_grad()
def is_contraction(matrix: Tensor) -> bool:
    """Whether the largest singular value of the float64 ``matrix`` is below 1, by a Cholesky test.

    ``False`` may be a false alarm within η (see :func:`gram_is_contraction`) of 1; ``True`` is not.
    """
    return gram_is_contraction(smaller_gram(matrix), matrix.shape)


@torch.no_grad()
def gram_is_contraction(gram: Tensor, shape: torch.Size) -> bool:
    """:func:`is_contraction` of a matrix of ``shape`` whose smaller Gram matrix is at hand. Leaves it as it is."""
    gap = gram.neg()
    gap.diagonal().add_(1.0)
    return gap_proves_contraction(gap, shape)


@torch.no_grad()
def gap_proves_contraction(gap: Tensor, shape: torch.Size, less: float = 0.0) -> bool:
    """:func:`is_contraction` of a matrix M of ``shape``, from ``gap = I - MᵀM``, which is left as it is.

    ``(1 - η)I - MᵀM`` has a Cholesky factor only if it is positive definite up to rounding; η covers the
    rounding of the product and of the factorisation.

    Args:
        less: how much further (of the squared norm) below 1 it must be.
    """
    m, n = shape
    slack = gap.clone()
    slack.diagonal().sub_(8 * EPS64 * (m + n) * min(m, n) + less)
    return int(torch.linalg.cholesky_ex(slack).info) == 0


@torch.no_grad()
def clip_singular_values(weight: Tensor, bound: float) -> Tensor:
    """Euclidean projection of ``weight`` on the ball of matrices with largest singular value ≤ ``bound``."""
    check_finite(weight)
    u, s, vh = torch.linalg.svd(weight.detach().double(), full_matrices=False)
    clipped: Tensor = (u * s.clamp(max=bound)) @ vh
    return clipped


@torch.no_grad()
def polar_factor(weight: Tensor) -> Tensor:
    """Nearest matrix with orthonormal columns (or rows), in float64: ``UVᵀ`` of the SVD.

    Higham, "Computing the polar decomposition" (1986). A singular direction of an all-zero or
    rank-deficient weight is completed by the SVD's own basis.
    """
    check_finite(weight)
    matrix = weight.detach().double()
    scale = matrix.abs().max()
    u, _, vh = torch.linalg.svd(matrix / scale if scale > 0 else matrix, full_matrices=False)
    polar: Tensor = u @ vh
    return polar


@torch.no_grad()
def newton_schulz_step(weight: Tensor, radius: float = 1.0) -> tuple[Tensor | None, float]:
    """One Newton–Schulz (Björck, order 1) step towards orthonormal columns (rows) of norm ``radius``.

    ``W ← W(3/2·I - WᵀW/(2r²))`` maps each singular value s·r to (3s - s³)/2·r, which is ≤ r for every
    s in [0, 2] (Björck & Bowie 1971): the step is sound, and it squares the distance from orthogonality.

    Returns:
        The new weight, or ``None`` where ``‖WᵀW/r² - I‖_F > 1/2`` (too far away for one step, or not finite), and
        half of that norm.
    """
    tall = weight.shape[0] >= weight.shape[1]
    correction = torch.eye(min(weight.shape), dtype=weight.dtype, device=weight.device)
    left, right = (weight.mT, weight) if tall else (weight, weight.mT)
    correction.addmm_(left, right, beta=0.5, alpha=-0.5 / radius**2)  # = (I - WᵀW/r²)/2
    distance = float(correction.norm())
    if not distance <= 0.25:  # also catches NaN
        return None, distance
    product = weight @ correction if tall else correction @ weight
    return product.add_(weight), distance


@torch.no_grad()
def distance_from_identity(gram: Tensor) -> float:
    """Largest entry of ``|G - I|``."""
    difference = gram.clone()
    difference.diagonal().sub_(1.0)
    return float(difference.abs_().max())


@torch.no_grad()
def shrink_into_ball(matrix: Tensor, bound: float, dtype: torch.dtype) -> Tensor:
    """Round the float64 ``matrix`` to ``dtype`` such that its exact norm stays below ``bound``."""
    rounded = matrix.to(dtype)
    while not is_contraction(rounded.double() / bound):
        matrix = matrix * (1.0 - MARGIN)
        rounded = matrix.to(dtype)
    return rounded


@torch.no_grad()
def random_orthonormal(rows: int, columns: int, gain: float = 1.0) -> Tensor:
    """Haar-distributed matrix with orthonormal columns (rows if wide), times ``gain``; float64."""
    flat = torch.randn(max(rows, columns), min(rows, columns), dtype=torch.float64)
    q, r = torch.linalg.qr(flat)
    q = q * torch.where(torch.diagonal(r) < 0, -1.0, 1.0)  # sign fix: Mezzadri (2007); guards sign(0)
    matrix: Tensor = gain * (q if rows >= columns else q.mT)
    return matrix
