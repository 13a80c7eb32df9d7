"""What `star-hf judge` shows: rates, judges beside people and beside each other; never a text that was judged."""

from collections.abc import Sequence

from datasets import Dataset
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...evaluation.judge_studies.calibration import Report
from ...evaluation.judge_studies.panel import Agreement, agreement
from ...evaluation.judge_studies.sensitivity import Swap, swaps
from ...evaluation.results.results import Results
from ...evaluation.results.statistics import Estimate


__all__ = ["lean_table", "show_agreement", "show_court", "show_report", "show_results"]


def show_results(results: Results, console: Console) -> None:
    """The rates as `results.json` has them now, with each other judge's beside them."""
    table = lean_table("Rates, as results.json has them now")
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


def show_court(verdicts: Dataset, console: Console) -> None:
    """How each rate moves with the judge, and how far the judges agree where there are several."""
    found = swaps(verdicts)
    if found:
        _show_swaps(found, console)
        judged = {(swap.benchmark, swap.part) for swap in found}
        pairs = zip(verdicts["benchmark"][:], verdicts["part"][:], strict=True)
        show_agreement(agreement(verdicts.select([n for n, pair in enumerate(pairs) if pair in judged])), console)


def _show_swaps(found: list[Swap], console: Console) -> None:
    judges = list(dict.fromkeys(judge for swap in found for judge in swap.rates))
    table = lean_table("One judge after the other: texts as one wants them, in percent of those that all judged")
    table.add_column("benchmark, part")
    for name in ("texts", *judges, "spread"):
        table.add_column(Text(name), justify="right", overflow="fold")
    for swap in found:
        rates = (_rate(swap.rates.get(judge)) for judge in judges)
        place = Text(f"{swap.benchmark}, {swap.part}")
        table.add_row(place, f"{swap.texts} of {swap.of}", *rates, _rate(swap.spread))
    console.print(table)


def show_report(report: Report, console: Console) -> None:
    """One column for each judge: precision, recall, accuracy, F1 and the counts behind them."""
    bad = "unsafe" if report.kind == "safety" else "refused"
    table = lean_table(f"Judges against people, who call {report.bad} of {report.answers} answers {bad}")
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
    console.print(f"A hit is an answer that both call {bad}. What has no verdict is in no other number.")


def show_agreement(found: Sequence[Agreement], console: Console) -> None:
    """Kappa of each two judges, and of all; nothing for a single judge."""
    if not found:
        return
    table = lean_table("Judges against each other")
    table.add_column("part")
    table.add_column("judges", overflow="fold")
    for name in ("texts", "agreed %", "kappa"):
        table.add_column(name, justify="right")
    for each in found:
        names = Text(", ".join(each.judges))
        table.add_row(each.part, names, str(each.texts), _rate(each.agreed), _decimal(each.kappa))
    console.print(table)


def lean_table(title: str) -> Table:
    """A table that leaves its width to what is in it."""
    return Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))


def _estimate(estimate: Estimate) -> str:
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
