"""`star-hf judge`: judges compared with people and with each other, and applied to existing answers."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .tables.layout import console, new_table, say


if TYPE_CHECKING:
    from ..evaluation.grading.judges import Judge


__all__ = ["app"]

app = typer.Typer(
    name="judge",
    help="Compare judges with people and with each other, and judge responses again.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

Judges = Annotated[
    list[str],
    typer.Option(
        "--judge",
        metavar="JUDGE",
        help="NAME[:MODEL][@URL], a model's name, or a YAML file. Can be repeated. See `star-hf judge list`.",
    ),
]
BudgetOption = Annotated[float | None, typer.Option(help="Maximum cost of the judges in dollars.")]
MaxFailed = Annotated[float, typer.Option(help="Accepted share of texts without a verdict, per judge.", min=0, max=1)]
ResultsDir = Annotated[Path, typer.Argument(metavar="RESULTS", help="A results folder of `star-hf evaluate`.")]


@app.command("list")
def list_() -> None:
    """List the judges known by name.

    **Example:** `star-hf judge list`
    """
    from ..evaluation.grading.judges import KNOWN, load_judge

    table = new_table("", "name", "default model and server", "judges")
    for name in KNOWN:
        judge = load_judge(name)
        record = judge.record()
        table.add_row(name, f"{record['model'] or 'no model'}\n{record['at']}", "\n".join(judge.kinds))
    console.print(table)
    say("Any other name is a chat model: it judges safety by the policies, over-refusal as XSTest does.")


@app.command()
def calibrate(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Labelled responses: question, response, label, or XSTest's own files (.jsonl, .csv, .parquet).",
        ),
    ],
    judge: Judges,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder for journal, report and verdicts.", show_default="the first FILE without its extension"
        ),
    ] = None,
    budget: BudgetOption = None,
    max_failed: MaxFailed = 0.02,
) -> None:
    """Compare judges with people's labels of the same responses.

    Labels are `safe` and `unsafe`, or `compliance` and `refusal`. Responses without a verdict are counted separately.
    With several files, or a column `model`, each model gets numbers of its own.

    **Example:** `star-hf judge calibrate mine.jsonl --judge llama-guard-3@http://localhost:8001/v1 --judge gpt-4o`
    """
    from ..evaluation.grading.judging import check_judged
    from ..evaluation.judge_studies.calibration import calibrate as run_calibration
    from ..evaluation.judge_studies.calibration import read_labelled
    from ..llm.cost.budget import Budget
    from ..llm.journal.repair import guarded
    from ..utils.files import locked, write_json, write_table
    from .tables.judges import show_agreement, show_report

    labelled, judges = read_labelled(*files), _load(judge)
    folder = out or files[0].with_suffix("")
    with locked(folder), guarded(folder / "journal.sqlite") as journal:
        limit = None if budget is None else Budget(journal.cost() + budget, journal.cost())
        report = run_calibration(labelled, judges, journal, budget=limit)
        write_json(folder / "calibration.json", report.to_dict())
        write_table(report.verdicts, folder / "verdicts.parquet")
    show_report(report)
    show_agreement(report.agreement)
    say(f"Written to {folder}: calibration.json, verdicts.parquet, journal.sqlite")
    check_judged(report.verdicts, max_failed)


@app.command()
def run(
    results: ResultsDir,
    judge: Judges,
    panel: Annotated[bool, typer.Option("--panel", help="Add the majority of all judges as one more judge.")] = False,
    primary: Annotated[
        str | None,
        typer.Option(
            metavar="JUDGE",
            help="The judge (or `panel`) that the rates come from, from now on.",
            show_default="the same as before",
        ),
    ] = None,
    answers_only: Annotated[
        bool, typer.Option("--answers-only", help="Judge only the answers, not the reasoning.")
    ] = False,
    budget: BudgetOption = None,
    max_failed: MaxFailed = 0.02,
) -> None:
    """Judge the responses of a results folder again, or with another judge. Nothing is generated.

    Earlier verdicts of a judge with the same name are replaced. Replies in the journal are not asked for again.

    **Example:** `star-hf judge run results/my-model/recommended --judge qwen3guard@http://localhost:8002/v1 --panel`
    """
    from ..evaluation.grading.judging import check_judged
    from ..evaluation.rejudge import rejudge
    from ..evaluation.results.folder import ResultsFolder
    from .tables.judges import show_judges
    from .tables.results import show_results

    folder = ResultsFolder(results)
    _ = folder.results  # an invalid folder is found before a judge is asked
    fresh = rejudge(
        results,
        _load(judge, {benchmark.kind for benchmark in folder.results.benchmarks.values()}),
        parts=("answer",) if answers_only else ("answer", "reasoning"),
        with_panel=panel,
        primary=primary,
        budget_usd=budget,
    )
    show_results(folder.results)
    show_judges(folder.verdicts)
    check_judged(fresh, max_failed)


@app.command()
def agree(
    results: ResultsDir,
    output: Annotated[
        Path | None,
        typer.Option(help="Write the texts on which judges disagree to this .html page or .parquet file."),
    ] = None,
) -> None:
    """Show how often the judges of a results folder agree, and how much each rate depends on the judge.

    The file contains harmful questions and responses, collapsed in the page: share it with care.

    **Example:** `star-hf judge agree results/my-model/recommended --output differences.html`
    """
    from ..evaluation.judge_studies.agreement import disagreements, write_disagreements
    from ..evaluation.results.folder import ResultsFolder
    from .tables.judges import show_judges

    folder = ResultsFolder(results)
    verdicts = folder.verdicts
    show_judges(verdicts)
    rows = disagreements(verdicts, folder.responses)
    where = "; list them with --output differences.html"
    if output is not None:
        write_disagreements(rows, output)
        where = f", listed in {output}"
    say(f"Judges differ on {len(rows)} texts{where}.")


def _load(specs: list[str], kinds: Collection[str] = ("safety", "over_refusal")) -> "list[Judge]":
    """The judges, each checked with harmless answers first, for suites if their kind is among `kinds`."""
    from ..evaluation.grading.judges import load_judge
    from ..evaluation.grading.judging import probe

    judges = [load_judge(spec) for spec in specs]
    for judge in judges:
        probe(judge, kinds)
    return judges
