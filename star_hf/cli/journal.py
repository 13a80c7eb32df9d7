"""`star-hf journal`: look into a run's journal, carry its answers elsewhere, and throw away what is of no use."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ..errors import StarError


if TYPE_CHECKING:
    from ..llm.journal.upkeep import Usage


__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
console = Console()

DAY_S = 86_400

Place = Annotated[Path, typer.Argument(metavar="RUN", help="A run's directory, or a journal's file.")]


@app.command()
def stats(
    run: Place,
    versions: Annotated[bool, typer.Option("--versions", help="Count each prompt version by itself.")] = False,
) -> None:
    """Show what a journal holds: answers, outcomes, tokens, dollars and times per stage and model.

    **Example:** `star-hf journal stats runs/star-1`
    """
    from ..llm.journal import Journal
    from ..llm.journal.upkeep import usage

    with Journal(_existing(run)) as journal:
        _show(usage(journal, by_version=versions), f"Answers in {journal.path}", versions)
        _say(f"{len(journal):,} answers, {_megabytes(journal.size())}")


@app.command()
def export(
    run: Place,
    output: Annotated[Path, typer.Argument(metavar="FILE", help="The Parquet file; one that is there is replaced.")],
) -> None:
    """Write all answers to a Parquet file, to look at or to import elsewhere.

    It holds what models answered to harmful questions: share it as you would share those.

    **Example:** `star-hf journal export runs/star-1 answers.parquet`
    """
    from ..llm.journal import Journal
    from ..llm.journal.exchange import export_journal

    with Journal(_existing(run)) as journal:
        written = export_journal(journal, output)
    _say(f"{written:,} answers written to {output} ({_megabytes(output.stat().st_size)})")


@app.command("import")
def import_(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's directory, new or not, or a journal's file.")],
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE...", help="Exports, journals or other runs' directories.")
    ],
) -> None:
    """Take answers from elsewhere, so that they are not paid twice: from a colleague, another host, or a shard.

    What the journal answers already stays as it is. A source with an invalid row is refused whole.

    **Example:** `star-hf journal import runs/star-1 answers.parquet ../other/runs/star-1`
    """
    from ..llm.journal import Journal
    from ..llm.journal.exchange import import_answers

    found = [_existing(source) for source in sources]
    with Journal(_file(run)) as journal:
        for source in found:
            merged = import_answers(journal, source)
            same = merged.present - merged.differing
            _say(
                f"{source}: {merged.new:,} new, {same:,} there already"
                + (f", {merged.differing:,} answered differently here (kept as here)" if merged.differing else "")
            )
        _say(f"{journal.path} holds {len(journal):,} answers.")


@app.command()
def prune(
    run: Place,
    stage: Annotated[list[str] | None, typer.Option(help="Asked by this stage. Can be given again.")] = None,
    version: Annotated[
        list[str] | None, typer.Option(help="Of the prompt version that starts so. Can be given again.")
    ] = None,
    outcome: Annotated[
        list[str] | None, typer.Option(help="Ended so, such as `truncated` or `refused`. Can be given again.")
    ] = None,
    older_than: Annotated[float | None, typer.Option(min=0, metavar="DAYS", help="Came longer ago.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
) -> None:
    """Remove the answers that meet all conditions, for good. Needed again, they are asked and paid again.

    Not while a run uses the journal.

    **Example:** `star-hf journal prune runs/star-1 --stage reason --outcome truncated --dry-run`
    """
    from ..llm.journal import Journal, upkeep

    selection = upkeep.Selection(
        stages=tuple(stage or ()),
        versions=tuple(version or ()),
        outcomes=tuple(outcome or ()),
        before=None if older_than is None else time.time() - older_than * DAY_S,
    )
    with Journal(_existing(run)) as journal:
        if dry_run:
            going = upkeep.usage(journal, selection)
            _show(going, f"What would go from {journal.path}")
            _say(f"{sum(part.answers for part in going):,} of {len(journal):,} answers would go. Nothing was removed.")
            return
        before = journal.size()
        removed = upkeep.prune(journal, selection)
        _say(
            f"{removed:,} answers went, {len(journal):,} are left; "
            f"{_megabytes(before)} became {_megabytes(journal.size())}."
        )


def _file(place: Path) -> Path:
    """The journal's file that a directory or a file name stands for."""
    return place if place.is_file() or place.suffix in (".sqlite", ".parquet") else place / "journal.sqlite"


def _existing(place: Path) -> Path:
    path = _file(place)
    if not path.is_file():
        raise StarError(f"There is no file {path}.", "Name a run's directory or a journal's file.")
    return path


def _show(usages: "list[Usage]", title: str, versions: bool = False) -> None:
    """Print a table of one line per stage, endpoint and model, with the sum."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), box=SIMPLE_HEAD, show_lines=True, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("stage", no_wrap=True)
    table.add_column("model, endpoint" + ", version" * versions, overflow="fold", min_width=12)
    for name in ("answers", "tokens\nin, out", "$", "s each"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("outcomes", no_wrap=True)
    table.add_column("first, last\n(UTC)", min_width=10)
    for part in usages:
        who = (part.model, part.endpoint, *([part.version[:12]] if versions else []))
        outcomes = (f"{name} {count:,}" for name, count in part.outcomes.items())
        table.add_row(
            Text(part.stage),
            Text("\n".join(who)),
            *_numbers([part]),
            f"{part.latency_s:.1f}",
            Text("\n".join(outcomes)),
            "\n".join(time.strftime("%Y-%m-%d %H:%M", time.gmtime(at)) for at in (part.first, part.last)),
        )
    if len(usages) > 1:
        table.add_row("all", "", *_numbers(usages), style="bold")
    console.print(table)
    if unpriced := sum(part.unpriced for part in usages):
        _say(f"{unpriced:,} answers have no price, and so are not in the dollars.")


def _numbers(usages: "list[Usage]") -> tuple[str, str, str]:
    """Answers, tokens in over tokens out, and dollars."""
    costs = [part.cost_usd for part in usages if part.cost_usd is not None]
    answers = sum(part.answers for part in usages)
    tokens_in = sum(part.prompt_tokens for part in usages)
    tokens_out = sum(part.completion_tokens for part in usages)
    return f"{answers:,}", f"{tokens_in:,}\n{tokens_out:,}", f"{sum(costs):,.2f}" if costs else "-"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _say(words: str) -> None:
    console.print(words, markup=False, highlight=False, soft_wrap=True)
