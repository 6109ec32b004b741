"""How the bound K of a network is split over its layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lipsrl._validation import lookup

#: name → what it does.
BUDGETS = {
    "output": "K belongs to the last layer; the others are 1-Lipschitz",
    "even": "every layer gets K^(1/L)",
    "sqrt": "the first and the last layer get √K each, the others 1",
    "learned": "as 'even' at first; the shares are learned with their product held at K",
}


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


class LearnedBudget(nn.Module):
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
