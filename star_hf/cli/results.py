"""`star-hf ledger` and `star-hf compare`: results compared with the paper, and two models with each other."""

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column
from rich.text import Text

from ..errors import ConfigError
from ..utils.files import write_json, write_text
from .panels import EVALUATION
from .tables.layout import console, new_table, number, say


if TYPE_CHECKING:
    from ..evaluation.comparison.compare import Comparison
    from ..evaluation.comparison.paper import PaperComparison


__all__ = ["app"]

app = typer.Typer()

DECISIONS = {
    "ship": ("SHIP", "bold green", 0),
    "do not ship": ("DO NOT SHIP", "bold red", 1),
    "undecided": ("UNDECIDED", "bold yellow", 3),
}
"""The printed word, its style, and the exit code."""

MARKS = {True: Text("yes", "green"), False: Text("no", "bold red"), None: Text("undecided", "yellow")}

JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all numbers to this file.")]
MarkdownFile = Annotated[
    Path | None, typer.Option("--markdown", metavar="FILE", help="Write the tables to this file as Markdown.")
]
Picture = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Draw safety against reasoning, with the paper's models (.png, .svg, .pdf)."),
]


@app.command(rich_help_panel=EVALUATION)
def ledger(
    results: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RESULTS...", help="Results folders. Without one, the paper's rows are listed."),
    ] = None,
    row: Annotated[
        str | None, typer.Option(help="The paper's row to compare with.", show_default="by the model's name")
    ] = None,
    margin: Annotated[float, typer.Option(help="Maximum difference between rates that agree.", min=0, max=1)] = 0.1,
    json_file: JsonFile = None,
    markdown: MarkdownFile = None,
    picture: Picture = None,
) -> None:
    """Compare results with the paper's, with intervals and a verdict: agrees, differs, or too few items to tell.

    **Example:** `star-hf ledger results/STAR1-R1-Distill-7B/paper --row 7b-star-1`
    """
    from ..evaluation.comparison.paper import ledger as compare_with_paper
    from ..evaluation.comparison.paper import paper_rows
    from ..evaluation.comparison.picture import draw_tradeoff
    from ..evaluation.results.results import load_results
    from ..utils.formatting import percent

    if row is not None and row not in (known := paper_rows()):
        close = difflib.get_close_matches(row, known, n=3)
        raise ConfigError(
            f"The paper has no row {row!r}.", f"Did you mean {', '.join(close)}?" if close else "List: star-hf ledger"
        )
    if not results:
        name = Column("row", no_wrap=True)
        table = new_table("The paper's rows, in percent", name, "model, table", *map(number, ("safety", "reasoning")))
        for each in paper_rows().values():
            means = (percent(each.averages[kind]) if kind in each.averages else "" for kind in ("safety", "reasoning"))
            table.add_row(each.name, ", ".join(filter(None, (each.model, each.table.partition(":")[0]))), *means)
        console.print(table)
        return
    measured = [load_results(folder) for folder in results]
    ledgers = [compare_with_paper(each, row, margin) for each in measured]
    for each in ledgers:
        _show_ledger(each)
    tables = "\n".join(each.to_markdown() for each in ledgers)
    _write(json_file, [each.to_dict() for each in ledgers], markdown, tables)
    if picture is not None:
        say(f"Drawn to {draw_tradeoff(measured, picture)}")


@app.command(rich_help_panel=EVALUATION)
def compare(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="Results folder of the base model.")],
    tuned: Annotated[Path, typer.Argument(metavar="TUNED", help="Results folder of the tuned model.")],
    min_safety_gain: Annotated[float, typer.Option(help="Minimum mean gain in safety.", min=-1, max=1)] = 0.0,
    min_safe_rate: Annotated[
        float | None, typer.Option(help="Minimum safe rate on each safety benchmark.", min=0, max=1)
    ] = None,
    max_reasoning_cost: Annotated[float, typer.Option(help="Maximum mean loss in reasoning.", min=0, max=1)] = 0.03,
    max_over_refusal_rise: Annotated[float, typer.Option(help="Maximum rise of over-refusal.", min=0, max=1)] = 0.05,
    max_failures: Annotated[
        float, typer.Option(help="Accepted share of responses without a value, per benchmark.", min=0, max=1)
    ] = 0.1,
    slack: Annotated[
        float,
        typer.Option(help="How far an interval may exceed a limit and still decide.", min=0, max=1),
    ] = 0.05,
    json_file: JsonFile = None,
    markdown: MarkdownFile = None,
    picture: Picture = None,
) -> None:
    """Compare two models item by item: safety gained, reasoning lost, over-refusal added, and whether to ship.

    Shares are from 0 to 1. Exit code 0: ship; 1: do not ship; 2: wrong input; 3: undecided, since too few items or not
    all benchmarks were measured.

    **Example:** `star-hf compare results/base/recommended results/tuned/recommended --picture tradeoff.png`
    """
    from ..evaluation.comparison.compare import compare as compare_models
    from ..evaluation.comparison.decision import Criteria
    from ..evaluation.comparison.picture import draw_tradeoff
    from ..evaluation.results.results import load_results

    criteria = Criteria(min_safety_gain, min_safe_rate, max_reasoning_cost, max_over_refusal_rise, max_failures, slack)
    found = compare_models(base, tuned, criteria)
    _show_comparison(found)
    _write(json_file, found.to_dict(), markdown, found.to_markdown())
    if picture is not None:
        say(f"Drawn to {draw_tradeoff([load_results(base), load_results(tuned)], picture)}")
    raise typer.Exit(DECISIONS[found.decision][2])


def _show_ledger(found: "PaperComparison") -> None:
    title = f"{found.model} beside {found.row.name}, in percent"
    table = new_table(title, "", *map(number, ("ours", "paper", "difference")), "verdict")
    styles = {"agrees": "green", "differs": "bold red"}
    for line in found.lines:
        table.add_row(line.name, *line.numbers, Text(line.verdict, styles.get(line.verdict, "yellow")))
    console.print(table)
    for note in found.notes:
        say(f"- {note}")


def _show_comparison(found: "Comparison") -> None:
    right = ("base", "tuned", "difference", "p", "items")
    table = new_table(f"{found.tuned} against {found.base}, in percent", "", *map(number, right))
    for pair in found.pairs:
        table.add_row(f"{pair.name}\n{pair.metric}", *pair.numbers)
    console.print(table)
    for name, mean in found.sums.items():
        if mean.n:
            say(f"{name}: {mean.percent(sign=True)}, mean of {mean.n}")
    checks = new_table("Criteria", "criterion", "passed", "detail")
    for check in found.checks:
        checks.add_row(Text(check.name), MARKS[check.passed], Text(check.detail))
    console.print(checks)
    for note in found.notes:
        say(f"- {note}")
    word, style, _ = DECISIONS[found.decision]
    console.print(Text(word, style))


def _write(json_file: Path | None, data: Any, markdown: Path | None, text: str) -> None:
    if json_file is not None:
        write_json(json_file, data)
        say(f"Written to {json_file}")
    if markdown is not None:
        write_text(markdown, text)
        say(f"Written to {markdown}")
