"""What can be proven about a trained policy."""

from __future__ import annotations

from lipsrl.actors.fingerprint import weights_sha256
from lipsrl.certificates._clean_episodes import visited_observations
from lipsrl.certificates.bounds._folding import tightest_bound
from lipsrl.certificates.bounds._search import jacobians, steepest_pair
from lipsrl.certificates.bounds._upper import quick_bound
from lipsrl.certificates.deterministic._certify import certify
from lipsrl.certificates.deterministic.certificate import (
    Certificate,
    Factor,
    LocalBounds,
    NetworkBound,
    SensorWindow,
    WindowBounds,
)
from lipsrl.certificates.deterministic.margins import MarginCertificate, margin_certificate
from lipsrl.certificates.stochastic import ActionDivergence, action_divergence
from lipsrl.certificates.stochastic.return_quantile import (
    ReturnQuantileCertificate,
    return_quantile_certificate,
)
from lipsrl.certificates.suggestion import SuggestedBound, suggest_bound, suggestion_for
from lipsrl.feasibility.floor import FeasibilityFloor, feasibility_floor
from lipsrl.feasibility.policy import feasibility_warnings, policy_units
from lipsrl.layers.product import product_bound

__all__ = [
    "ActionDivergence",
    "Certificate",
    "Factor",
    "FeasibilityFloor",
    "LocalBounds",
    "MarginCertificate",
    "NetworkBound",
    "ReturnQuantileCertificate",
    "SensorWindow",
    "SuggestedBound",
    "WindowBounds",
    "action_divergence",
    "certify",
    "feasibility_floor",
    "feasibility_warnings",
    "jacobians",
    "margin_certificate",
    "policy_units",
    "product_bound",
    "quick_bound",
    "return_quantile_certificate",
    "steepest_pair",
    "suggest_bound",
    "suggestion_for",
    "tightest_bound",
    "visited_observations",
    "weights_sha256",
]
