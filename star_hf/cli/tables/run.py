"""Tables of a run; they never show whole harmful texts unless asked for."""

from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ...pipeline.counts import bills
from ...pipeline.explain import Event
from ...pipeline.forecast import StageForecast
from ...pipeline.run import Run
from ...transforms.deduplicate import STEPS
from .layout import console, new_table, number, say


if TYPE_CHECKING:
    from ...demo.before_after import Refusals


__all__ = ["show_before_after", "show_forecast", "show_rows", "show_run", "show_story"]

WORTH = {
    "refusal": "It agrees with people on XSTest's replies by models that it has not seen: kappa .92, two people .96.",
    "refusal-phrases": "It looks for phrases: it finds 66 of 100 replies to XSTest that people call refusals, and "
    "97 of 100 that it finds are refusals.",
}
"""What a judge of the demo is worth, measured against people."""


STEP_NAMES = {
    "exact": "equal texts",
    "a": "words same source",
    "b": "words other sources",
    "c": "TF-IDF other sources",
    "d": "TF-IDF all rows",
    "e": "vectors all rows",
    "f": "vectors bench- marks",
}
"""What each step of deduplicate compares, as the heading of a narrow column."""


def show_run(run: Run) -> None:
    """Print the tables of a run: rows in and out per stage, categories by sources, tokens and cost."""
    console.print(_funnel(run))
    if list(run.records)[-1:] == ["deduplicate"]:
        console.print(_steps(run))
    last = next((stage for stage in ("select", "score", "reason", "classify") if stage in run.records), None)
    if last is not None and run.records[last].rows_out:
        console.print(_balance(run, last))
    bill = _bill(run)
    if bill.row_count:
        console.print(bill)
    missing = run.records["collect"].notes.get("missing", {}) if "collect" in run.records else {}
    if missing:
        say(
            f"missing: {', '.join(missing)}; reasons and remedies are above and in {run.manifest_path}",
            "yellow",
        )
    unread = run.records["deduplicate"].notes.get("unread", {}) if "deduplicate" in run.records else {}
    if unread:
        groups = ", ".join(f"{group} ({count:,})" for group, count in unread.items())
        say(f"the embedding model cannot tell texts in these languages or scripts apart: {groups}", "yellow")
    if (run.folder / "dataset").exists() and "select" in run.records:
        say(f'\nLoad it: load_dataset("{run.folder / "dataset"}", split="train")')


def show_forecast(stages: list[StageForecast]) -> None:
    """Print the forecast of the stages that call a model, with the sum."""
    numbers = map(number, ("requests", "tokens in", "out", "$", "hours"))
    table = new_table("Forecast, at most", "stage", "model", *numbers)
    for stage in stages:
        cost = "-" if stage.cost_usd is None else f"{stage.cost_usd:,.2f}"
        numbers = (stage.requests, stage.prompt_tokens, stage.completion_tokens)
        table.add_row(stage.stage, Text(stage.model), *(f"{n:,}" for n in numbers), cost, f"{stage.hours:.2f}")
    table.add_section()
    total = f"{sum(stage.cost_usd or 0 for stage in stages):,.2f}"
    table.add_row("all", "", "", "", "", total, f"{sum(stage.hours for stage in stages):.2f}", style="bold")
    console.print(table)
    console.print(
        f"Tokens in by {', '.join(sorted({stage.counted_by for stage in stages}))}; responses of STAR-1's length, at "
        "30 tokens per second each. Rows that a stage may remove are counted. Nothing was sent.",
        highlight=False,
    )
    if unpriced := sorted({stage.model for stage in stages if stage.cost_usd is None}):
        say(f"Without a price, and not in the sum: {', '.join(unpriced)}", "yellow")


def show_rows(run: Run, limit: int = 3) -> None:
    """Print the first rows of the finished data set, shortened."""
    rows = run.table("select")
    for row in rows.select(range(min(limit, len(rows)))):
        marks = ", ".join(f"{name} {mark}" for name, mark in row["score"].items())
        body = Group(
            Text(row["question"], style="bold"),
            Text(_shorten(row["response"]), style="dim"),
            Text(f"{', '.join(row['category'])} | {row['source']} | {marks}"),
        )
        console.print(Panel(body, title=Text(row["id"]), title_align="left"))
    if len(rows):
        say(f"The history of a row: star-hf explain {rows[0]['id']} --run-dir {run.folder}")


def show_before_after(before: "Refusals", after: "Refusals") -> None:
    """Print the comparison as a table, with intervals and what the judge is worth."""
    from ...demo.before_after import JUDGE, MEASURES

    names = map(number, (*MEASURES.values(), "not judged"))
    table = new_table("Percent of responses, with 95 % intervals", "", *names)
    for name, found in (("before", before), ("after", after)):
        cells = (getattr(found, field).percent().replace(" (", "\n(") for field in MEASURES)
        table.add_row(name, *cells, f"{found.failed} of {found.asked}")
    table.add_row("better", "more", "fewer", "more", "none", style="dim")
    console.print(table)
    console.print(
        f"Judge: {JUDGE}. {WORTH[JUDGE]} The questions are mild and few: `star-hf evaluate` measures.",
        style="dim",
        highlight=False,
    )


def show_story(row_id: str, events: list[Event]) -> None:
    """Print one panel per event of a row."""
    console.print(Text(row_id, style="bold"))
    for event in events:
        grid = Table.grid(padding=(0, 2))
        for name, value in event.facts.items():
            grid.add_row(Text(name, style="dim"), Text(value))
        style = "green" if event.verdict == "kept" else "red"
        console.print(
            Panel(grid, title=Text(f"{event.stage}: {event.verdict}"), title_align="left", border_style=style)
        )


def _funnel(run: Run) -> Table:
    table = new_table("Rows per stage", "stage", number("in"), number("out"), "removed, by reason", number("s"))
    for stage, record in run.records.items():
        reasons = ", ".join(f"{reason} {count}" for reason, count in record.removed.items())
        table.add_row(stage, str(record.rows_in), str(record.rows_out), Text(reasons), f"{record.seconds:.1f}")
    return table


def _steps(run: Run) -> Table:
    """Rows of each source after each step of the duplicate search."""
    steps = STEPS[run.config.profile]
    removed = run.columns("deduplicate", "removed", "source", "detail")
    left = Counter(run.columns("collect", "rows", "source")[0])
    gone = Counter(
        (source, detail.removeprefix("step ").split(",")[0]) for source, detail in zip(*removed, strict=True)
    )
    table = new_table(
        "Rows after each step of deduplicate", "source", *map(number, ("rows", *map(STEP_NAMES.__getitem__, steps)))
    )
    total = [0] * (len(steps) + 1)
    for source, rows in left.items():
        counts = [rows]
        for step in steps:
            counts.append(counts[-1] - gone[source, step])
        total = [before + count for before, count in zip(total, counts, strict=True)]
        table.add_row(Text(source), *map(str, counts))
    table.add_row("all", *map(str, total), style="bold")
    return table


def _balance(run: Run, stage: str, columns: int = 8) -> Table:
    """Categories by sources; the sources beyond the first columns are added up."""
    categories, origins = run.columns(stage, "rows", "category", "source")
    cells = Counter((label, source) for labels, source in zip(categories, origins, strict=True) for label in labels)
    sources = [source for source, _ in Counter(origins).most_common()]
    shown, rest = sources[:columns], sources[columns:]
    names = [*shown, *(["others"] if rest else []), "all"]
    table = new_table(f"Categories by sources after {stage}", "category", *map(number, names))
    totals = Counter(label for labels in categories for label in labels)
    for label, total in totals.most_common():
        numbers = [cells[label, source] for source in shown]
        if rest:
            numbers.append(sum(cells[label, source] for source in rest))
        table.add_row(Text(label), *(str(number or "") for number in numbers), str(total))
    return table


def _bill(run: Run) -> Table:
    table = new_table("Tokens and cost", "stage", "model", *map(number, ("calls", "tokens in", "out", "$")))
    for bill in bills(run):
        table.add_row(
            bill.stage,
            Text(", ".join(bill.models)),
            f"{bill.calls:,}",
            f"{bill.prompt_tokens:,}",
            f"{bill.completion_tokens:,}",
            "-" if bill.cost_usd is None else f"{bill.cost_usd:.4f}",
        )
    return table


def _shorten(text: str, length: int = 400) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
