"""Overview: the funnel, the similarities of removed rows and the overlap of sources, as tables and one picture."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..utils.figures import COLOURS, INK, new_figure, save_figure
from .result import Deduplication


if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["draw_deduplication", "funnel", "overlap"]

BLUE, ORANGE = COLOURS[:2]
SHOWN = 14
"""Sources in the heat map; the others are summed."""
OTHERS = "others"


def funnel(result: Deduplication) -> "pd.DataFrame":
    """Removed rows by reason, in the order of the measures, and the rows left after each.

    Returns:
        `pandas.DataFrame`: Columns `reason`, `removed`, `left`; the first line has the input rows.
    """
    import pandas as pd

    counts = Counter(result.removed["reason"][:])
    measures = ("exact", "ngram", "tfidf", "embedding")
    known = [f"{measure}_{kind}" for kind in ("contamination", "duplicate") for measure in measures]
    gone = {reason: counts[reason] for reason in known if counts[reason]}
    frame = pd.DataFrame({"reason": ["given", *gone], "removed": [0, *gone.values()]})
    frame["left"] = len(result.given) - frame["removed"].cumsum()
    return frame


def overlap(result: Deduplication) -> "pd.DataFrame":
    """Number of rows of each source (index) removed because of a row or held-out item of each source (columns)."""
    import pandas as pd

    sources, matched = (result.removed[name][:] for name in ("source", "matched_source"))
    return pd.crosstab(pd.Series(sources, name="source"), pd.Series(matched, name="matched_source"))


def draw_deduplication(result: Deduplication, path: str | Path) -> Path:
    """Draw the funnel, a histogram of similarities, and a heat map of sources. It shows counts, no texts.

    Args:
        result ([`~star_hf.deduplication.result.Deduplication`]): The result.
        path (`str` or `Path`): The picture: `.png`, `.svg` or `.pdf`.

    Returns:
        `Path`: The picture.

    Raises:
        [`ConfigError`]: If matplotlib is missing, or the file type is not supported.
    """
    figure = new_figure(figsize=(11, 8), dpi=110)
    panels = figure.subplot_mosaic([["funnel", "similarity"], ["overlap", "overlap"]], height_ratios=[2, 3])
    _draw_funnel(panels["funnel"], funnel(result))
    _draw_similarity(panels["similarity"], result)
    _draw_overlap(panels["overlap"], _largest(overlap(result)))
    return save_figure(figure, path)


def _draw_funnel(axes: "Axes", steps: "pd.DataFrame") -> None:
    names = [reason.replace("_", " ") for reason in steps["reason"]]
    axes.barh(names, steps["left"], color=BLUE)
    axes.barh(names, steps["removed"], left=steps["left"], color=ORANGE)
    for place, (left, removed) in enumerate(zip(steps["left"], steps["removed"], strict=True)):
        text = f"{left:,}" + (f"  (−{removed:,})" if removed else "")
        end = (left + removed, place)
        axes.annotate(text, end, xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(right=max(1.3 * steps["left"].max(), 1))  # room for the numbers
    axes.set_title("kept rows (blue) and removed rows (orange)", fontsize=10)
    axes.tick_params(labelsize=8)


def _draw_similarity(axes: "Axes", result: Deduplication) -> None:
    by_measure: dict[str, list[float]] = {}
    for reason, similarity in zip(*(result.removed[name][:] for name in ("reason", "similarity")), strict=True):
        measure = reason.split("_")[0]
        if measure in ("tfidf", "embedding"):  # the other measures have no degrees
            by_measure.setdefault(measure, []).append(similarity)
    lowest = min((min(values) for values in by_measure.values()), default=0.0)
    for measure, values in sorted(by_measure.items()):
        axes.hist(values, bins=np.linspace(lowest, 1, 31), histtype="stepfilled", alpha=0.6, label=measure)
    axes.set_title("cosine of removed rows with their matches", fontsize=10)
    axes.tick_params(labelsize=8)
    if by_measure:
        axes.legend(fontsize=8)


def _largest(counts: "pd.DataFrame") -> "pd.DataFrame":
    """The sources with the most rows on either side, and one line and column for the others."""

    def named(sums: "pd.Series") -> np.ndarray:
        chosen = set(sums.sort_values(ascending=False, kind="stable").index[:SHOWN])
        return np.array([name if name in chosen or len(sums) <= SHOWN + 1 else OTHERS for name in sums.index], object)

    rows, columns = named(counts.sum(axis=1)), named(counts.sum(axis=0))
    return counts.groupby(rows, sort=False).sum().T.groupby(columns, sort=False).sum().T


def _draw_overlap(axes: "Axes", counts: "pd.DataFrame") -> None:
    values = counts.to_numpy(float).reshape(counts.shape)
    axes.set_title("removed rows by source (lines) and source or benchmark of the match (columns)", fontsize=10)
    if not values.size:
        axes.set_axis_off()
        return
    axes.imshow(np.sqrt(values), cmap="Blues", aspect="auto")
    axes.set_yticks(range(values.shape[0]), counts.index, fontsize=7)
    slanted = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(values.shape[1]), counts.columns, fontsize=7, **slanted)
    darkest = np.sqrt(values.max())
    for (row, column), value in np.ndenumerate(values):
        if value:
            shade = "white" if np.sqrt(value) > 0.6 * darkest else INK
            axes.text(column, row, f"{value:,.0f}", ha="center", va="center", fontsize=7, color=shade)
