"""The style of each agent, the same in every figure and table: colour, dash and marker."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Each colour has a contrast of at least 3:1 on the light and on the dark page, and the first four stay apart
# under simulated protanopia, deuteranopia and tritanopia (Machado 2009); dash and marker repeat what the
# colour says.
PALETTE = ("#1f77b4", "#d55e00", "#009e73", "#b5629b", "#868686", "#a0803c")
DASHES = ("solid", "dash", "dot", "dashdot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "triangle-down")
LIGHT_PAGE = "#ffffff"
DARK_PAGE = "#16181d"


@dataclass(frozen=True)
class AgentStyle:
    """How one agent is drawn."""

    color: str
    dash: str
    marker: str


def agent_styles(agents: Iterable[str]) -> dict[str, AgentStyle]:
    """A style per agent, in the order given; the combination repeats only after 84 agents."""
    return {
        agent: AgentStyle(
            color=PALETTE[i % len(PALETTE)],
            # the dash changes with each round of colours, so that six agents are all solid lines
            dash=DASHES[i // len(PALETTE) % len(DASHES)],
            marker=MARKERS[i % len(MARKERS)],
        )
        for i, agent in enumerate(dict.fromkeys(agents))
    }
