"""Spectral ball: plain weights whose largest singular value is kept at most ``bound`` by projection."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lipsrl.layers._base import Factors, LipschitzLayer
from lipsrl.layers._float32_clip import inside_by_float32
from lipsrl.layers._float32_gram import CountedGram, worth_it
from lipsrl.layers._leading import SLACK, Leading, clip_leading
from lipsrl.layers._linalg import (
    LARGE,
    MARGIN,
    check_finite,
    clip_singular_values,
    gram_is_contraction,
    in_units,
    random_orthonormal,
    shrink_into_ball,
    smaller_gram,
    spectral_norm,
)
from lipsrl.layers._reach import PAUSE, Reach, norm_below

#: Weights of sizes up to here, and down to its inverse, do not underflow in float32.
LARGEST = 1e15

#: Large weights that are trained on are put this far (relative) inside the ball at a transition to acting, where they
#: were outside: room for some more optimizer steps, so that not every transition has to move them.
ROUGHLY = 5e-3

#: Singular directions that the cheap update follows.
TRACKED = 8


@torch.no_grad()
def clip_leading_singular_values(weight: Tensor, bound: float, basis: Tensor) -> tuple[float, Tensor]:
    """Clip the leading singular values of ``weight`` (m, n) to ``bound`` in place, by one step of subspace iteration.

    Rayleigh–Ritz (Halko et al. 2011, section 5) on the orthonormal ``basis`` (n, r), which the last call returned. A
    cheap stand-in for the Euclidean projection (singular value clipping) between two optimizer steps: it
    *under*estimates singular values and misses those outside the basis, so it is never used where a bound is claimed.

    Returns:
        What the largest was above the bound, and the basis to start from next time.
    """
    image = weight @ basis
    try:
        squares, rotation = torch.linalg.eigh(image.mT @ image)
    except RuntimeError:
        # LinAlgError: not finite, or too large for squares; a matter for the exact projection
        return math.inf, basis
    sigma = squares.clamp_min_(1e-30).sqrt_()
    excess = float(sigma[-1]) - bound
    if not excess < math.inf:
        return excess, basis
    if excess > 0:
        share = (1.0 - bound / sigma).clamp_min_(0.0)
        weight.addmm_((image @ rotation).mul_(share), (basis @ rotation).mT, alpha=-1.0)
    return max(excess, 0.0), torch.linalg.qr(weight.mT @ image).Q


@torch.no_grad()
def clip_by_gram(weight: Tensor, gram: Tensor, radius: float) -> Tensor:
    """:func:`~lipsrl.layers._linalg.clip_singular_values` of ``weight`` (m, n) to ``radius``, up to rounding.

    ``W - Σ (1 - radius/σ)₊ uuᵀW`` with the eigenpairs (σ², u) of its smaller Gram matrix ``gram``, in the dtypes of the
    two: at a fraction of an SVD's price, but only precise while no σ is much larger than ``radius``.
    """
    squares, vectors = torch.linalg.eigh(gram)
    share = (1.0 - radius * squares.clamp_min(radius**2).rsqrt()).clamp_min_(0.0)
    excess = ((vectors * share) @ vectors.mT).to(weight.dtype)
    clipped: Tensor = weight - (weight @ excess if weight.shape[0] >= weight.shape[1] else excess @ weight)
    return clipped


class Spectral(LipschitzLayer):
    """Linear layer in the spectral ball ``‖W‖₂ ≤ bound``, with an optional activation.

    The ball is convex, so a polyak average of feasible weights is feasible. The exact projection clips the
    singular values in float64 (Gouk et al. 2021, "Regularisation of neural networks by enforcing Lipschitz
    continuity", use rescaling; clipping is the Euclidean projection). Starts orthogonal, at ``gain·bound``.

    Attributes:
        slack: how far inside the ball (relative) weights are put that were outside. Where the projection is dear, a
            little more leaves room for a few small steps before the next one.
    """

    name: ClassVar[str] = "spectral"
    shrinks: ClassVar[bool] = True
    weight: nn.Parameter
    slack: float = MARGIN
    #: What the last projection clipped, where it did; warm start only: never part of what the layer means.
    _followed: Leading | None = None
    _followed_roughly: Leading | None = None  # in float32
    #: A weight of proven norm, from which the present one is not far; never needed.
    _reach: Reach | None = None
    _guess: Tensor | None = None
    #: How many times it is not worth to prove more than is asked for.
    _pause: int = 0

    def reset_parameters(self, gain: float) -> None:
        start = random_orthonormal(self.out_features, self.in_features, gain * self.radius * (1 - MARGIN))
        self.weight = nn.Parameter(start.to(self.bias.dtype).contiguous())
        self._basis: Tensor | None = None  # warm start only: never part of what the layer means

    def factors(self, dtype: torch.dtype | None = None) -> Factors:
        return Factors(in_units(self.weight, self.unit, dtype))

    def lipschitz_bound(self) -> float:
        return spectral_norm(self.weight) * self.unit

    @torch.no_grad()
    def start_from(self, weight: Tensor) -> None:
        self.weight.copy_(weight / self.unit)
        self.project()

    @torch.no_grad()
    def hold(self, bound: float, unit: float) -> None:
        if unit != self.unit:
            self.weight.mul_(self.unit / unit)
        super().hold(bound, unit)

    @torch.no_grad()
    def project(self) -> bool:
        return self._project(self.slack, move_edge=False)

    @torch.no_grad()
    def project_roughly(self) -> bool:
        return self._project(max(self.slack, ROUGHLY), move_edge=True)

    def _project(self, slack: float, *, move_edge: bool) -> bool:
        if self._reach is not None and self._reach.covers(self.weight, self.radius):
            return False
        self._reach = None
        moved = self._prove(slack, move_edge)
        self._pause = PAUSE if moved else max(0, self._pause - 1)
        return moved

    def _reaches(self, gram: Tensor, error: float = 0.0) -> bool:
        """Whether the weight of this Gram matrix (lower triangle) is proven to be well inside, as its neighbours."""
        if self._pause:
            return False
        norm, self._guess = norm_below(gram, self.weight.shape, error, self._guess)
        if norm is not None:
            self._reach = Reach(self.weight.detach().clone(), norm * self.radius)
        return norm is not None

    def _prove(self, slack: float, move_edge: bool) -> bool:
        """Put the weight into the ball, for certain; whether it was moved."""
        counted = (
            CountedGram.of(self.weight, self.radius) if worth_it(self.weight, self.radius, slack) else None
        )
        if counted is not None:
            if self._reaches(counted.lower, counted.error):
                return False
            inside, self._followed_roughly = inside_by_float32(
                self.weight, counted, slack, move_edge=move_edge, followed=self._followed_roughly
            )
            if inside is not None:
                if inside is not self.weight:
                    self.weight.copy_(inside)
                return inside is not self.weight
        matrix = self.weight.double() / self.radius
        gram = smaller_gram(matrix)
        followed = self._followed
        if followed is not None and followed.fits(gram, self.weight):
            # it was outside the last time, so it will be now: no factorisation to find that out
            clipped, self._followed, moved = clip_leading(
                matrix, gram, followed, max(self.slack, SLACK), self.weight.dtype
            )
            if clipped is not None:
                if moved:
                    self.weight.copy_(clipped.mul_(self.radius))
                return moved
            self._followed = None
        if self._reaches(gram):
            return False
        if gram_is_contraction(gram, self.weight.shape):  # never if there is NaN or infinity
            self._followed = None
            return False
        check_finite(self.weight)
        if 1.0 / LARGEST < self.radius < LARGEST and float(gram.diagonal().max()) < math.inf:
            self._followed = Leading.of(gram, self.weight)
        self.weight.copy_(shrink_into_ball(self._clipped(gram), self.radius, self.weight.dtype))
        return True

    def _clipped(self, gram: Tensor) -> Tensor:
        """The weight with no singular value above ``(1 - slack)·radius``, up to rounding."""
        share = 1.0 - self.slack
        if self.weight.numel() <= LARGE or not float(gram.diagonal().max()) < 2.0:
            return clip_singular_values(self.weight, self.radius * share)
        precise = self.slack <= MARGIN  # float32 is off by less than any other slack
        return clip_by_gram(
            self.weight.double() if precise else self.weight,
            gram if precise else gram.to(self.weight),
            share,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_reach"}

    @torch.no_grad()
    def project_cheaply(self) -> float:
        basis = self._basis
        if basis is None or basis.device != self.weight.device or basis.dtype != self.weight.dtype:
            rank = min(TRACKED, *self.weight.shape)
            basis = torch.linalg.qr(self.weight[:rank].mT).Q
        excess, self._basis = clip_leading_singular_values(self.weight, self.radius, basis)
        return excess / self.radius
