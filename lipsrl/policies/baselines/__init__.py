"""Policies that others use for smoothness, to compare with. **No certificate**: none of them keeps a bound.

Their zips load anywhere lipsrl is installed. :func:`lipsrl.certify` reads those that act as plain networks (the weights
that act), so what they really reach can be measured, and refuses LipsNet, whose output jumps.
"""

from lipsrl.policies.baselines.fourier_filter import FourierFilter, lipsnet_plus
from lipsrl.policies.baselines.lipsnet import LipsNet, LipsNetPolicy, SACLipsNetPolicy
from lipsrl.policies.baselines.spectral_norm import TorchSpectralNormPolicy

__all__ = [
    "FourierFilter",
    "LipsNet",
    "LipsNetPolicy",
    "SACLipsNetPolicy",
    "TorchSpectralNormPolicy",
    "lipsnet_plus",
]
