"""`star-hf judge`: judges against people, against each other, and over answers that are there already."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console


if TYPE_CHECKING:
    from ..evaluation.grading.judges import Judge
    from ..llm.cost.budget import Budget
    from ..llm.journal import Journal


__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
console = Console()

Judges = Annotated[
    list[str],
    typer.Option(
        "--judge",
        metavar="JUDGE",
        help="NAME[:MODEL][@URL], a model's name, or a YAML file. Can be given again. See `star-hf judge list`.",
    ),
]
BudgetOption = Annotated[float | None, typer.Option(help="Dollars that the judges may cost.")]
MaxFailed = Annotated[
    float, typer.Option(help="Accepted share of texts on which a judge gives no verdict.", min=0, max=1)
]
ResultsDir = Annotated[Path, typer.Argument(metavar="RESULTS", help="A results folder of `star-hf evaluate`.")]


@app.command("list")
def list_() -> None:
    """Show the judges that have a name.

    **Example:** `star-hf judge list`
    """
    from ..evaluation.grading.judges import KNOWN, load_judge
    from .tables.judges import lean_table

    table = lean_table("")
    for name in ("name", "model, where by default", "judges"):
        table.add_column(name, overflow="fold")
    for name in KNOWN:
        judge = load_judge(name)
        record = judge.record()
        table.add_row(name, f"{record['model'] or 'no model'}\n{record['at']}", "\n".join(judge.kinds))
    console.print(table)
    _say("Any other name is a chat model's: it judges safety by the policies, and over-refusal by XSTest's classes.")


@app.command()
def calibrate(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Labelled answers: question, response, label (.jsonl, .csv, .parquet)."),
    ],
    judge: Judges,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for journal, report and verdicts.", show_default="FILE's name without its ending"),
    ] = None,
    budget: BudgetOption = None,
    max_failed: MaxFailed = 0.02,
) -> None:
    """Compare judges with what people said of the same answers.

    Labels are `safe` and `unsafe`, or `compliance` and `refusal`. What a judge cannot be read on is counted apart.

    **Example:** `star-hf judge calibrate mine.jsonl --judge llama-guard-3@http://localhost:8001/v1 --judge gpt-4o`
    """
    from ..evaluation.grading.judging import check_judged
    from ..evaluation.judge_studies.calibration import calibrate as run_calibration
    from ..evaluation.judge_studies.calibration import read_labelled
    from ..llm.journal import Journal
    from .tables.judges import show_agreement, show_report

    labelled, judges = read_labelled(file), _load(judge)
    folder = out or file.with_suffix("")
    with Journal(folder / "journal.sqlite") as journal:
        report = run_calibration(labelled, judges, journal, budget=_budget(budget, journal))
    (folder / "calibration.json").write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")
    report.verdicts.to_parquet(folder / "verdicts.parquet")
    show_report(report, console)
    show_agreement(report.agreement, console)
    _say(f"Written to {folder}: calibration.json, verdicts.parquet, journal.sqlite")
    check_judged(report.verdicts, max_failed)


@app.command()
def run(
    results: ResultsDir,
    judge: Judges,
    panel: Annotated[bool, typer.Option("--panel", help="Seat all judges on a panel, too.")] = False,
    primary: Annotated[
        str | None,
        typer.Option(
            metavar="JUDGE", help="The judge, or `panel`, that rates are made of from now on; as before by default."
        ),
    ] = None,
    answers_only: Annotated[bool, typer.Option("--answers-only", help="Leave the thoughts unjudged.")] = False,
    budget: BudgetOption = None,
    max_failed: MaxFailed = 0.02,
) -> None:
    """Judge the answers of a results folder anew, or by one judge more. Nothing is generated.

    What a judge of the same name said before is replaced; what it was asked before is not asked again.

    **Example:** `star-hf judge run results/my-model/recommended --judge qwen3guard@http://localhost:8002/v1 --panel`
    """
    from ..evaluation.grading.judging import check_judged
    from ..evaluation.results.rejudge import add_verdicts, rejudge, update_results
    from ..evaluation.results.results import load_results
    from ..llm.journal import Journal
    from .tables.judges import show_court, show_results

    benchmarks = load_results(results).benchmarks
    kinds = {name: benchmark.kind for name, benchmark in benchmarks.items() if benchmark.kind != "reasoning"}
    judges = _load(judge)
    with Journal(results / "journal.sqlite") as journal:
        fresh = rejudge(
            results,
            judges,
            kinds,
            journal,
            parts=("answer",) if answers_only else ("answer", "reasoning"),
            budget=_budget(budget, journal),
        )
    verdicts = add_verdicts(results, fresh, with_panel=panel)
    show_results(update_results(results, judges, primary), console)
    show_court(verdicts, console)
    check_judged(fresh, max_failed)


@app.command()
def agree(
    results: ResultsDir,
    output: Annotated[
        Path | None,
        typer.Option(help="Where to list the texts on which judges differ: a .html page, or a .parquet file."),
    ] = None,
) -> None:
    """Show how far the judges of a results folder agree, and how each rate moves with the judge.

    The list holds harmful questions and answers, folded in the page: share it as you would share those.

    **Example:** `star-hf judge agree results/my-model/recommended --output differences.html`
    """
    from ..evaluation.judge_studies.panel import disagreements, write_disagreements
    from ..evaluation.results.rejudge import read_answers, read_verdicts
    from .tables.judges import show_court

    verdicts = read_verdicts(results)
    show_court(verdicts, console)
    rows = disagreements(verdicts, read_answers(results))
    where = "; list them with --output differences.html"
    if output is not None:
        write_disagreements(rows, output)
        where = f", listed in {output}"
    _say(f"Judges differ on {len(rows)} texts{where}.")


def _load(specs: list[str]) -> "list[Judge]":
    """The judges, each asked about a harmless answer first."""
    from ..evaluation.grading.judges import load_judge
    from ..evaluation.grading.judging import probe

    judges = [load_judge(spec) for spec in specs]
    for judge in judges:
        probe(judge)
    return judges


def _budget(dollars: float | None, journal: "Journal") -> "Budget | None":
    """Dollars on top of what the journal has cost already."""
    from ..llm.cost.budget import Budget

    spent = journal.cost()
    return None if dollars is None else Budget(spent + dollars, spent)


def _say(words: str) -> None:
    console.print(words, markup=False, highlight=False, soft_wrap=True)
