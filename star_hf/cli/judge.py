"""`star-hf judge`: judges against people, against each other, and over answers that are there already."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console


if TYPE_CHECKING:
    from datasets import Dataset
    from rich.table import Table

    from ..evaluation.calibration import Report
    from ..evaluation.court import Swap
    from ..evaluation.judges import Judge
    from ..evaluation.panel import Agreement
    from ..evaluation.results import Results
    from ..evaluation.statistics import Estimate
    from ..llm.budget import Budget
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
    from ..evaluation.judges import KNOWN, load_judge

    table = _table("")
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
    from ..evaluation.calibration import calibrate as run_calibration
    from ..evaluation.calibration import read_labelled
    from ..evaluation.judge import check_judged
    from ..llm.journal import Journal

    labelled, judges = read_labelled(file), _load(judge)
    folder = out or file.with_suffix("")
    with Journal(folder / "journal.sqlite") as journal:
        report = run_calibration(labelled, judges, journal, budget=_budget(budget, journal))
    (folder / "calibration.json").write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")
    report.verdicts.to_parquet(folder / "verdicts.parquet")
    _show_report(report)
    _show_agreement(report.agreement)
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
    from ..evaluation.judge import check_judged
    from ..evaluation.rejudge import add_verdicts, rejudge, update_results
    from ..evaluation.results import load_results
    from ..llm.journal import Journal

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
    _show_results(update_results(results, judges, primary))
    _show_court(verdicts)
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
    from ..evaluation.panel import disagreements, write_disagreements
    from ..evaluation.rejudge import read_answers, read_verdicts

    verdicts = read_verdicts(results)
    _show_court(verdicts)
    rows = disagreements(verdicts, read_answers(results))
    where = "; list them with --output differences.html"
    if output is not None:
        write_disagreements(rows, output)
        where = f", listed in {output}"
    _say(f"Judges differ on {len(rows)} texts{where}.")


def _load(specs: list[str]) -> "list[Judge]":
    """The judges, each asked about a harmless answer first."""
    from ..evaluation.judge import probe
    from ..evaluation.judges import load_judge

    judges = [load_judge(spec) for spec in specs]
    for judge in judges:
        probe(judge)
    return judges


def _budget(dollars: float | None, journal: "Journal") -> "Budget | None":
    """Dollars on top of what the journal has cost already."""
    from ..llm.budget import Budget

    spent = journal.cost()
    return None if dollars is None else Budget(spent + dollars, spent)


def _show_results(results: "Results") -> None:
    """The rates as `results.json` has them now, with each other judge's beside them."""
    from rich.text import Text

    table = _table("Rates, as results.json has them now")
    for name in ("benchmark", "rate"):
        table.add_column(name, overflow="fold")
    for name in ("%\n95 % interval", "items", "without a value"):
        table.add_column(name, justify="right")
    for name, benchmark in results.benchmarks.items():
        rates = {f"{benchmark.metric}/{benchmark.judge}": benchmark.estimate, **benchmark.metrics}
        for place, (metric, estimate) in enumerate(rates.items()):
            of = f"{estimate.n} of {benchmark.items}"
            failures = "" if place else _counts(benchmark.failures)
            table.add_row("" if place else name, Text(metric), _estimate(estimate), of, failures)
    console.print(table)


def _show_court(verdicts: "Dataset") -> None:
    """How each rate moves with the judge, and how far the judges agree where there are several."""
    from ..evaluation.court import swaps
    from ..evaluation.panel import agreement

    found = swaps(verdicts)
    if found:
        _show_swaps(found)
        judged = {(swap.benchmark, swap.part) for swap in found}
        pairs = zip(verdicts["benchmark"], verdicts["part"], strict=True)
        _show_agreement(agreement(verdicts.select([n for n, pair in enumerate(pairs) if pair in judged])))


def _show_swaps(found: "list[Swap]") -> None:
    from rich.text import Text

    judges = list(dict.fromkeys(judge for swap in found for judge in swap.rates))
    table = _table("One judge after the other, in percent, over the texts that all of them judged")
    table.add_column("benchmark, part")
    for name in ("texts", *judges, "spread"):
        table.add_column(Text(name), justify="right", overflow="fold")
    for swap in found:
        rates = (_rate(swap.rates.get(judge)) for judge in judges)
        place = Text(f"{swap.benchmark}, {swap.part}")
        table.add_row(place, f"{swap.texts} of {swap.of}", *rates, _rate(swap.spread))
    console.print(table)


def _show_report(report: "Report") -> None:
    from rich.text import Text

    bad = "unsafe" if report.kind == "safety" else "refused"
    table = _table(f"Judges against people, who call {report.bad} of {report.answers} answers {bad}")
    table.add_column("")
    for judge in report.judges:
        table.add_column(Text(judge.judge), justify="right", overflow="fold")
    for name in ("precision", "recall", "accuracy"):
        rates = (_estimate(getattr(judge, name)) for judge in report.judges)
        table.add_row(f"{name} %\n95 % interval", *rates)
    table.add_row("F1 %", *(_rate(judge.f1) for judge in report.judges), end_section=True)
    for name in ("hits", "false_alarms", "misses", "passes"):
        table.add_row(name.replace("_", " "), *(str(getattr(judge, name)) for judge in report.judges))
    table.add_row("no verdict", *(_counts(judge.failures) for judge in report.judges), end_section=True)
    if any(judge.brier is not None for judge in report.judges):
        table.add_row("Brier", *(_decimal(judge.brier) for judge in report.judges))
        table.add_row("calibration error", *(_decimal(judge.calibration_error) for judge in report.judges))
    console.print(table)
    _say(f"A hit is an answer that both call {bad}. What has no verdict is in no other number.")


def _show_agreement(found: "Sequence[Agreement]") -> None:
    from rich.text import Text

    if not found:
        return
    table = _table("Judges against each other")
    table.add_column("part")
    table.add_column("judges", overflow="fold")
    for name in ("texts", "agreed %", "kappa"):
        table.add_column(name, justify="right")
    for each in found:
        names = Text(", ".join(each.judges))
        table.add_row(each.part, names, str(each.texts), _rate(each.agreed), _decimal(each.kappa))
    console.print(table)


def _table(title: str) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))


def _estimate(estimate: "Estimate") -> str:
    """A rate in percent and its interval."""
    if estimate.value is None:
        return "-"
    return f"{_rate(estimate.value)}\n{_rate(estimate.low)}-{_rate(estimate.high)}"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _counts(failures: dict[str, int]) -> str:
    return "\n".join(f"{count} {name}" for name, count in failures.items()) or "0"


def _say(words: str) -> None:
    console.print(words, markup=False, highlight=False, soft_wrap=True)
