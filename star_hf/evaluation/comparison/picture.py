"""A picture of safety against reasoning: the compared models, and the paper's behind them."""

from collections.abc import Sequence
from itertools import cycle, pairwise
from pathlib import Path

from ...errors import ConfigError
from ...utils.figures import COLOURS, INK, new_figure, save_figure
from ..results.results import Results
from ..results.statistics import Estimate, mean_of
from ..tasks.benchmarks import REASONING, SAFETY
from .paper import PaperRow, paper_rows


__all__ = ["draw_tradeoff"]

ARMS = {"instruct": "s", "r1-distill": "o", "star-1": "*"}
"""Markers of the paper's models, by the end of their name."""

GREY = "#9a9a9a"


def draw_tradeoff(models: Sequence[Results], path: str | Path) -> Path:
    """Draw each model's mean safety over its mean reasoning, with 95 % intervals, and an arrow from one to the next.

    All means, the paper's included, are over the benchmarks that all models have. The axes name them. `path` ends with
    `.png`, `.svg` or `.pdf`.
    """
    safety, reasoning = (_common(models, names) for names in (SAFETY, REASONING))
    if not safety or not reasoning:
        raise ConfigError(
            "A picture of safety against reasoning needs both for each model.",
            "Run `star-hf evaluate --tasks star1:safety,star1:reasoning` first.",
        )
    figure = new_figure(figsize=(7, 5), dpi=150)
    axes = figure.add_subplot()
    _draw_paper(axes, safety, reasoning)
    points = [(_mean(model, reasoning), _mean(model, safety)) for model in models]
    for model, (x, y), colour in zip(models, points, cycle(COLOURS), strict=False):
        axes.errorbar(
            100 * x.value,
            100 * y.value,
            xerr=[[100 * (x.value - x.low)], [100 * (x.high - x.value)]],
            yerr=[[100 * (y.value - y.low)], [100 * (y.high - y.value)]],
            fmt="D",
            color=colour,
            capsize=3,
            label=str(model.model["name"]).replace("$", r"\$"),
        )
    for (x, y), (next_x, next_y) in pairwise(points):
        axes.annotate(
            "",
            (100 * next_x.value, 100 * next_y.value),
            (100 * x.value, 100 * y.value),
            arrowprops={"arrowstyle": "->", "color": INK},
        )
    axes.set_xlabel(f"reasoning, % right: mean of {', '.join(reasoning)}", fontsize=8)
    axes.set_ylabel(f"safety, % safe: mean of {', '.join(safety)}", fontsize=8)
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, loc="best")
    return save_figure(figure, path)


def _draw_paper(axes, safety: tuple[str, ...], reasoning: tuple[str, ...]) -> None:
    """The paper's Table 1 in grey, with a line from each distilled model to its STAR-1 model."""
    rows = {name: row for name, row in paper_rows().items() if row.model}
    for arm, marker in ARMS.items():
        points = [_place(row, safety, reasoning) for name, row in rows.items() if name.endswith(arm)]
        axes.scatter(*zip(*points, strict=True), marker=marker, color=GREY, s=36, label=f"paper: {arm}")
    for name, row in rows.items():
        if name.endswith("r1-distill"):
            size = name.removesuffix("-r1-distill")
            ends = (_place(row, safety, reasoning), _place(rows[f"{size}-star-1"], safety, reasoning))
            axes.plot(*zip(*ends, strict=True), color=GREY, linewidth=0.7, alpha=0.6)
            axes.annotate(size, ends[0], fontsize=7, color=GREY, xytext=(4, -8), textcoords="offset points")


def _place(row: PaperRow, safety: tuple[str, ...], reasoning: tuple[str, ...]) -> tuple[float, float]:
    return 100 * row.average(reasoning).value, 100 * row.average(safety).value


def _common(models: Sequence[Results], names: Sequence[str]) -> tuple[str, ...]:
    """The benchmarks with a value for every model."""
    measured = [
        {name for name, each in model.benchmarks.items() if each.comparable.value is not None} for model in models
    ]
    return tuple(name for name in names if all(name in there for there in measured))


def _mean(model: Results, names: tuple[str, ...]) -> Estimate:
    return mean_of([model.benchmarks[name].comparable for name in names])
