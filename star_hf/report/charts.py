"""Pictures of a run as Plotly figures: the report shows them in its light or dark theme, a notebook as they are.

Every colour is the light one of [`PALETTE`]; the report's script exchanges it for the dark one.
"""

import html
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..run import StageRecord
from .counts import Grid


if TYPE_CHECKING:
    import plotly.graph_objects as go


__all__ = ["PALETTE", "flow", "grid", "histogram", "mark_bars"]

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


def label(text: str, width: int = 14) -> str:
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


def flow(records: Mapping[str, StageRecord]) -> "go.Figure":
    """Rows through the stages: what went on, and what left, by reason.

    Args:
        records (`dict[str, StageRecord]`): [`~star_hf.run.Run.records`].
    """
    import plotly.graph_objects as go

    labels, colours, links = [], [], []

    def node(text: str, role: str) -> int:
        labels.append(text)
        colours.append(colour(role))
        return len(labels) - 1

    stages = {name: record for name, record in records.items() if name != "rewrite"}
    at, rows = None, 0
    for name, record in stages.items():
        if at is None:
            at = node(f"read<br>{record.rows_in:,}", "blue")
        onward, rows = node(f"{name}<br>{record.rows_out:,}", "blue"), record.rows_out
        if rows:
            links.append((at, onward, rows, "kept"))
        for reason, count in sorted(record.removed.items(), key=lambda item: -item[1]):
            links.append((at, node(f"{label(reason, 99)} {count:,}", "orange"), count, "gone"))
        at = onward
    if rows:  # the last column's labels stand left of it, where there must be no others
        links.append((at, node("kept", "blue"), rows, "kept"))
    sources, targets, values, roles = zip(*links, strict=True) if links else ((), (), (), ())
    trace = go.Sankey(
        arrangement="snap",
        node={
            "label": labels,
            "color": colours,
            "pad": 14,
            "thickness": 10,
            "line": {"width": 0},
            "align": "left",
            "hovertemplate": "%{label}<extra></extra>",
        },
        link={
            "source": sources,
            "target": targets,
            "value": values,
            "color": [colour(role) for role in roles],
            "hovertemplate": "%{value:,} rows<extra></extra>",
        },
        textfont={"color": colour("ink"), "size": 12},
    )
    return figure([trace], 460)


def grid(counts: Grid, rows: str, columns: str, angle: int = 0) -> "go.Figure":
    """A heat map with its numbers; colours grow with the square root, so that small counts are seen beside large ones.

    Args:
        counts ([`~star_hf.report.counts.Grid`]): What to show.
        rows (`str`), columns (`str`): What the labels are, for the reader.
        angle (`int`, defaults to 0): Of the columns' labels, in degrees, where there are many.
    """
    import plotly.graph_objects as go

    shown = [[None if not number else number**0.5 for number in line] for line in counts.cells]
    trace = go.Heatmap(
        x=[label(name) for name in counts.columns],
        y=[label(name, 40) for name in counts.rows],
        z=shown,
        text=[[f"{number:,}" if number else "" for number in line] for line in counts.cells],
        texttemplate="%{text}",
        textfont={"size": 11},
        customdata=[list(line) for line in counts.cells],
        hovertemplate=f"{rows}: %{{y}}<br>{columns}: %{{x}}<br>%{{customdata:,}} rows<extra></extra>",
        colorscale=[[0, colour("empty")], [0.5, colour("tint")], [1, colour("blue")]],
        showscale=False,
        xgap=2,
        ygap=2,
        hoverongaps=False,
    )
    return figure(
        [trace],
        70 + 27 * len(counts.rows),
        xaxis={"side": "top", "tickangle": angle, "showgrid": False, "showline": False, "ticks": ""},
        yaxis={"autorange": "reversed", "showgrid": False, "showline": False, "ticks": "", "ticksuffix": " "},
    )


def histogram(values: Mapping[str, Sequence[float]], low: float, high: float = 1.0, bins: int = 50) -> "go.Figure":
    """How values are spread, one series per name, on common bins.

    Args:
        values (`dict[str, list[float]]`): Values by series.
        low (`float`), high (`float`): The ends of the axis.
        bins (`int`, defaults to 50): Bins between them.
    """
    import numpy as np
    import plotly.graph_objects as go

    edges = np.linspace(low, high, bins + 1)
    width = (high - low) / bins
    traces = [
        go.Bar(
            name=f"{label(name, 99)} ({len(series):,})",
            x=[round(float(edge) + width / 2, 6) for edge in edges[:-1]],
            y=np.histogram(np.clip(series, low, high), edges)[0].tolist(),
            width=width,
            marker={"color": colour(SERIES[position % len(SERIES)]), "line": {"width": 0}},
            customdata=[[round(float(edge), 4), round(float(edge) + width, 4)] for edge in edges[:-1]],
            hovertemplate="%{customdata[0]:.3f} to %{customdata[1]:.3f}: %{y:,} rows<extra></extra>",
        )
        for position, (name, series) in enumerate(values.items())
    ]
    return figure(
        traces,
        340,
        barmode="stack",
        bargap=0,
        showlegend=True,
        xaxis={"title": {"text": "similarity"}, "range": [low, high], "showgrid": False},
        yaxis={"title": {"text": "rows"}},
    )


def mark_bars(marks: Mapping[str, Mapping[int, int]], low: int, high: int) -> "go.Figure":
    """How often each mark was given, one series per criterion.

    Args:
        marks (`dict[str, dict[int, int]]`): Counts by criterion and mark.
        low (`int`), high (`int`): The lowest and the highest mark there can be.
    """
    import plotly.graph_objects as go

    scale = list(range(low, high + 1))
    traces = [
        go.Bar(
            name=label(criterion, 99),
            x=scale,
            y=[counts.get(mark, 0) for mark in scale],
            marker={"color": colour(SERIES[position % len(SERIES)]), "line": {"width": 0}},
            hovertemplate="%{y:,} rows with %{x}<extra>%{fullData.name}</extra>",
        )
        for position, (criterion, counts) in enumerate(marks.items())
    ]
    return figure(
        traces,
        320,
        barmode="group",
        bargap=0.25,
        showlegend=True,
        xaxis={"title": {"text": "mark"}, "dtick": 1, "showgrid": False},
        yaxis={"title": {"text": "rows"}},
    )
