"""What sampled actions do: how far their distribution moves, and how probable a return stays under attack."""

from __future__ import annotations

from lipsrl.certificates.stochastic.divergence import ActionDivergence, GaussianPolicy, action_divergence

__all__ = ["ActionDivergence", "GaussianPolicy", "action_divergence"]
