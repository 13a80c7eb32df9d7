"""The sections of a build: rows, balance, scores, similarity and cost."""

from statistics import median

from ..pipeline.counts import Grid, balance, bills, marks, overlap, similarities
from ..pipeline.run import Run
from ..schema import BENIGN_CRITERIA
from .charts import LEVEL, flow, grid, histogram, mark_bars
from .sections import Panel, Section, Table
from .style import spaced


__all__ = ["build_sections"]


def build_sections(run: Run) -> list[Section]:
    """The sections of a build, as far as the run has come."""
    found = (_flow(run), _balance(run), _marks(run), _duplicates(run), _cost(run))
    return [section for section in found if section is not None]


def _flow(run: Run) -> Section:
    lead = (
        f"{next(iter(run.records.values())).rows_in:,} questions were read. "
        "Each one ends in the data, or is removed with a stage and a reason."
    )
    text = "The width of a band is its number of rows: blue rows were kept, brown rows removed."
    panel = Panel("From stage to stage", text, flow(run.records), wide_only=True)
    return Section("rows", "Rows", "What happened to each row", lead, [panel])


def _balance(run: Run) -> Section | None:
    panels = []
    for stage in ("select", "classify"):
        if stage in run.records and run.records[stage].rows_out:
            counts = balance(run, stage)
            sums = [sum(column) for column in zip(*counts.cells, strict=True)]  # the largest first
            text = f"{counts.columns[0]} has {sums[0]:,} labels, {counts.columns[-1]} {sums[-1]:,}."
            name = "In the finished data" if stage == "select" else f"After {stage}"
            panels.append(_heat_map(name, text, counts, "source", "category"))
    lead = "Which source gave which kind of question. A question with several categories counts in each of them."
    return Section("balance", "Balance", "Categories and sources", lead, panels) if panels else None


def _heat_map(title: str, text: str, counts: Grid, rows: str, columns: str) -> Panel:
    width = 180 + (44 if len(counts.columns) > LEVEL else 95) * len(counts.columns)
    return Panel(title, text, grid(counts, rows, columns), Table.of(counts, rows), min_width=width)


def _marks(run: Run) -> Section | None:
    panels = []
    for stage, title, low, high in (("score", "Responses", 0, 10), ("rewrite", "Benign twins that were kept", 1, 5)):
        counts = marks(run, stage) if stage in run.records else {}
        if len({mark for given in counts.values() for mark in given}) > 1:
            criteria = list(counts) if stage == "score" else [name for name in BENIGN_CRITERIA if name in counts]
            full = ", ".join(f"{counts[name][high]:,} for {spaced(name)}" for name in criteria)
            table = Table(
                ("mark", *map(spaced, criteria)),
                tuple((mark, *(counts[name][mark] for name in criteria)) for mark in range(high, low - 1, -1)),
            )
            panels.append(Panel(title, f"Full marks: {full}.", mark_bars(counts, low, high), table))
    lead = "The scorer's marks by criterion. Responses that could not be scored have no marks and are not shown."
    return Section("marks", "Scores", "Scores", lead, panels) if panels else None


def _duplicates(run: Run) -> Section | None:
    if not run.records.get("deduplicate") or not run.records["deduplicate"].removed:
        return None
    found, panels = similarities(run), []
    if found:
        low = int(min(min(values) for values in found.values()) * 20) / 20
        rows = tuple((name, len(values), min(values), median(values), max(values)) for name, values in found.items())
        table = Table(("reason", "rows", "lowest", "median", "highest"), rows)
        text = (
            "Cosine similarity of each removed row to its match. Check rows near the threshold, on the left: another "
            "threshold would decide differently about them."
        )
        panels.append(Panel("Similarity of removed rows", text, histogram(found, low), table))
    for contamination, title, match in (
        (False, "Overlap between sources", "a row of another source or their own"),
        (True, "Contamination", "an item of a held-out benchmark"),
    ):
        counts = overlap(run, contamination)
        if counts.total:
            text = f"Removed rows by their source (left) that match {match} (top)."
            panels.append(_heat_map(title, text, counts, "removed from", "matched in"))
    lead = "Near-duplicates and matches with benchmarks are removed before any model is called."
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
    _, _, *columns = zip(*rows, strict=True)
    sums = [sum(known) if (known := [value for value in column if value is not None]) else None for column in columns]
    table = Table(("stage", "model", "calls", "tokens in", "tokens out", "$", "seconds"), (*rows, ("all", "", *sums)))
    text = "Second attempts are counted. A dash means that the endpoint has no price. Seconds are of the last run."
    return Section(
        "cost", "Cost", "Calls, tokens and cost", "Model calls and their cost.", [Panel("", text, table=table)]
    )
