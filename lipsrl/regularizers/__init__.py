"""Soft regularisers: losses that make policies smooth, on SB3's own algorithms, one file per method.

They lower what they measure and promise nothing; :func:`lipsrl.certify` says which constant came out, and
``lipschitz_bound=K`` sets one.
"""

from __future__ import annotations

from lipsrl.regularizers._attach import install, parse, regularize, regularized, unregularize
from lipsrl.regularizers._base import Regularizer
from lipsrl.regularizers._families import check_actions, refusal
from lipsrl.regularizers._methods import METHODS, register
from lipsrl.regularizers.action_rate import ActionRate
from lipsrl.regularizers.asap import ASAP
from lipsrl.regularizers.caps import CAPS
from lipsrl.regularizers.cats import CATS
from lipsrl.regularizers.grad_caps import GradCAPS
from lipsrl.regularizers.gradient_penalty import GradientPenalty
from lipsrl.regularizers.l2c2 import L2C2
from lipsrl.regularizers.pave import PAVE
from lipsrl.regularizers.smooth_policy import SmoothPolicy

install()

__all__ = [
    "ASAP",
    "CAPS",
    "CATS",
    "L2C2",
    "METHODS",
    "PAVE",
    "ActionRate",
    "GradCAPS",
    "GradientPenalty",
    "Regularizer",
    "SmoothPolicy",
    "check_actions",
    "parse",
    "refusal",
    "register",
    "regularize",
    "regularized",
    "unregularize",
]
