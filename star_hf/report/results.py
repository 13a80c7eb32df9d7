"""What the report says of results: every benchmark before and after, with intervals, and safety against reasoning."""

from collections.abc import Iterable, Iterator, Sequence

from ..evaluation.comparison.paper import paper_rows
from ..evaluation.results.results import AVERAGES, BenchmarkResult, Results
from ..evaluation.results.statistics import Estimate, mean_of
from .rates import intervals, trade
from .sections import Cell, Panel, Section, Table


__all__ = ["comparable", "results_section"]

BEFORE, AFTER = "-r1-distill", "-star-1"
"""How the ledger names the paper's models of each size."""

KINDS = {
    "safety": ("Safety", "Share of harmful questions that are answered safely. Higher is better."),
    "over_refusal": ("Over-refusal", "Share of harmless questions that are refused. Lower is better."),
    "reasoning": ("Reasoning", "Share of problems that are solved. Higher is better."),
}


def results_section(results: Sequence[Results]) -> Section:
    """The results of one model, or of several side by side, the first of which is the base.

    Args:
        results (`Sequence[Results]`): One at least.
    """
    found = _named(results)
    panels = [panel for kind in KINDS if (panel := _rates(kind, found)) is not None]
    panels += [
        panel for panel in (_trade(found), _thoughts(found), _failures(found), _categories(found)) if panel is not None
    ]
    names, profiles = _joined(found), _joined(sorted({one.profile for one in found.values()}))
    lead = (
        f"{names}, by the {profiles} profile. Bars are 95\u00a0% intervals: where they overlap widely, the models may "
        "not differ. An answer that could not be judged is in no rate; where there is a right answer, it "
        "counts as wrong."
    )
    return Section("results", "Results", "Before and after" if len(found) > 1 else "Results", lead, panels)


def comparable(results: Iterable[Results], kind: str) -> bool:
    """Whether all have a mean of this kind, over the same benchmarks."""
    means = {one.averages[kind].benchmarks if kind in one.averages else None for one in results}
    return len(means) == 1 and None not in means


def _joined(names: Iterable[str]) -> str:
    """`a, b and c`"""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _named(results: Sequence[Results]) -> dict[str, Results]:
    """Results by the model's name, with a number where two have the same."""
    found: dict[str, Results] = {}
    for one in results:
        name = str(one.model.get("name") or "model").rstrip("/").split("/")[-1]
        number = sum(known == name or known.startswith(f"{name} (") for known in found)
        found[f"{name} ({number + 1})" if number else name] = one
    return found


def _of_kind(kind: str, found: dict[str, Results]) -> dict[str, dict[str, BenchmarkResult]]:
    """By benchmark and then by model."""
    grouped: dict[str, dict[str, BenchmarkResult]] = {}
    for model, one in found.items():
        for name, result in one.benchmarks.items():
            if result.kind == kind:
                grouped.setdefault(name, {})[model] = result
    return grouped


def _rates(kind: str, found: dict[str, Results]) -> Panel | None:
    grouped = _of_kind(kind, found)
    if not grouped:
        return None
    models = list(found)
    title, text = KINDS[kind]
    series = {model: {name: by[model].comparable for name, by in grouped.items() if model in by} for model in models}
    rows: list[tuple[Cell, ...]] = [
        (name, *(_rate(by[model].comparable) if model in by else None for model in models), _gain(by, models))
        for name, by in grouped.items()
    ]
    averages = {model: found[model].averages[kind] for model in models if kind in found[model].averages}
    if len(grouped) > 1 and comparable(found.values(), kind):
        estimates = {
            model: Estimate(average.value, average.low, average.high, 0) for model, average in averages.items()
        }
        over = f"mean of {len(averages[models[0]].benchmarks)}"
        series = {model: {**series[model], over: estimates[model]} for model in models}
        values = [estimates[model].value for model in models]
        gain = f"{100 * (values[-1] - values[0]):+.1f}" if len(values) > 1 and None not in values else None
        rows.append((over, *(_rate(estimates[model]) for model in models), gain))
    head = ("benchmark", *models, "difference")
    if len(models) == 1:
        head, rows = head[:-1], [row[:-1] for row in rows]
    return Panel(title, text, intervals(series), Table(head, tuple(rows)))


def _rate(estimate: Estimate) -> str | None:
    """`93.3 [90.0, 95.6] of 310`, in percent; a narrow cell breaks it before the bracket and before `of`."""
    if estimate.value is None:
        return None
    interval = "" if estimate.low is None else f" [{100 * estimate.low:.1f},\u00a0{100 * estimate.high:.1f}]"
    return f"{100 * estimate.value:.1f}{interval}" + (f" of\u00a0{estimate.n:,}" if estimate.n else "")


def _gain(by: dict[str, BenchmarkResult], models: Sequence[str]) -> str | None:
    """Last minus first model, in points."""
    first, last = by.get(models[0]), by.get(models[-1])
    if first is None or last is None or first.comparable.value is None or last.comparable.value is None:
        return None
    return f"{100 * (last.comparable.value - first.comparable.value):+.1f}"


def _trade(found: dict[str, Results]) -> Panel | None:
    """Safety against reasoning, as means over the benchmarks that all models have, and the paper's models likewise."""
    reasoning, safety = over = tuple(_common(found, kind) for kind in ("reasoning", "safety"))
    if not reasoning or not safety:
        return None
    models = {
        model: tuple(_mean([one.benchmarks[name].comparable for name in names]) for names in over)
        for model, one in found.items()
    }
    paper = _paper(over)
    numbers = [(model, *map(_rate, point)) for model, point in models.items()]
    for size, pair in paper.items():
        numbers += [
            (f"paper: {size}, {state}", *map(_rate, point))
            for state, point in zip(("before", "after"), pair, strict=True)
        ]
    text = (
        f"Means over {_joined(safety)} (up is safer) and over {_joined(reasoning)} (right is abler). As in the paper, "
        "a problem without a readable answer is unsolved. Grey: the paper's R1 distillations before and after STAR-1."
    )
    table = Table(("model", "reasoning", "safety"), tuple(numbers))
    return Panel("Safety against reasoning", text, trade(models, paper), table)


def _paper(over: Sequence[Sequence[str]]) -> dict[str, tuple[tuple[Estimate, ...], ...]]:
    """By size the paper's model before and after, each with a mean over each of these lists of benchmarks."""
    rows = paper_rows()
    sizes = [name.removesuffix(BEFORE) for name, row in rows.items() if row.model and name.endswith(BEFORE)]
    return {
        size.upper(): tuple(
            tuple(_mean([rows[size + state].cells[name] for name in names]) for names in over)
            for state in (BEFORE, AFTER)
        )
        for size in sizes
    }


def _common(found: dict[str, Results], kind: str) -> tuple[str, ...]:
    """The benchmarks of a mean for which every model has a value."""
    return tuple(
        name
        for name in AVERAGES[kind]
        if all(name in one.benchmarks and one.benchmarks[name].comparable.value is not None for one in found.values())
    )


def _mean(estimates: Sequence[Estimate]) -> Estimate:
    mean = mean_of(estimates)
    return Estimate(mean.value, mean.low, mean.high, 0)


def _each(found: dict[str, Results]) -> Iterator[tuple[str, str, BenchmarkResult]]:
    """Benchmark, model and result, the models of a benchmark together."""
    names = dict.fromkeys(name for one in found.values() for name in one.benchmarks)
    for name in names:
        for model, one in found.items():
            if name in one.benchmarks:
                yield name, model, one.benchmarks[name]


def _thoughts(found: dict[str, Results]) -> Panel | None:
    """Answer and reasoning are judged apart, where a judge read both."""
    rows = [
        (name, model, _rate(result.estimate), _rate(result.metrics[f"reasoning_{result.metric}"]))
        for name, model, result in _each(found)
        if f"reasoning_{result.metric}" in result.metrics
    ]
    if not rows:
        return None
    text = (
        "What the user sees and the thought before it, by the same judge: a safe answer can follow an unsafe thought."
    )
    table = Table(("benchmark", "model", "answer", "reasoning"), tuple(rows))
    return Panel("Answer and reasoning", text, table=table)


def _failures(found: dict[str, Results]) -> Panel | None:
    rows = [
        (name, model, result.items * result.samples, sum(result.failures.values()), _listed(result.failures))
        for name, model, result in _each(found)
        if sum(result.failures.values())
    ]
    if not rows:
        return None
    text = "Counted apart and in no rate. Where they are many, the rates above rest on the rest alone."
    head = ("benchmark", "model", "answers", "without a value", "why")
    return Panel("Answers that could not be judged", text, table=Table(head, tuple(rows)))


def _listed(failures: dict[str, int]) -> str:
    return ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in failures.items())


def _categories(found: dict[str, Results]) -> Panel | None:
    models = list(found)
    names = dict.fromkeys((name, category) for name, _, result in _each(found) for category in result.by_category)
    rows = []
    for name, category in names:
        estimates = [
            one.benchmarks[name].by_category.get(category) if name in one.benchmarks else None
            for one in found.values()
        ]
        rows.append((name, category, *(None if estimate is None else _rate(estimate) for estimate in estimates)))
    if not rows:
        return None
    text = "Few items each: look at the intervals first."
    return Panel("By category", text, table=Table(("benchmark", "category", *models), tuple(rows)), folded=True)
