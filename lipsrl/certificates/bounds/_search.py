"""Searching for the steepest place of a map: lower bounds of its Lipschitz constant, with their witnesses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


#: Relative rounding error allowed for one float64 evaluation of the map.
ROUNDING = 64 * torch.finfo(torch.float64).eps


#: Order of each norm.
ORDERS = {"l2": 2.0, "linf": float("inf"), "l1": 1.0}
NORMS = tuple(ORDERS)


@dataclass(frozen=True)
class Pair:
    """Two inputs and what the map makes of them, all float64.

    ``error`` bounds the l2 norm of the rounding of y and y′ together; lengths are in ``norm``.
    """

    x: Tensor
    x_prime: Tensor
    y: Tensor
    y_prime: Tensor
    error: float = 0.0
    norm: str = "l2"

    @property
    def ratio(self) -> float:
        """``‖f(x) - f(x')‖ / ‖x - x'‖``, lowered by what rounding can have added to the two differences."""

        def size(vector: Tensor) -> float:
            return float(lengths(vector, self.norm))

        # an l1 norm adds up what an l2 norm bounds
        error = self.error * (len(self.y) ** 0.5 if self.norm == "l1" else 1.0)
        near = size(self.x) + size(self.x_prime)
        gap = size(self.x - self.x_prime) + ROUNDING * near
        moved = size(self.y - self.y_prime)
        noise = error + ROUNDING * (size(self.y) + size(self.y_prime) + moved / gap * near)
        return max(moved - noise, 0.0) / gap


def lengths(vectors: Tensor, norm: str) -> Tensor:
    """Norms of the last dimension."""
    size: Tensor = torch.linalg.vector_norm(vectors, ord=ORDERS[norm], dim=-1)
    return size


def jacobians(function: Map, x: Tensor) -> Tensor:
    """Jacobians (n, out, in) of ``function`` at each row of ``x`` (n, in)."""
    x = x.detach().requires_grad_(True)
    y = function(x)
    outputs = y.shape[1]
    rows = []
    for i in range(outputs):
        (row,) = torch.autograd.grad(y[:, i].sum(), x, retain_graph=i + 1 < outputs)
        rows.append(row)
    return torch.stack(rows, dim=1).detach()


def _slopes(function: Map, x: Tensor, norm: str = "l2", chunk: int = 4096) -> tuple[Tensor, Tensor]:
    """Operator norm (n,) of the Jacobian at each row, and the direction (n, in), of norm one, stretched most."""
    values, vectors = [], []
    for part in x.split(chunk):  # type: ignore[no-untyped-call]
        jacobian = jacobians(function, part)
        if norm == "l2":
            _, s, vh = torch.linalg.svd(jacobian, full_matrices=False)
            values.append(s[:, 0])
            vectors.append(vh[:, 0])
        elif norm == "linf":
            size, row = jacobian.abs().sum(dim=2).max(dim=1)
            values.append(size)
            vectors.append(torch.where(jacobian[torch.arange(len(part)), row] < 0, -1.0, 1.0).to(x.dtype))
        else:
            size, column = jacobian.abs().sum(dim=1).max(dim=1)
            values.append(size)
            vectors.append(torch.nn.functional.one_hot(column, x.shape[1]).to(x.dtype))
    return torch.cat(values), torch.cat(vectors)


def _climb(
    function: Map, x: Tensor, scale: Tensor, rounds: int, generator: torch.Generator, norm: str
) -> Tensor:
    """Hill-climb the Jacobian norm by random moves: it is piecewise constant for ReLU, so it has no gradient."""
    best, _ = _slopes(function, x, norm)
    for i in range(rounds):
        size = scale * 10.0 ** (-0.5 - 2.5 * i / max(rounds - 1, 1))
        moved = x + size * torch.randn(x.shape, dtype=x.dtype, generator=generator)
        slopes, _ = _slopes(function, moved, norm)
        better = slopes > best
        x, best = torch.where(better.unsqueeze(1), moved, x), torch.where(better, slopes, best)
    return x


def _ascend(
    function: Map, x: Tensor, direction: Tensor, scale: Tensor, steps: int, norm: str
) -> tuple[Tensor, Tensor]:
    """Gradient ascent of log(‖Δf‖/‖Δx‖) over both ends of finite pairs, from ``x ± direction``; best ones seen."""
    n = len(x)
    # lengths over three decades: short pairs find the Jacobian, long ones step over kinks
    length = scale.norm() * torch.logspace(-4, -1, n, dtype=x.dtype).unsqueeze(1)
    ends = torch.cat([x - 0.5 * length * direction, x + 0.5 * length * direction]).requires_grad_(True)
    optimizer = torch.optim.Adam([ends], lr=3e-3 * float(scale.norm()))
    shortest = 1e-5 * float(scale.norm())
    best_ends, best = ends.detach().clone(), torch.full((n,), -1.0, dtype=x.dtype)
    for _ in range(steps):
        y = function(ends)
        gap = lengths(ends[:n] - ends[n:], norm)
        ratio = lengths(y[:n] - y[n:], norm) / gap.clamp_min(shortest)
        better = (ratio > best) & (gap >= shortest)
        best = torch.where(better, ratio.detach(), best)
        both = torch.cat([better, better]).unsqueeze(1)
        best_ends = torch.where(both, ends.detach(), best_ends)
        loss = -torch.log(ratio + 1e-12).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        # x is measured in `scale` per coordinate; a saturated pair has no gradient and stays where it is
        assert ends.grad is not None
        ends.grad.nan_to_num_(0.0)
        optimizer.step()
    return best_ends[:n], best_ends[n:]


def steepest_pair(
    function: Map,
    starts: Tensor,
    scale: Tensor,
    *,
    keep: int = 96,
    rounds: int = 24,
    steps: int = 120,
    seed: int = 0,
    norm: str = "l2",
    rounding: Map | None = None,
) -> Pair:
    """The steepest pair that was found: a *lower* bound of the Lipschitz constant of ``function``.

    Jacobian norms at all ``starts``, hill climbing from the ``keep`` steepest, then gradient ascent over both
    ends of finite pairs.

    Args:
        function: float64 map (n, in) → (n, out), differentiable almost everywhere.
        starts: (n, in).
        scale: (in,) typical size of each coordinate.
        seed: of the random moves.
        norm: ``"l2"``, ``"linf"`` or ``"l1"``, of inputs and outputs.
        rounding: (n, in) → (n,) bound of ‖rounding error‖ of one evaluation, where it may exceed ``ROUNDING`` of
            the output's size: numbers that cancel inside the map.
    """
    generator = torch.Generator().manual_seed(seed)
    slopes, _ = _slopes(function, starts, norm)
    x = starts[slopes.argsort(descending=True)[:keep]]
    x = _climb(function, x, scale, rounds, generator, norm)
    _, direction = _slopes(function, x, norm)
    a, b = _ascend(function, x, direction, scale, steps, norm)
    # the infinitesimal pair at the steepest point belongs to the candidates
    half = 0.5e-5 * scale.norm() * direction
    a, b = torch.cat([a, x - half]), torch.cat([b, x + half])
    with torch.no_grad():
        ya, yb = function(a), function(b)
        error = torch.zeros(len(a), dtype=a.dtype) if rounding is None else rounding(a) + rounding(b)
        ratios = (lengths(ya - yb, norm) - error) / lengths(a - b, norm)
        best = int(ratios.nan_to_num(nan=-1.0).argmax())
    return Pair(a[best], b[best], ya[best], yb[best], float(error[best]), norm)
