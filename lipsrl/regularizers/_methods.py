"""All methods by name."""

from __future__ import annotations

from types import MappingProxyType

from lipsrl.regularizers._base import Regularizer
from lipsrl.regularizers.caps import CAPS

#: As data names them.
METHODS: MappingProxyType[str, type[Regularizer]] = MappingProxyType({cls.__name__: cls for cls in (CAPS,)})
