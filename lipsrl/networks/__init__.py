"""Layers stacked to one bound; when their merged weights are made, kept, renewed and exported."""

from __future__ import annotations

from lipsrl.networks._mlp import LipschitzMLP
from lipsrl.networks._scales import norm_mismatch, scale_vector

__all__ = ["LipschitzMLP", "norm_mismatch", "scale_vector"]
