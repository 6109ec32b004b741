"""All methods by name."""

from __future__ import annotations

from types import MappingProxyType

from lipsrl.regularizers._base import Regularizer
from lipsrl.regularizers.action_rate import ActionRate
from lipsrl.regularizers.asap import ASAP
from lipsrl.regularizers.caps import CAPS
from lipsrl.regularizers.cats import CATS
from lipsrl.regularizers.grad_caps import GradCAPS
from lipsrl.regularizers.gradient_penalty import GradientPenalty
from lipsrl.regularizers.l2c2 import L2C2
from lipsrl.regularizers.pave import PAVE
from lipsrl.regularizers.smooth_policy import SmoothPolicy

_ALL = (CAPS, GradCAPS, L2C2, SmoothPolicy, GradientPenalty, CATS, ASAP, PAVE, ActionRate)

#: As data names them.
METHODS: MappingProxyType[str, type[Regularizer]] = MappingProxyType({cls.__name__: cls for cls in _ALL})
