"""Soft regularisers: losses that make policies smooth, on SB3's own algorithms, one file per method.

They lower what they measure and promise nothing; :func:`lipsrl.certify` says which constant came out, and
``lipschitz_bound=K`` sets one.
"""

from __future__ import annotations

from lipsrl.regularizers._attach import install, parse, regularize, regularized, unregularize
from lipsrl.regularizers._base import Regularizer
from lipsrl.regularizers._families import check_actions, refusal
from lipsrl.regularizers._methods import METHODS
from lipsrl.regularizers.caps import CAPS

install()

__all__ = [
    "CAPS",
    "METHODS",
    "Regularizer",
    "check_actions",
    "parse",
    "refusal",
    "regularize",
    "regularized",
    "unregularize",
]
