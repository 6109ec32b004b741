"""A Lipschitz twin of an agent that exists already."""

from lipsrl.distillation._distill import distill

__all__ = ["distill"]
