"""Any SB3 agent, read once as the map from raw sensors to the environment's action, and opened from a file."""

from __future__ import annotations

from lipsrl.actors._refused import RefusedError
from lipsrl.actors.agent import Agent, load_agent
from lipsrl.actors.network import ActorParts, Promise, actor_network, actor_parts

__all__ = [
    "ActorParts",
    "Agent",
    "Promise",
    "RefusedError",
    "actor_network",
    "actor_parts",
    "load_agent",
]
