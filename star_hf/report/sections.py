"""What the page is made of: sections of panels, each with a sentence, a picture, and its numbers as a table."""

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from ..pipeline.counts import Grid


__all__ = ["Cell", "Panel", "Section", "Table"]

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """A table; `None` is shown as a dash, and floats with `digits` decimals, or as many as each needs."""

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    digits: int | None = None

    def is_text(self, column: int) -> bool:
        """Whether a column is text, aligned left; numbers are aligned right."""
        return any(isinstance(row[column], str) for row in self.rows)

    @classmethod
    def of(cls, grid: Grid, corner: str) -> "Table":
        """A grid with its sums."""
        rows = [(label, *line, sum(line)) for label, line in zip(grid.rows, grid.cells, strict=True)]
        sums = [sum(column) for column in zip(*grid.cells, strict=True)]
        return cls((corner, *grid.columns, "all"), (*rows, ("all", *sums, grid.total)))


@dataclass(frozen=True)
class Panel:
    """A picture and its table; either may be missing.

    `text` says what to look for, and screen readers read it in place of the picture. Below `min_width` pixels the
    picture scrolls instead of shrinking; `wide_only` ones are left out on phones. A `folded` table is closed at first.
    """

    title: str
    text: str
    figure: go.Figure | None = None
    table: Table | None = None
    min_width: int = 0
    wide_only: bool = False
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the report.

    `key` is its anchor, `short` its name in the navigation, and `lead` a sentence or two below the heading.
    """

    key: str
    short: str
    title: str
    lead: str
    panels: Sequence[Panel] = ()
