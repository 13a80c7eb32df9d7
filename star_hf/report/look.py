"""How the report's pictures look: their colours by role, their type, and a figure without decoration."""

import html
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    import plotly.graph_objects as go


__all__ = ["PALETTE", "SERIES", "colour", "figure", "label"]

PALETTE = {
    "ink": ("#1f2730", "#e4e8ec"),
    "muted": ("#5d6873", "#9ba6b1"),
    "line": ("#e3e4df", "#2d343b"),
    "surface": ("#fffffe", "#1a1f24"),
    "empty": ("#f4f4f0", "#20262c"),
    "tint": ("#a9c4d6", "#31536b"),
    "blue": ("#2f6690", "#7fb4dc"),
    "orange": ("#c06b2c", "#e6a067"),
    "green": ("#3a7d62", "#72bf9d"),
    "purple": ("#7a5c9e", "#b6a0d8"),
    "red": ("#ad4a43", "#e58c83"),
    "grey": ("#8b939b", "#77818a"),
    "kept": ("#bcd2e0", "#33536a"),
    "gone": ("#eadccf", "#4a3b30"),
}
"""Colours by role: in the light theme, in the dark theme. The series keep 3:1 to both surfaces."""

SERIES = ("blue", "orange", "green", "purple", "red", "grey")
"""Roles of series, in the order of their use."""

FONT = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def colour(role: str) -> str:
    """The light colour of a role."""
    return PALETTE[role][0]


def label(text: str, width: int = 16) -> str:
    """A name as a picture shows it: underscores as spaces, broken into lines, and markup in it as text."""
    lines = textwrap.wrap(text.replace("_", " "), width, break_long_words=False) or [text]
    return "<br>".join(html.escape(line, quote=False) for line in lines)


def figure(traces: Sequence[Any], height: int, **layout: Any) -> "go.Figure":
    """A quiet figure: no frame, thin grid lines, room for labels as they need it."""
    import plotly.graph_objects as go

    axis = {
        "automargin": True,
        "gridcolor": colour("line"),
        "linecolor": colour("line"),
        "tickfont": {"color": colour("muted")},
        "title": {"font": {"color": colour("muted"), "size": 13}, "standoff": 12},
        "zeroline": False,
    }
    layout = {
        "template": go.layout.Template(),
        "height": height,
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 13, "color": colour("ink")},
        "hoverlabel": {"bgcolor": colour("surface"), "bordercolor": colour("line"), "font": {"color": colour("ink")}},
        "legend": {"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0, "font": {"color": colour("ink")}},
        "dragmode": False,
        **layout,
    }
    for name in {"xaxis", "yaxis"} | {name for name in layout if name.startswith(("xaxis", "yaxis"))}:
        own = layout.get(name, {})
        own = {**own, "title": {**axis["title"], **own["title"]}} if "title" in own else own
        layout[name] = {**axis, **own}
    return go.Figure(data=list(traces), layout=layout)
