"""Results on a terminal: each rate with its interval and failures."""

from rich.table import Table

from ...evaluation.results.results import STRICT, BenchmarkResult, Results
from ...evaluation.results.statistics import Estimate
from .layout import console, new_table, number, say


__all__ = ["show_results"]

NAMES = {"safe_rate": "safe", "over_refusal_rate": "refused", "accuracy": "right", "pass_rate": "passed"}
NUMBERS = ("value", "95 % interval", "items")


def show_results(results: Results) -> None:
    """Print the rates of each benchmark, those of its categories, and the averages."""
    console.print(_rates(results))
    categories = new_table("By category", "benchmark", "category", *map(number, NUMBERS))
    for name, result in results.benchmarks.items():
        if len(result.by_category) > 1:
            for category, estimate in result.by_category.items():
                categories.add_row(name, category, *_numbers(estimate), str(estimate.n))
    if categories.row_count:
        console.print(categories)
    for name, result in results.benchmarks.items():
        if result.failures:
            no_rate = f"no rate but {STRICT}" if result.kind == "reasoning" else "no rate"
            say(f"{name}: {result.reasons}; they are part of {no_rate}.")


def _rates(results: Results) -> Table:
    title = f"{results.model['name']}, profile {results.profile}, in percent"
    table = new_table(title, "benchmark", "what", "by", *map(number, (*NUMBERS, "failed")))
    for name, result in results.benchmarks.items():
        table.add_row(*_row(name, result), end_section=not result.metrics)
        for metric, estimate in result.metrics.items():
            of = f"{estimate.n} of {result.items}"
            table.add_row("", metric, "", *_numbers(estimate), of, "", style="dim")
    table.add_section()
    for kind, average in results.averages.items():
        what = f"of {len(average.benchmarks)}" + (f", {STRICT}" if kind == "reasoning" else "")
        table.add_row(f"mean {kind}", what, "", *_numbers(average.estimate), "", "", style="bold")
    return table


def _row(name: str, result: BenchmarkResult) -> tuple[str, ...]:
    return (
        name,
        NAMES.get(result.metric, result.metric),
        result.judge or "-",
        *_numbers(result.estimate),
        f"{result.n} of {result.items}",
        str(sum(result.failures.values())),
    )


def _numbers(estimate: Estimate) -> tuple[str, str]:
    return estimate.percent(interval=False), estimate.interval()
