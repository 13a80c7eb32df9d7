"""What the report says of a build: its sections, each with a sentence, pictures, and the same numbers as a table."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

from ..pipeline.counts import Grid, balance, bills, marks, overlap, similarities
from ..pipeline.run import Run
from ..schema import BENIGN_CRITERIA
from .charts import LEVEL, flow, grid, histogram, mark_bars


if TYPE_CHECKING:
    import plotly.graph_objects as go


__all__ = ["Cell", "Panel", "Section", "Table", "build_sections"]

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """Numbers for people and for screen readers.

    Attributes:
        head (`tuple[str, ...]`): Names of the columns.
        rows (`tuple[tuple, ...]`): Cells: text, or numbers, which stand right; `None` is shown as a dash.
        digits (`int`, *optional*): Decimals of numbers that are not whole; by default as many as each needs.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    digits: int | None = None

    def is_text(self, column: int) -> bool:
        """Whether a column holds text, which stands left, and not numbers, which stand right."""
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

    Attributes:
        title (`str`): What is shown.
        text (`str`): What to see in it; also what a screen reader says of the picture.
        figure (`go.Figure` or `None`): The picture.
        table (`Table` or `None`): The numbers.
        min_width (`int`): Pixels below which the picture scrolls in its frame instead of shrinking.
        wide_only (`bool`): Whether a phone leaves it out, since the text around it says the same.
        folded (`bool`): Whether a table without a picture is opened by a click only.
    """

    title: str
    text: str
    figure: "go.Figure | None" = None
    table: Table | None = None
    min_width: int = 0
    wide_only: bool = False
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        key (`str`): Its anchor.
        short (`str`): Its name in the navigation.
        title (`str`), lead (`str`): Heading, and what it is about in a sentence or two.
        panels (`list[Panel]`): Pictures and tables.
    """

    key: str
    short: str
    title: str
    lead: str
    panels: Sequence[Panel] = field(default_factory=tuple)


def build_sections(run: Run) -> list[Section]:
    """The sections of a build, as far as the run has come: flow, balance, marks, similarity, overlap and cost.

    Args:
        run (`Run`): A run with at least one finished stage.
    """
    found = (_flow(run), _balance(run), _marks(run), _duplicates(run), _cost(run))
    return [section for section in found if section is not None]


def _flow(run: Run) -> Section:
    lead = (
        f"{next(iter(run.records.values())).rows_in:,} questions were read. "
        "Each one ends in the data, or is removed with a stage and a reason."
    )
    text = "The width of a band is its number of rows: blue goes on, brown leaves."
    return Section(
        "rows",
        "Rows",
        "What happened to each row",
        lead,
        [Panel("From stage to stage", text, flow(run.records), wide_only=True)],
    )


def _balance(run: Run) -> Section | None:
    stages = [stage for stage in ("select", "classify") if stage in run.records and run.records[stage].rows_out]
    if not stages:
        return None
    panels = []
    for stage in stages:
        counts = balance(run, stage)
        largest, smallest = _extremes(counts)
        text = f"{largest[0]} has {largest[1]:,} labels, {smallest[0]} {smallest[1]:,}."
        name = "In the finished data" if stage == "select" else f"After {stage}"
        panels.append(_heat_map(name, text, counts, "source", "category"))
    lead = "Which source gave which kind of question. A question with several categories counts in each of them."
    return Section("balance", "Balance", "Categories and sources", lead, panels)


def _heat_map(title: str, text: str, counts: Grid, rows: str, columns: str) -> Panel:
    """A grid as a picture, wide enough for its names, and as a table."""
    width = 180 + (44 if len(counts.columns) > LEVEL else 95) * len(counts.columns)
    return Panel(title, text, grid(counts, rows, columns), Table.of(counts, rows), min_width=width)


def _extremes(counts: Grid) -> tuple[tuple[str, int], tuple[str, int]]:
    """The column with the largest and that with the smallest sum."""
    sums = [sum(column) for column in zip(*counts.cells, strict=True)]
    return (counts.columns[0], sums[0]), (counts.columns[-1], sums[-1])


def _marks(run: Run) -> Section | None:
    panels = []
    for stage, title, low, high in (("score", "Responses", 0, 10), ("rewrite", "Benign twins that were kept", 1, 5)):
        counts = marks(run, stage) if stage in run.records else {}
        if len({mark for given in counts.values() for mark in given}) > 1:
            criteria = list(counts) if stage == "score" else [name for name in BENIGN_CRITERIA if name in counts]
            full = ", ".join(f"{counts[name][high]:,} for {name.replace('_', ' ')}" for name in criteria)
            table = Table(
                ("mark", *(name.replace("_", " ") for name in criteria)),
                tuple((mark, *(counts[name][mark] for name in criteria)) for mark in range(high, low - 1, -1)),
            )
            panels.append(Panel(title, f"Full marks: {full}.", mark_bars(counts, low, high), table))
    if not panels:
        return None
    lead = "The scorer's marks on each criterion. What could not be judged has no mark and is not shown here."
    return Section("marks", "Scores", "Scores", lead, panels)


def _duplicates(run: Run) -> Section | None:
    if not run.records.get("deduplicate") or not run.records["deduplicate"].removed:
        return None
    found, panels = similarities(run), []
    if found:
        low = min(min(values) for values in found.values())
        low = int(low * 20) / 20
        rows = tuple((name, len(values), min(values), median(values), max(values)) for name, values in found.items())
        table = Table(("reason", "rows", "lowest", "median", "highest"), rows)
        text = (
            "Cosine similarity of each removed row to what it matched. Look at rows near the threshold, on the left: "
            "another threshold would decide differently about them."
        )
        panels.append(Panel("Similarity of removed rows", text, histogram(found, low), table))
    for contamination, title, text in (
        (
            False,
            "Overlap between sources",
            "Rows of a source (left) that are like a row of another, or of its own (top).",
        ),
        (True, "Contamination", "Rows of a source (left) that are like an item of a held-out benchmark (top)."),
    ):
        counts = overlap(run, contamination)
        if counts.total:
            panels.append(_heat_map(title, text, counts, "removed from", "matched in"))
    lead = "Near-duplicates, and whatever is like an item of a benchmark, leave before any model is asked."
    return Section("similarity", "Duplicates", "Duplicates and contamination", lead, panels) if panels else None


def _cost(run: Run) -> Section | None:
    found = bills(run)
    if not found:
        return None
    rows = [
        (
            bill.stage,
            ", ".join(bill.models),
            bill.calls,
            bill.prompt_tokens,
            bill.completion_tokens,
            bill.cost_usd,
            round(run.records[bill.stage].seconds),
        )
        for bill in found
    ]
    costs = [bill.cost_usd for bill in found if bill.cost_usd is not None]
    calls, tokens_in = sum(bill.calls for bill in found), sum(bill.prompt_tokens for bill in found)
    tokens_out, seconds = sum(bill.completion_tokens for bill in found), sum(row[-1] for row in rows)
    total = ("all", "", calls, tokens_in, tokens_out, sum(costs) if costs else None, seconds)
    table = Table(("stage", "model", "calls", "tokens in", "tokens out", "$", "seconds"), (*rows, total))
    text = "Second attempts are counted. A dash means that the endpoint has no price; seconds are of the last run."
    lead = "What the models were asked, and what it cost."
    return Section("cost", "Cost", "Calls, tokens and cost", lead, [Panel("", text, table=table)])
