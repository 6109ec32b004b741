"""Figures inside a page that loads nothing: plotly.js once, figures as JSON that cannot end its script."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

# in JSON these characters occur in strings only, where the escapes mean the same
_ESCAPES = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})


def plotly_script() -> Markup:
    """The source of plotly.js as the installed plotly brings it (4.8 MB)."""
    return Markup(get_plotlyjs())


def figures_json(figures: Mapping[str, go.Figure]) -> Markup:
    """``{element id: figure}`` for a ``<script type="application/json">``."""
    entries = (f'"{element}": {figure.to_json()}' for element, figure in figures.items())
    return Markup(f"{{{', '.join(entries)}}}".translate(_ESCAPES))
