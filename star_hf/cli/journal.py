"""`star-hf journal`: show a run's journal, copy its answers, remove some, and save those of a damaged one."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column
from rich.text import Text

from ..errors import StarError
from ..utils.text import counted
from .tables.layout import console, new_table, number, say


if TYPE_CHECKING:
    from ..llm.journal.upkeep import Usage


__all__ = ["app"]

app = typer.Typer(
    name="journal",
    help="Show, export, import, prune and repair a run's journal of model calls.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

DAY_S = 86_400

Place = Annotated[Path, typer.Argument(metavar="RUN", help="A run's directory, or a journal's file.")]


@app.command()
def stats(
    run: Place,
    versions: Annotated[bool, typer.Option("--versions", help="Count each prompt version separately.")] = False,
) -> None:
    """Count the entries of a journal, with outcomes, tokens, dollars and times per stage and model.

    **Example:** `star-hf journal stats runs/star-1`
    """
    from ..llm.journal import Journal
    from ..llm.journal.upkeep import usage

    with Journal(_existing(run)) as journal:
        _show(usage(journal, by_version=versions), f"Answers in {journal.path}", versions)
        say(f"{len(journal):,} answers, {_megabytes(journal.size())}")


@app.command()
def export(
    run: Place,
    output: Annotated[Path, typer.Argument(metavar="FILE", help="The Parquet file. An existing one is replaced.")],
) -> None:
    """Write all entries to a Parquet file, to look at them or to import them elsewhere.

    It contains responses to harmful questions: share it with care.

    **Example:** `star-hf journal export runs/star-1 answers.parquet`
    """
    from ..llm.journal import Journal
    from ..llm.journal.exchange import export_journal

    with Journal(_existing(run)) as journal:
        written = export_journal(journal, output)
    say(f"{written:,} answers written to {output} ({_megabytes(output.stat().st_size)})")


@app.command("import")
def import_(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run's directory, which may be new, or a journal's file.")
    ],
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE...", help="Exports, journals or other runs' directories.")
    ],
) -> None:
    """Import entries, so that they are not paid for twice: from a colleague, another machine, or a shard.

    Entries that the journal already has stay as they are. A source with an invalid row is refused as a whole.

    **Example:** `star-hf journal import runs/star-1 answers.parquet ../other/runs/star-1`
    """
    from ..llm.journal import Journal
    from ..llm.journal.exchange import import_answers

    found = [_existing(source) for source in sources]
    with Journal(_file(run)) as journal:
        for source in found:
            merged = import_answers(journal, source)
            same = merged.present - merged.differing
            say(
                f"{source}: {merged.new:,} new, {same:,} there already"
                + (f", {merged.differing:,} answered differently here (kept as here)" if merged.differing else ""),
            )
        say(f"{journal.path} holds {len(journal):,} answers.")


@app.command()
def prune(
    run: Place,
    stage: Annotated[list[str] | None, typer.Option(help="Remove entries of this stage. Can be repeated.")] = None,
    version: Annotated[
        list[str] | None,
        typer.Option(help="Remove entries of the prompt version that starts with this. Can be repeated."),
    ] = None,
    outcome: Annotated[
        list[str] | None,
        typer.Option(help="Remove entries with this outcome, such as `truncated` or `refused`. Can be repeated."),
    ] = None,
    older_than: Annotated[
        float | None, typer.Option(min=0, metavar="DAYS", help="Remove entries that are older than this.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
) -> None:
    """Remove the entries that meet all conditions, permanently. If they are needed again, they are paid for again.

    Do not prune while a run uses the journal.

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
            _show(going, f"To be removed from {journal.path}")
            say(
                f"{sum(part.answers for part in going):,} of {len(journal):,} answers to remove. Nothing was removed.",
            )
            return
        before = journal.size()
        removed = upkeep.prune(journal, selection)
        say(
            f"{counted(removed, 'answer')} removed, {len(journal):,} left; "
            f"the size was {_megabytes(before)} and is {_megabytes(journal.size())}.",
        )


@app.command()
def repair(run: Place) -> None:
    """Save the answers that a damaged journal, its log and its copy still hold. A sound journal stays as it is.

    The damaged file is kept under another name. What is lost is asked, and paid, again when a run needs it.

    **Example:** `star-hf journal repair runs/star-1`
    """
    from ..llm.journal.repair import repair as save

    path = _file(run)
    done = save(path)
    if done.kept is None:
        say(f"{path} is sound: {counted(done.answers, 'answer')}. Nothing was changed.")
        return
    say(
        f"{counted(done.answers, 'answer')} saved in {path}; "
        + (f"{counted(done.lost, 'answer')} that were there are lost." if done.lost else "none is known to be lost.")
        + f" The damaged file is kept as {done.kept}; delete it once the run has finished."
    )


def _file(place: Path) -> Path:
    """The journal's file: in this directory, or this file itself."""
    return place if place.is_file() or place.suffix in (".sqlite", ".parquet") else place / "journal.sqlite"


def _existing(place: Path) -> Path:
    path = _file(place)
    if not path.is_file():
        raise StarError(f"There is no file {path}.", "Give a run's directory or a journal's file.")
    return path


def _show(usages: "list[Usage]", title: str, versions: bool = False) -> None:
    """Print one row per stage, endpoint and model, with the sum."""
    table = new_table(
        title,
        Column("stage", no_wrap=True),
        Column("model, endpoint" + ", version" * versions, overflow="fold", min_width=12),
        *(number(name, no_wrap=True) for name in ("answers", "tokens\nin, out", "$", "s each")),
        Column("outcomes", no_wrap=True),
        Column("first, last\n(UTC)", min_width=10),
        show_lines=True,
    )
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
        say(f"{counted(unpriced, 'answer')} without a price, and not in the dollars.")


def _numbers(usages: "list[Usage]") -> tuple[str, str, str]:
    """Answers, tokens in over tokens out, and dollars."""
    costs = [part.cost_usd for part in usages if part.cost_usd is not None]
    answers = sum(part.answers for part in usages)
    tokens_in = sum(part.prompt_tokens for part in usages)
    tokens_out = sum(part.completion_tokens for part in usages)
    return f"{answers:,}", f"{tokens_in:,}\n{tokens_out:,}", f"{sum(costs):,.2f}" if costs else "-"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
