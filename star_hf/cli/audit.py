"""`star-hf audit`: check any data set before training or publishing."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ..utils.files import write_text
from ..utils.options import pair
from ..utils.text import counted
from .panels import SHARING
from .tables.layout import console, new_table, number, say


if TYPE_CHECKING:
    from ..audit import Audit


__all__ = ["app"]

app = typer.Typer()

STYLES = {"error": "bold red", "gap": "bold yellow", "warning": "yellow", "note": "dim"}


@app.command(rich_help_panel=SHARING)
def audit(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help="A file, a folder, a build's directory, or an id on the Hub.")
    ],
    name: Annotated[str | None, typer.Option(help="Configuration on the Hub or in a folder.")] = None,
    split: Annotated[str | None, typer.Option(help="Split.", show_default="train")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision on the Hub.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=NAME", help="Name of the column with the `question`, `response`, ... Can be repeated."
        ),
    ] = None,
    sources_dir: Annotated[
        Path | None, typer.Option(help="Local copies of the benchmarks: DIR/BENCHMARK/FILE.")
    ] = None,
    benchmark: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=FILE]",
            help="Search only for this benchmark; with FILE, for your own as well. Can be repeated.",
        ),
    ] = None,
    policies: Annotated[Path | None, typer.Option(help="The taxonomy of your labels (YAML).")] = None,
    reasoning: Annotated[
        bool | None,
        typer.Option(
            "--reasoning/--no-reasoning",
            help="Whether each response must have reasoning and an answer.",
            show_default="if any response has reasoning",
        ),
    ] = None,
    ngram: Annotated[int, typer.Option(min=1, help="Number of consecutive words that count as shared text.")] = 8,
    tfidf: Annotated[float, typer.Option(min=0.01, max=1, help="Minimum TF-IDF cosine of similar rows.")] = 0.6,
    embedding: Annotated[
        float | None,
        typer.Option(min=0.01, max=1, help="Minimum embedding cosine of similar rows. Not checked without it."),
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Embedding model: a Hub id, a folder, onnx:MODEL or openai:MODEL.")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all findings as JSON.")] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write an HTML page with the texts, collapsed.")
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", metavar="FILE", help="Write ids and counts as Markdown, without texts."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings too.")] = False,
    allow_gaps: Annotated[bool, typer.Option("--allow-gaps", help="Do not fail on a missing benchmark.")] = False,
) -> None:
    """Check any data set for duplicates, benchmark texts, broken rows and more.

    Exit code 0: no error; 1: an error; 2: wrong input; 3: no error, but a benchmark is not available.

    **Example:** `star-hf audit UCSC-VLAA/STAR-1 --html audit.html`
    """
    from ..audit import audit as look
    from ..audit import to_html, to_markdown

    files = dict(pair(item) for item in benchmark or () if "=" in item)
    names = [item for item in benchmark or () if "=" not in item]
    found = look(
        dataset,
        name=name,
        split=split,
        revision=revision,
        columns=dict(map(pair, column or ())),
        benchmarks=names or None,
        sources_dir=sources_dir,
        benchmark_files={key: Path(value) for key, value in files.items()},
        policies=policies,
        reasoning=reasoning,
        n=ngram,
        tfidf_threshold=tfidf,
        embedding_threshold=embedding,
        encoder=encoder,
        progress=True,
    )
    command = shlex.join(["star-hf", *sys.argv[1:]])
    for path, text in (
        (json, lambda: found.to_json()),
        (html, lambda: to_html(found)),
        (markdown, lambda: to_markdown(found, command)),
    ):
        if path is not None:
            write_text(path, text())
            say(f"Wrote {path}.")
    _show(found)
    if not found.ok or (strict and found.of("warning")):
        raise typer.Exit(1)
    if not found.complete and not allow_gaps:
        raise typer.Exit(3)


def _show(audit: "Audit") -> None:
    """Print the findings and the benchmarks."""
    title = f"Audit of {audit.dataset}, {counted(audit.rows, 'row')}"
    table = new_table(title, "severity", "check", number("rows"), "what")
    for finding in audit.findings:
        style = STYLES[finding.severity]
        rows = f"{finding.rows:,}" if finding.hits else ""
        told = finding.summary.replace("\n", " ")
        if any(hit.benchmark for hit in finding.hits):
            told += " " + ", ".join(f"{name} {count}" for name, count in finding.details.items())
        table.add_row(Text(finding.severity, style), Text(finding.check), rows, Text(told))
    console.print(table)
    searched = ", ".join(f"{name} ({sum(facts['texts'].values()):,})" for name, facts in audit.benchmarks.items())
    say(f"Searched for: {searched or 'no benchmark'}.")
    for check, reason in audit.skipped.items():
        say(f"Not checked: {check}, since {reason}.", "dim")
    kinds = {severity: sum(finding.severity == severity for finding in audit.findings) for severity in STYLES}
    style = next((STYLES[severity] for severity in ("error", "gap") if kinds[severity]), "green")
    say(f"{', '.join(counted(count, severity) for severity, count in kinds.items())}.", style)
