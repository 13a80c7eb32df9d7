"""Pictures of a run as Plotly figures: the report shows them in its light or dark theme, a notebook as they are.

Every colour is the light one of [`~star_hf.report.look.PALETTE`]; the report's script exchanges it for the dark one.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..pipeline.counts import Grid
from ..pipeline.run import StageRecord
from .look import SERIES, colour, figure, label


if TYPE_CHECKING:
    import plotly.graph_objects as go


__all__ = ["LEVEL", "curve", "flow", "grid", "histogram", "mark_bars"]

LEVEL = 8
"""Columns of a heat map whose names stand level; those of more are turned."""


def flow(records: Mapping[str, StageRecord]) -> "go.Figure":
    """Rows through the stages: what went on, and what left, by reason.

    Args:
        records (`dict[str, StageRecord]`): [`~star_hf.pipeline.run.Run.records`].
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


def grid(counts: Grid, rows: str, columns: str) -> "go.Figure":
    """A heat map with its numbers; colours grow with the square root, so that small counts are seen beside large ones.

    Args:
        counts ([`~star_hf.pipeline.counts.Grid`]): What to show.
        rows (`str`), columns (`str`): What the labels are, for the reader.
    """
    import plotly.graph_objects as go

    names = [label(name) for name in counts.columns]
    many = len(names) > LEVEL
    room = 150 if many else 45 + 18 * max((name.count("<br>") + 1 for name in names), default=0)
    shown = [[None if not number else number**0.5 for number in line] for line in counts.cells]
    trace = go.Heatmap(
        x=names,
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
        room + 27 * len(counts.rows),
        xaxis={"side": "top", "tickangle": -40 if many else 0, "showgrid": False, "showline": False, "ticks": ""},
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
    heights = {name: np.histogram(np.clip(series, low, high), edges)[0] for name, series in values.items()}
    traces = [
        go.Bar(
            name=f"{label(name, 99)} ({found.sum():,})",
            x=[round(float(edge) + width / 2, 6) for edge in edges[:-1]],
            y=found.tolist(),
            width=width,
            marker={"color": colour(SERIES[position % len(SERIES)]), "line": {"width": 0}},
            customdata=[[round(float(edge), 4), round(float(edge) + width, 4)] for edge in edges[:-1]],
            hovertemplate="%{customdata[0]:.3f} to %{customdata[1]:.3f}: %{y:,} rows<extra></extra>",
        )
        for position, (name, found) in enumerate(heights.items())
    ]
    return figure(
        traces,
        340,
        barmode="stack",
        bargap=0,
        showlegend=True,
        xaxis={"title": {"text": "similarity"}, "range": [low, high], "showgrid": False},
        yaxis=_of_rows(np.max(sum(heights.values()), initial=0)),
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
        yaxis=_of_rows(max((count for counts in marks.values() for count in counts.values()), default=0)),
    )


def _of_rows(most: int) -> dict[str, Any]:
    """An axis that counts rows, in whole ones."""
    return {"title": {"text": "rows"}, **({"dtick": 1} if most < 5 else {})}


def curve(series: Mapping[str, Sequence[tuple[float, float]]]) -> "go.Figure":
    """Values over the steps of a training run.

    Args:
        series (`dict[str, list[tuple[float, float]]]`): Steps and values by name.
    """
    import plotly.graph_objects as go

    traces = [
        go.Scatter(
            name=label(name, 99),
            x=[step for step, _ in points],
            y=[value for _, value in points],
            mode="lines" if len(points) > 60 else "lines+markers",
            line={"color": colour(SERIES[position % len(SERIES)]), "width": 2},
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
