"""The style of the report: colours by role, font, names as people write them, and a plain figure."""

import html
import textwrap
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go


__all__ = ["PALETTE", "SERIES", "colour", "figure", "label", "series_colour", "spaced"]

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
"""Colours by role, in the light and in the dark theme. Series have a contrast of 3:1 to the surface."""

SERIES = ("blue", "orange", "green", "purple", "red", "grey")
"""Roles of series, in order."""

FONT = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def colour(role: str) -> str:
    """The light colour of a role."""
    return PALETTE[role][0]


def spaced(name: str) -> str:
    """A name with spaces instead of underscores."""
    return name.replace("_", " ")


def label(text: str, width: int = 16) -> str:
    """A name for a picture: underscores as spaces, wrapped into lines, markup escaped."""
    lines = textwrap.wrap(spaced(text), width, break_long_words=False) or [text]
    return "<br>".join(html.escape(line, quote=False) for line in lines)


def series_colour(position: int) -> str:
    """The colour of a series by its position; colours repeat after the last."""
    return colour(SERIES[position % len(SERIES)])


def figure(traces: Sequence[Any], height: int, **layout: Any) -> go.Figure:
    """A plain figure: no frame, thin grid lines, and room for labels.

    `xaxis` and `yaxis` of the layout extend the common style.
    """
    axis = {
        "automargin": True,
        "gridcolor": colour("line"),
        "linecolor": colour("line"),
        "tickfont": {"color": colour("muted")},
        "zeroline": False,
    }
    title = {"font": {"color": colour("muted"), "size": 13}, "standoff": 12}
    for name in ("xaxis", "yaxis"):
        own = layout.get(name, {})
        layout[name] = {**axis, **own, "title": {**title, **own.get("title", {})}}
    common = {
        "template": go.layout.Template(),
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 13, "color": colour("ink")},
        "hoverlabel": {"bgcolor": colour("surface"), "bordercolor": colour("line"), "font": {"color": colour("ink")}},
        "legend": {"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0, "font": {"color": colour("ink")}},
        "dragmode": False,
    }
    return go.Figure(data=list(traces), layout={**common, "height": height, **layout})
