"""Disturbances around environments: of observations and of actions, for Gymnasium, its vector environments and SB3's.

The strength may be drawn for every episode or follow a schedule, for training under noise.
"""

from lipsrl.wrappers.action_disturbance import ActionDisturbance
from lipsrl.wrappers.observation_disturbance import ObservationDisturbance
from lipsrl.wrappers.strength_schedule_callback import StrengthScheduleCallback
from lipsrl.wrappers.vec_action_disturbance import VecActionDisturbance
from lipsrl.wrappers.vec_observation_disturbance import VecObservationDisturbance
from lipsrl.wrappers.vector_action_disturbance import VectorActionDisturbance
from lipsrl.wrappers.vector_observation_disturbance import VectorObservationDisturbance

__all__ = [
    "ActionDisturbance",
    "ObservationDisturbance",
    "StrengthScheduleCallback",
    "VecActionDisturbance",
    "VecObservationDisturbance",
    "VectorActionDisturbance",
    "VectorObservationDisturbance",
]
