"""One look per agent, the same in every figure and table: colour, dash and marker together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# Each colour has a contrast of at least 3:1 on the light and on the dark page, and the first four stay apart
# under simulated protanopia, deuteranopia and tritanopia (Machado 2009); dash and marker repeat what the
# colour says.
PALETTE = ("#1f77b4", "#d55e00", "#009e73", "#b5629b", "#868686", "#a0803c")
DASHES = ("solid", "dash", "dot", "dashdot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "triangle-down")
LIGHT_PAGE = "#ffffff"
DARK_PAGE = "#16181d"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True)
class AgentStyle:
    """How one agent is drawn."""

    color: str
    dash: str
    marker: str

    @property
    def band(self) -> str:
        """The colour of the confidence band: the line's, mostly transparent."""
        red, green, blue = (int(self.color[i : i + 2], 16) for i in (1, 3, 5))
        return f"rgba({red}, {green}, {blue}, 0.20)"


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


def base_layout(**overrides: Any) -> dict[str, Any]:
    """Plotly layout shared by all figures: transparent, no title, legend above, room for the axis titles.

    Text and grid colours are mid-grey here, readable anywhere; the report's CSS replaces them per theme.
    """
    layout: dict[str, Any] = {
        "template": "none",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 13, "color": "#6b7280"},
        "margin": {"l": 68, "r": 16, "t": 44, "b": 56},
        "height": 380,
        "hovermode": "x unified",
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "xanchor": "left",
            "yanchor": "bottom",
            "title": {"text": ""},
        },
    }
    return {**layout, **overrides}


def axis(title: str, **overrides: Any) -> dict[str, Any]:
    """One axis: titled (with its unit), thin grid, no heavy zero line."""
    return {
        "title": {"text": title, "standoff": 10, "font": {"size": 13}},
        "gridcolor": "rgba(128,128,128,0.25)",
        "linecolor": "rgba(128,128,128,0.6)",
        "showline": True,
        "zeroline": False,
        "showspikes": False,
        "ticks": "outside",
        "tickcolor": "rgba(128,128,128,0.6)",
        "automargin": True,
        **overrides,
    }
