"""Pictures of a run as Plotly figures: in the report's light or dark theme, or in a notebook.

Colours are the light ones of [`~star_hf.report.style.PALETTE`]; the report's script replaces them in the dark theme.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from ..pipeline.counts import Grid
from ..pipeline.run import StageRecord
from .style import colour, figure, label, series_colour


__all__ = ["LEVEL", "curve", "flow", "grid", "histogram", "mark_bars"]

LEVEL = 8
"""Most columns of a heat map with level names; with more, the names are turned."""


def flow(records: Mapping[str, StageRecord]) -> go.Figure:
    """Rows through the stages: what was kept, and what was removed, by reason."""
    nodes: list[tuple[str, str]] = []
    links: list[tuple[int, int, int, str]] = []

    def node(text: str, role: str = "blue") -> int:
        nodes.append((text, colour(role)))
        return len(nodes) - 1

    at, rows = None, 0
    for name, record in records.items():
        if name == "rewrite":
            continue
        if at is None:
            at = node(f"read<br>{record.rows_in:,}")
        onward, rows = node(f"{name}<br>{record.rows_out:,}"), record.rows_out
        if rows:
            links.append((at, onward, rows, colour("kept")))
        for reason, count in sorted(record.removed.items(), key=lambda item: -item[1]):
            links.append((at, node(f"{label(reason, 99)} {count:,}", "orange"), count, colour("gone")))
        at = onward
    if rows:  # plotly puts the labels of the last column to its left: leave that place to this node alone
        links.append((at, node("kept"), rows, colour("kept")))
    labels, colours = zip(*nodes, strict=True) if nodes else ((), ())
    sources, targets, values, bands = zip(*links, strict=True) if links else ((), (), (), ())
    trace = go.Sankey(
        arrangement="snap",
        node={
            **{"label": labels, "color": colours, "pad": 14, "thickness": 10, "line": {"width": 0}, "align": "left"},
            "hovertemplate": "%{label}<extra></extra>",
        },
        link={
            **{"source": sources, "target": targets, "value": values, "color": bands},
            "hovertemplate": "%{value:,} rows<extra></extra>",
        },
        textfont={"color": colour("ink"), "size": 12},
    )
    return figure([trace], 460)


def grid(counts: Grid, rows: str, columns: str) -> go.Figure:
    """A heat map with its numbers; `rows` and `columns` say what the labels are. Colours grow with the square root, to
    show small counts beside large ones."""
    names = [label(name) for name in counts.columns]
    turned = len(names) > LEVEL
    room = 150 if turned else 45 + 18 * max((name.count("<br>") + 1 for name in names), default=0)
    trace = go.Heatmap(
        x=names,
        y=[label(name, 40) for name in counts.rows],
        z=[[number**0.5 if number else None for number in line] for line in counts.cells],
        text=[[f"{number:,}" if number else "" for number in line] for line in counts.cells],
        texttemplate="%{text}",
        textfont={"size": 11},
        customdata=[list(line) for line in counts.cells],
        hovertemplate=f"{rows}: %{{y}}<br>{columns}: %{{x}}<br>%{{customdata:,}} rows<extra></extra>",
        colorscale=[[0, colour("empty")], [0.5, colour("tint")], [1, colour("blue")]],
        **{"showscale": False, "xgap": 2, "ygap": 2, "hoverongaps": False},
    )
    plain = {"showgrid": False, "showline": False, "ticks": ""}
    return figure(
        [trace],
        room + 27 * len(counts.rows),
        xaxis={"side": "top", "tickangle": -40 if turned else 0, **plain},
        yaxis={"autorange": "reversed", "ticksuffix": " ", **plain},
    )


def histogram(values: Mapping[str, Sequence[float]], low: float) -> go.Figure:
    """The distribution of values from `low` to 1, one series per name, on 50 common bins."""
    edges = np.linspace(low, 1, 51)
    width = (1 - low) / 50
    heights = {name: np.histogram(np.clip(series, low, 1), edges)[0] for name, series in values.items()}
    traces = [
        go.Bar(
            name=f"{label(name, 99)} ({found.sum():,})",
            x=[round(float(edge) + width / 2, 6) for edge in edges[:-1]],
            y=found.tolist(),
            width=width,
            marker={"color": series_colour(position), "line": {"width": 0}},
            customdata=[[round(float(edge), 4), round(float(edge) + width, 4)] for edge in edges[:-1]],
            hovertemplate="%{customdata[0]:.3f} to %{customdata[1]:.3f}: %{y:,} rows<extra></extra>",
        )
        for position, (name, found) in enumerate(heights.items())
    ]
    return figure(
        traces,
        340,
        **{"barmode": "stack", "bargap": 0, "showlegend": True},
        xaxis={"title": {"text": "similarity"}, "range": [low, 1], "showgrid": False},
        yaxis=_row_axis(sum(heights.values()).tolist() if heights else ()),
    )


def mark_bars(marks: Mapping[str, Mapping[int, int]], low: int, high: int) -> go.Figure:
    """How often each mark from `low` to `high` was given, one series per criterion."""
    scale = list(range(low, high + 1))
    traces = [
        go.Bar(
            name=label(criterion, 99),
            x=scale,
            y=[counts.get(mark, 0) for mark in scale],
            marker={"color": series_colour(position), "line": {"width": 0}},
            hovertemplate="%{y:,} rows with %{x}<extra>%{fullData.name}</extra>",
        )
        for position, (criterion, counts) in enumerate(marks.items())
    ]
    return figure(
        traces,
        320,
        **{"barmode": "group", "bargap": 0.25, "showlegend": True},
        xaxis={"title": {"text": "mark"}, "dtick": 1, "showgrid": False},
        yaxis=_row_axis(count for counts in marks.values() for count in counts.values()),
    )


def _row_axis(counts: Iterable[int]) -> dict[str, Any]:
    """An axis that counts rows, in whole numbers."""
    return {"title": {"text": "rows"}, **({"dtick": 1} if max(counts, default=0) < 5 else {})}


def curve(series: Mapping[str, Sequence[tuple[float, float]]]) -> go.Figure:
    """Values over the steps of a training, by name."""
    traces = [
        go.Scatter(
            name=label(name, 99),
            x=[step for step, _ in points],
            y=[value for _, value in points],
            mode="lines" if len(points) > 60 else "lines+markers",
            line={"color": series_colour(position), "width": 2},
            marker={"size": 5},
            hovertemplate="step %{x}: %{y:.4g}<extra>%{fullData.name}</extra>",
        )
        for position, (name, points) in enumerate(series.items())
    ]
    return figure(
        traces,
        280,
        showlegend=len(series) > 1,
        xaxis={"title": {"text": "step"}, "showgrid": False},
        yaxis={"exponentformat": "power"},
    )
