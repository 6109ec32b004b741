"""Disturbances around environments: one wrapper for Gymnasium, one for SB3's vectorised environments."""

from lipsrl.wrappers.observation_disturbance import ObservationDisturbance
from lipsrl.wrappers.vec_observation_disturbance import VecObservationDisturbance

__all__ = ["ObservationDisturbance", "VecObservationDisturbance"]
