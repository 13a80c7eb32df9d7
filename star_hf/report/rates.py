"""Pictures of rates with their 95 % intervals, in percent: side by side, and safety against reasoning."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from ..evaluation.results.statistics import Estimate
from .style import colour, figure, label, series_colour


__all__ = ["intervals", "trade"]

Point = tuple[Estimate, Estimate]


def intervals(series: Mapping[str, Mapping[str, Estimate]]) -> go.Figure:
    """Rates with their intervals, in percent, several models side by side for each benchmark."""
    names = list(dict.fromkeys(name for estimates in series.values() for name in estimates))
    step = 0.5 / max(len(series), 1)
    traces = []
    for position, (model, estimates) in enumerate(series.items()):
        shown = {name: estimate for name, estimate in estimates.items() if estimate.value is not None}
        shift = (position - (len(series) - 1) / 2) * step
        tint = _model_colour(position, len(series), "grey")
        traces.append(
            go.Scatter(
                name=label(model, 99),
                x=[100 * estimate.value for estimate in shown.values()],
                y=[names.index(name) + shift for name in shown],
                mode="markers",
                marker={"color": tint, "size": 11},
                error_x=_error(list(shown.values()), tint),
                text=[estimate.percent() for estimate in shown.values()],
                customdata=[label(name, 99) for name in shown],
                hovertemplate="%{customdata}: %{text} %<extra>%{fullData.name}</extra>",
            )
        )
    return figure(
        traces,
        80 + len(names) * (24 + 14 * len(series)),
        showlegend=len(series) > 1,
        margin={"l": 8, "r": 24, "t": 8, "b": 8},  # "100 %" is wider than the axis
        xaxis={"range": [-2, 102], "dtick": 25, "ticksuffix": " %", "showline": False},
        yaxis={
            "tickvals": list(range(len(names))),
            "ticktext": [label(name, 24) for name in names],
            "range": [len(names) - 0.5, -0.5],
            **{"showgrid": False, "showline": False, "ticks": "", "ticksuffix": " "},
        },
    )


def trade(models: Mapping[str, Point], paper: Mapping[str, tuple[Point, Point]]) -> go.Figure:
    """Safety against reasoning, in percent. A dotted line joins the models in their order.

    The paper's models before and after are in the background, by size.
    """
    grey, hover = colour("grey"), "reasoning %{x:.1f} %, safety %{y:.1f} %<extra>%{text}</extra>"
    traces = [
        go.Scatter(
            name="the paper: before, after",
            legendgroup="paper",
            showlegend=not position,
            **_places(pair),
            text=[f"{size} before", f"{size} after"],
            mode="lines+markers",
            line={"color": grey, "width": 1},
            marker={"color": [colour("surface"), grey], "size": 9, "line": {"color": grey, "width": 2}},
            hovertemplate=hover,
        )
        for position, (size, pair) in enumerate(paper.items())
    ]
    way = {"color": colour("muted"), "width": 1.5, "dash": "dot"}
    traces.append(go.Scatter(**_places(models.values()), mode="lines", line=way, showlegend=False, hoverinfo="skip"))
    for position, (model, (reasoning, safety)) in enumerate(models.items()):
        tint = _model_colour(position, len(models), "ink")
        traces.append(
            go.Scatter(
                name=label(model, 99),
                **_places([(reasoning, safety)]),
                error_x=_error([reasoning], tint),
                error_y=_error([safety], tint),
                text=[label(model, 99)],
                mode="markers",
                marker={"color": tint, "size": 12},
                hovertemplate=hover,
            )
        )
    font = {"color": colour("muted"), "size": 11}
    sizes = [
        {"x": 100 * right.value, "y": 100 * up.value, "text": size, "showarrow": False, "yshift": 14, "font": font}
        for size, (_, (right, up)) in paper.items()
    ]
    xaxis, yaxis = (
        {"ticksuffix": " %", "showline": False, "title": {"text": text}} for text in ("reasoning", "safety")
    )
    return figure(traces, 480, showlegend=True, xaxis=xaxis, yaxis=yaxis, annotations=sizes)


def _places(points: Iterable[Point]) -> dict[str, list[float]]:
    xs, ys = zip(*points, strict=True)
    return {"x": [100 * estimate.value for estimate in xs], "y": [100 * estimate.value for estimate in ys]}


def _model_colour(position: int, models: int, base: str) -> str:
    """The colour of a model: the first of several is the base model."""
    return colour(base) if position == 0 and models > 1 else series_colour(max(position - 1, 0))


def _error(estimates: Sequence[Estimate], tint: str) -> dict[str, Any]:
    """Whiskers of the intervals, in percent; of length 0 without an interval."""
    return {
        "array": [100 * (one.high - one.value) if one.high is not None else 0 for one in estimates],
        "arrayminus": [100 * (one.value - one.low) if one.low is not None else 0 for one in estimates],
        **{"color": tint, "thickness": 2, "width": 0},
    }
