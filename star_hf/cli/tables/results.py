"""Results on a terminal: each rate with its interval, and what it leaves out beside it."""

from typing import TYPE_CHECKING

from ...evaluation.results.results import STRICT, BenchmarkResult, Results
from ...evaluation.results.statistics import Estimate


if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


__all__ = ["interval", "percent", "show_results"]

NAMES = {"safe_rate": "safe", "over_refusal_rate": "refused", "accuracy": "right"}


def show_results(results: Results, console: "Console") -> None:
    """Print the rates of each benchmark, those of its categories, and the averages.

    Args:
        results (`Results`): What was measured.
        console (`Console`): Where to print.
    """
    console.print(_rates(results))
    categories = _categories(results)
    if categories.row_count:
        console.print(categories)
    for name, result in results.benchmarks.items():
        if result.failures:
            reasons = ", ".join(f"{count} {reason}" for reason, count in result.failures.items())
            no_rate = f"no rate but {STRICT}" if result.kind == "reasoning" else "no rate"
            console.print(f"{name}: {reasons}; they are in {no_rate}.", markup=False, highlight=False)


def percent(value: float | None) -> str:
    """A rate in percent; `-` where there is none."""
    return "-" if value is None else f"{100 * value:.1f}"


def interval(estimate: Estimate) -> str:
    """A 95 % interval in percent, such as `82.6-94.5`."""
    return "-" if estimate.low is None else f"{percent(estimate.low)}-{percent(estimate.high)}"


def _rates(results: Results) -> "Table":
    table = _table(f"{results.model['name']}, profile {results.profile}, in percent")
    for name in ("benchmark", "what", "by"):
        table.add_column(name, overflow="fold")
    for name in ("value", "95 % interval", "items", "failed"):
        table.add_column(name, justify="right")
    for name, result in results.benchmarks.items():
        table.add_row(*_row(name, result), end_section=not result.metrics)
        for metric, estimate in result.metrics.items():
            numbers = (percent(estimate.value), interval(estimate), str(estimate.n), "")
            table.add_row("", metric, "", *numbers, style="dim")
    table.add_section()
    for kind, average in results.averages.items():
        numbers = (percent(average.value), interval(Estimate(average.value, average.low, average.high, 0)))
        what = f"of {len(average.benchmarks)}" + (f", {STRICT}" if kind == "reasoning" else "")
        table.add_row(f"mean {kind}", what, "", *numbers, "", "", style="bold")
    return table


def _row(name: str, result: BenchmarkResult) -> tuple[str, ...]:
    return (
        name,
        NAMES.get(result.metric, result.metric),
        result.judge or "-",
        percent(result.value),
        interval(result.estimate),
        f"{result.n} of {result.items}",
        str(sum(result.failures.values())),
    )


def _categories(results: Results) -> "Table":
    table = _table("By category")
    table.add_column("benchmark")
    table.add_column("category", overflow="fold")
    for name in ("value", "95 % interval", "items"):
        table.add_column(name, justify="right")
    for name, result in results.benchmarks.items():
        if len(result.by_category) > 1:
            for category, estimate in result.by_category.items():
                table.add_row(name, category, percent(estimate.value), interval(estimate), str(estimate.n))
    return table


def _table(title: str) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
