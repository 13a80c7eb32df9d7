"""The picture of a card."""

import io

from ...pipeline.counts import Grid
from ...utils.extras import missing


__all__ = ["heat_map"]


def heat_map(grid: Grid) -> bytes | None:
    """A PNG of counts by two labels, darker for more; the same bytes for the same grid.

    `None` if matplotlib (the extra `report`) is not installed, or there is nothing to show.
    """
    if missing("matplotlib") or not grid.total:
        return None
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.5 + 0.55 * len(grid.rows), 1.6 + 0.42 * len(grid.columns)), dpi=120, layout="tight")
    axes = figure.add_subplot()
    cells = list(zip(*grid.cells, strict=True))
    axes.imshow(cells, cmap="Blues", aspect="auto")
    axes.set_xticks(range(len(grid.rows)), [_plain(label) for label in grid.rows], rotation=45, ha="right")
    axes.set_yticks(range(len(grid.columns)), [_plain(label) for label in grid.columns])
    darkest = max(map(max, cells))
    for line, counts in enumerate(cells):
        for column, count in enumerate(counts):
            if count:
                color = "white" if count > darkest / 2 else "black"
                axes.text(column, line, f"{count:,}", ha="center", va="center", color=color, fontsize=8)
    axes.tick_params(length=0)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _plain(label: str) -> str:
    """A shortened label that matplotlib does not read as a formula."""
    return label.replace("$", r"\$")[:40]
