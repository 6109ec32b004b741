"""Disturbances around environments: of observations and of actions, for Gymnasium, its vector environments and SB3's.

The strength may be drawn for every episode or follow a schedule, for training under noise. Beside them, what others put
between agent and actuator for smoothness: a moving average, and actions that are changes.
"""

from lipsrl.wrappers.action_difference import ActionDifference
from lipsrl.wrappers.action_disturbance import ActionDisturbance
from lipsrl.wrappers.action_smoothing import ActionSmoothing
from lipsrl.wrappers.observation_disturbance import ObservationDisturbance
from lipsrl.wrappers.strength_schedule_callback import StrengthScheduleCallback
from lipsrl.wrappers.vec_action_disturbance import VecActionDisturbance
from lipsrl.wrappers.vec_observation_disturbance import VecObservationDisturbance
from lipsrl.wrappers.vector_action_disturbance import VectorActionDisturbance
from lipsrl.wrappers.vector_observation_disturbance import VectorObservationDisturbance

__all__ = [
    "ActionDifference",
    "ActionDisturbance",
    "ActionSmoothing",
    "ObservationDisturbance",
    "StrengthScheduleCallback",
    "VecActionDisturbance",
    "VecObservationDisturbance",
    "VectorActionDisturbance",
    "VectorObservationDisturbance",
]
