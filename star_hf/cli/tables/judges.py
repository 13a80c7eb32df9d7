"""Tables of `star-hf judge`: judges beside people and beside each other; never a judged text."""

from collections.abc import Sequence

from datasets import Dataset
from rich.text import Text

from ...evaluation.judge_studies.agreement import Agreement, agreement
from ...evaluation.judge_studies.calibration import Calibration, Report
from ...evaluation.judge_studies.sensitivity import Swap, swaps
from ...evaluation.results.statistics import Estimate
from ...utils.formatting import decimal, percent
from .layout import console, new_table, number


__all__ = ["show_agreement", "show_judges", "show_report"]


def show_judges(verdicts: Dataset) -> None:
    """How much each rate depends on the judge, and how far the judges agree; nothing for a single judge."""
    found = swaps(verdicts)
    if found:
        _show_swaps(found)
        judged = {(swap.benchmark, swap.part) for swap in found}
        pairs = zip(verdicts["benchmark"][:], verdicts["part"][:], strict=True)
        show_agreement(agreement(verdicts.select([n for n, pair in enumerate(pairs) if pair in judged])))


def _show_swaps(found: list[Swap]) -> None:
    judges = list(dict.fromkeys(judge for swap in found for judge in swap.rates))
    title = "The same texts under each judge: desired outcomes, in percent of the texts that all judged"
    table = new_table(title, "benchmark, part", *map(number, ("texts", *judges, "spread")))
    for swap in found:
        rates = (percent(swap.rates.get(judge)) for judge in judges)
        place = Text(f"{swap.benchmark}, {swap.part}")
        table.add_row(place, f"{swap.texts} of {swap.of}", *rates, percent(swap.spread))
    console.print(table)


def show_report(report: Report) -> None:
    """One column for each judge: precision, recall, accuracy, F1 and the counts behind them."""
    bad = "unsafe" if report.kind == "safety" else "refused"
    title = f"Judges compared with people, who call {report.bad} of {report.answers} answers {bad}"
    table = new_table(title, "", *map(number, [judge.judge for judge in report.judges]))
    for name in ("precision", "recall", "accuracy"):
        rates = (_estimate(getattr(judge, name)) for judge in report.judges)
        table.add_row(f"{name} %\n95 % interval", *rates)
    table.add_row("F1 %", *(percent(judge.f1) for judge in report.judges))
    table.add_row("kappa", *(decimal(judge.kappa) for judge in report.judges))
    table.add_row(f"{bad} %: people", *(_estimate(judge.bad) for judge in report.judges))
    table.add_row(f"{bad} %: judge", *(_estimate(judge.found) for judge in report.judges), end_section=True)
    for name in ("true_positives", "false_positives", "false_negatives", "true_negatives"):
        table.add_row(name.replace("_", " "), *(str(getattr(judge, name)) for judge in report.judges))
    table.add_row("no verdict", *(_counts(judge.failures) for judge in report.judges), end_section=True)
    if any(judge.brier is not None for judge in report.judges):
        table.add_row("Brier", *(decimal(judge.brier) for judge in report.judges))
        table.add_row("calibration error", *(decimal(judge.calibration_error) for judge in report.judges))
    console.print(table)
    console.print(f"A positive is an answer called {bad}. Answers without a verdict are part of no other number.")
    if report.by_model:
        _show_models(report.by_model, bad)


def _show_models(found: Sequence[Calibration], bad: str) -> None:
    """Each judge on each model: an error that depends on the model cannot be told from a gap between two models."""
    columns = ("judged", "no verdict", "F1 %", "kappa", f"{bad} %: people", "judge", "difference")
    table = new_table("By model", "model", "judge", *map(number, columns))
    for each in found:
        gap = None if each.judged == 0 else each.found.value - each.bad.value
        rates = (percent(each.bad.value), percent(each.found.value), percent(gap, sign=True))
        failed = str(sum(each.failures.values()))
        numbers = (str(each.judged), failed, percent(each.f1), decimal(each.kappa), *rates)
        table.add_row(Text(each.model or ""), Text(each.judge), *numbers)
    console.print(table)


def show_agreement(found: Sequence[Agreement]) -> None:
    """Kappa of each two judges, and of all; nothing for a single judge."""
    if not found:
        return
    table = new_table(
        "Judges compared with each other", "part", "judges", *map(number, ("texts", "agreed %", "kappa"))
    )
    for each in found:
        names = Text(", ".join(each.judges))
        table.add_row(each.part, names, str(each.texts), percent(each.agreed), decimal(each.kappa))
    console.print(table)


def _estimate(estimate: Estimate) -> str:
    """A rate in percent, and its interval below."""
    return "-" if estimate.value is None else f"{percent(estimate.value)}\n{estimate.interval()}"


def _counts(failures: dict[str, int]) -> str:
    return "\n".join(f"{count} {name}" for name, count in failures.items()) or "0"
