"""How the bound K of a network is split over its layers."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lipsrl._validation import lookup
from lipsrl.layers._linalg import check_finite

#: name → what it does.
BUDGETS = {
    "output": "K belongs to the last layer; the others are 1-Lipschitz",
    "even": "every layer gets K^(1/L)",
    "sqrt": "the first and the last layer get √K each, the others 1",
    "learned": "as 'even' at first; the shares are learned with their product held at K",
    "growing": "every layer starts as large as its plain twin and may grow as far as Adam grows that one",
}

#: How fast gains grow: a step of Adam at learning rate η changes a gain by at most the factor exp(GAIN_RATE·η). The
#: norms of plain layers grow by about 2.5 in training in as many steps (docs/pace.md).
GAIN_RATE = 4.0

#: Gains are never below exp(-LARGEST_LOG).
LARGEST_LOG = 16.0

#: Norms of the layers of a plain network at its start: name → what SB3 or torch draws.
STARTS = ("orthogonal", "linear")


def layer_bounds(budget: str, bound: float, n_layers: int) -> list[float]:
    """Bounds of ``n_layers`` layers with product ``bound``, up to rounding never above it.

    ``"learned"`` starts from the even split; :class:`LearnedBudget` moves it.

    Raises:
        ValueError: ``budget`` is no key of :data:`BUDGETS`.
    """
    lookup("budget", budget, BUDGETS)
    if n_layers == 1:
        return [bound]
    if budget == "output":
        return [1.0] * (n_layers - 1) + [bound]
    if budget == "sqrt":
        root = bound**0.5
        return [root] + [1.0] * (n_layers - 2) + [bound / root]
    share = bound ** (1.0 / n_layers)
    return [share] * n_layers


def start_norms(start: str, sizes: Sequence[int]) -> list[float]:
    """Root mean square singular value of each layer of a plain network of ``sizes`` at its start.

    ``"orthogonal"``: SB3's ``ortho_init``, √2 for every hidden layer; ``"linear"``: torch's own ``U(±1/√n)`` for n
    inputs, whose m·n entries have variance 1/(3n), hence ``√(m / (3·min(m, n)))``.

    Raises:
        ValueError: ``start`` is none of :data:`STARTS`.
    """
    lookup("start", start, dict.fromkeys(STARTS))
    if start == "orthogonal":
        return [math.sqrt(2.0)] * (len(sizes) - 1)
    return [math.sqrt(m / (3 * min(m, n))) for n, m in itertools.pairwise(sizes)]


#: How the steps of a plain twin's layers add up.
GROWTHS = {
    "random": "steps of random signs: norms √m + √n",
    "coherent": "steps of one direction: norms √(mn)",
}


def growing_bounds(
    bound: float, sizes: Sequence[int], starts: Sequence[float], growth: str = "random"
) -> list[float]:
    """How large each layer of a network of ``sizes`` may become, with product ``bound``.

    A step of Adam moves every entry of a plain network by about the learning rate η. Of random signs such a step has
    norm η·(√m + √n) in a layer of m × n (Davidson & Szarek 2001, theorem 2.13), so layers that grow from ``starts`` are
    at ``startsᵢ + τ·(√mᵢ + √nᵢ)``; τ is such that the product is ``bound``. So the split meets the path on which the
    plain twin grows (measured: docs/pace.md). Where ``bound`` is below the product of ``starts``, the last layer has
    what the others leave.

    With ``growth="coherent"`` a step has norm ``η·√(mn)``, which it has where all entries move as the signs of one
    vector times those of another: so grow Q-networks, whose level rises for tens of thousands of steps.

    Raises:
        ValueError: ``growth`` is none of :data:`GROWTHS`.
    """
    lookup("growth", growth, GROWTHS)
    coherent = growth == "coherent"

    def path(tau: float) -> list[float]:
        steps = (
            math.sqrt(m * n) if coherent else math.sqrt(m) + math.sqrt(n)
            for n, m in itertools.pairwise(sizes)
        )
        return [start + tau * step for start, step in zip(starts, steps, strict=True)]

    tau = 0.0
    if math.prod(starts) < bound:
        low, high = 0.0, 1.0
        while math.prod(path(high)) < bound:
            high *= 2.0
        for _ in range(100):
            tau = (low + high) / 2
            low, high = (tau, high) if math.prod(path(tau)) < bound else (low, tau)
    hidden = path(tau)[:-1]
    return [*hidden, bound / math.prod(hidden)]


class Shares(nn.Module, ABC):
    """Learned factors of the layers' bounds; every value of the parameters is feasible, and so are averages."""

    @abstractmethod
    def factors(self, dtype: torch.dtype | None = None) -> Tensor:
        """(n_layers,) factors, differentiable, computed in ``dtype`` (the parameters' own if ``None``)."""

    def per_layer(self, dtype: torch.dtype | None = None) -> Sequence[Tensor | None]:
        """:meth:`factors` one by one; ``None`` for one that is always 1."""
        return self.factors(dtype).unbind()

    def project(self) -> bool:
        """Put the parameters back where they act as they are. Returns whether any changed."""
        return False


class GrowingGains(Shares):
    """Factors ``exp(RATE·θ)`` in (0, 1], one per hidden layer that cannot shrink by itself, and 1 for the last layer.

    A plain layer's norm grows in training; an orthogonal one's cannot, so a gain does it. θ > 0 acts as 0.

    Args:
        starts: (n_hidden,) factors to start with; above 1 they count as 1.
    """

    def __init__(self, starts: Sequence[float]) -> None:
        super().__init__()
        self.log_gains = nn.Parameter(torch.zeros(len(starts)))
        self.set(starts)

    @torch.no_grad()
    def set(self, factors: Sequence[float]) -> None:
        """Make ``factors`` (n_hidden,) the present ones."""
        logs = [max(-LARGEST_LOG, math.log(min(1.0, factor))) / GAIN_RATE for factor in factors]
        self.log_gains.copy_(torch.tensor(logs, dtype=torch.float64))

    def factors(self, dtype: torch.dtype | None = None) -> Tensor:
        gains = self._gains(dtype)
        return torch.cat([gains, gains.new_ones(1)])

    def per_layer(self, dtype: torch.dtype | None = None) -> Sequence[Tensor | None]:
        return [*self._gains(dtype).unbind(), None]

    def _gains(self, dtype: torch.dtype | None) -> Tensor:
        logs = self.log_gains if dtype is None else self.log_gains.to(dtype)
        # past the ceiling the value stops, the gradient does not: it must be able to lead back
        value = logs.detach()
        inside = value.clamp(-LARGEST_LOG / GAIN_RATE, 0.0)
        return torch.exp(GAIN_RATE * (logs + (inside - value)))

    @torch.no_grad()
    def project(self) -> bool:
        lowest, highest = torch.stack(torch.aminmax(self.log_gains)).tolist()  # one answer to wait for
        if not (lowest > -math.inf and highest < math.inf):
            check_finite(self.log_gains, "log_gains")
        if highest <= 0.0:
            return False
        self.log_gains.clamp_(max=0.0)
        return True


class LearnedBudget(Shares):
    """Positive factors with product 1, one per layer: ``exp(θ - mean θ)``.

    Every θ is feasible, so nothing is projected and averages keep the bound. Factors are held between e^±8.
    """

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_layers))

    def factors(self, dtype: torch.dtype | None = None) -> Tensor:
        """(n_layers,) factors, differentiable, computed in ``dtype`` (the parameters' own if ``None``)."""
        logits = self.logits if dtype is None else self.logits.to(dtype)
        logits = logits.clamp(-4.0, 4.0)
        return torch.exp(logits - logits.mean())
