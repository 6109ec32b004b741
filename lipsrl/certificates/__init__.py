"""What can be proven about a trained policy."""

from __future__ import annotations

from lipsrl.certificates._bounds import product_bound
from lipsrl.certificates._certify import certify
from lipsrl.certificates._search import jacobians, steepest_pair
from lipsrl.certificates.certificate import Certificate, Factor, NetworkBound

__all__ = ["Certificate", "Factor", "NetworkBound", "certify", "jacobians", "product_bound", "steepest_pair"]
