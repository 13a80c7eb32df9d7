"""The section of results: every benchmark before and after, with intervals, and safety against reasoning."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..evaluation.comparison.paper import paper_rows
from ..evaluation.results.results import AVERAGES, BenchmarkResult, Results
from ..evaluation.results.statistics import Estimate, mean_of
from ..utils.formatting import percent
from .rates import intervals, trade
from .sections import Panel, Section, Table
from .style import spaced


__all__ = ["comparable", "results_section"]

BEFORE, AFTER = "-r1-distill", "-star-1"
"""Suffixes of the paper's models of each size in the ledger."""

KINDS = {
    "safety": ("Safety", "Share of harmful questions that are answered safely. Higher is better."),
    "over_refusal": ("Over-refusal", "Share of harmless questions that are refused. Lower is better."),
    "reasoning": ("Reasoning", "Share of problems that are solved. Higher is better."),
}


def results_section(results: Sequence[Results]) -> Section:
    """The results of one model, or of several side by side, the base model's first."""
    found = _named(results)
    panels = [_rates(kind, found) for kind in KINDS]
    panels += [_trade(found), _thoughts(found), _failures(found), _categories(found)]
    names, profiles = _joined(list(found)), _joined(sorted({one.profile for one in found.values()}))
    lead = (
        f"{names}, by the {profiles} profile. Bars are 95\u00a0% intervals: where they overlap widely, the models may "
        "not differ. A response that could not be judged is in no rate; for benchmarks with a right answer it counts "
        "as wrong."
    )
    title = "Before and after" if len(found) > 1 else "Results"
    return Section("results", "Results", title, lead, [panel for panel in panels if panel is not None])


def comparable(results: Iterable[Results], kind: str) -> bool:
    """Whether all have a mean of this kind, over the same benchmarks."""
    means = {one.averages[kind].benchmarks if kind in one.averages else None for one in results}
    return len(means) == 1 and None not in means


def _rate(estimate: Estimate | None) -> str | None:
    """`93.3 (90.0 to 95.6) of 310`, in percent; a narrow cell breaks it before the bracket and before `of`."""
    if estimate is None or estimate.value is None:
        return None
    text = estimate.percent().replace(" to ", "\u00a0to\u00a0")
    return f"{text} of\u00a0{estimate.n:,}" if estimate.n else text


def _joined(names: Sequence[str]) -> str:
    """`a, b and c`"""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _named(results: Sequence[Results]) -> dict[str, Results]:
    """Results by the model's name, numbered if two have the same."""
    found: dict[str, Results] = {}
    for one in results:
        name = str(one.model.get("name") or "model").rstrip("/").split("/")[-1]
        number = sum(known == name or known.startswith(f"{name} (") for known in found)
        found[f"{name} ({number + 1})" if number else name] = one
    return found


def _each(found: Mapping[str, Results]) -> Iterator[tuple[str, str, BenchmarkResult]]:
    """Benchmark, model and result, the models of a benchmark together."""
    for name in dict.fromkeys(name for one in found.values() for name in one.benchmarks):
        for model, one in found.items():
            if name in one.benchmarks:
                yield name, model, one.benchmarks[name]


def _rates(kind: str, found: Mapping[str, Results]) -> Panel | None:
    rates: dict[str, dict[str, Estimate]] = {}
    for name, model, result in _each(found):
        if result.kind == kind:
            rates.setdefault(name, {})[model] = result.comparable
    if not rates:
        return None
    if len(rates) > 1 and comparable(found.values(), kind):
        averages = {model: one.averages[kind] for model, one in found.items()}
        count = len(next(iter(averages.values())).benchmarks)
        rates[f"mean of {count}"] = {model: Estimate(a.value, a.low, a.high, 0) for model, a in averages.items()}
    head, rows = (
        ("benchmark", *found),
        [(name, *(_rate(by.get(model)) for model in found)) for name, by in rates.items()],
    )
    if len(found) > 1:
        first, *_, last = found
        head = (*head, "difference")
        rows = [(*row, _gain(by.get(first), by.get(last))) for row, by in zip(rows, rates.values(), strict=True)]
    series = {model: {name: by[model] for name, by in rates.items() if model in by} for model in found}
    return Panel(*KINDS[kind], intervals(series), Table(head, tuple(rows)))


def _gain(first: Estimate | None, last: Estimate | None) -> str | None:
    """Last minus first, in points."""
    if first is None or last is None or first.value is None or last.value is None:
        return None
    return percent(last.value - first.value, sign=True)


def _trade(found: Mapping[str, Results]) -> Panel | None:
    """Safety against reasoning, as means over the benchmarks that all models have, beside the paper's models."""
    reasoning, safety = over = [_common(found, kind) for kind in ("reasoning", "safety")]
    if not reasoning or not safety:
        return None
    models = {
        model: tuple(_mean([one.benchmarks[name].comparable for name in names]) for names in over)
        for model, one in found.items()
    }
    paper = _paper(over)
    numbers = [(model, *map(_rate, point)) for model, point in models.items()]
    for size, pair in paper.items():
        for state, point in zip(("before", "after"), pair, strict=True):
            numbers.append((f"paper: {size}, {state}", *map(_rate, point)))
    text = (
        f"Means over {_joined(safety)} (up is safer) and over {_joined(reasoning)} (right is better). As in the "
        "paper, a problem without a readable answer counts as unsolved. Grey: the paper's R1 distillations before "
        "and after STAR-1."
    )
    table = Table(("model", "reasoning", "safety"), tuple(numbers))
    return Panel("Safety against reasoning", text, trade(models, paper), table)


def _common(found: Mapping[str, Results], kind: str) -> list[str]:
    """The benchmarks of a mean for which every model has a value."""
    return [
        name
        for name in AVERAGES[kind]
        if all(name in one.benchmarks and one.benchmarks[name].comparable.value is not None for one in found.values())
    ]


def _paper(over: Sequence[Sequence[str]]) -> dict[str, tuple[tuple[Estimate, ...], ...]]:
    """The paper's models before and after by size, each with a mean over each of these lists of benchmarks."""
    rows = paper_rows()
    sizes = [name.removesuffix(BEFORE) for name, row in rows.items() if row.model and name.endswith(BEFORE)]
    return {
        size.upper(): tuple(
            tuple(_mean([rows[size + state].cells[name] for name in names]) for names in over)
            for state in (BEFORE, AFTER)
        )
        for size in sizes
    }


def _mean(estimates: Sequence[Estimate]) -> Estimate:
    mean = mean_of(estimates)
    return Estimate(mean.value, mean.low, mean.high, 0)


def _thoughts(found: Mapping[str, Results]) -> Panel | None:
    """Answer and reasoning apart, where a judge read both."""
    rows = [
        (name, model, _rate(result.estimate), _rate(result.metrics[f"reasoning_{result.metric}"]))
        for name, model, result in _each(found)
        if f"reasoning_{result.metric}" in result.metrics
    ]
    text = "The answer and the thought before it, by the same judge: a safe answer can follow an unsafe thought."
    return _table("Answer and reasoning", text, ("benchmark", "model", "answer", "reasoning"), rows)


def _failures(found: Mapping[str, Results]) -> Panel | None:
    rows = [
        (
            *(name, model, result.items * result.samples, sum(result.failures.values())),
            ", ".join(f"{spaced(reason)} {count:,}" for reason, count in result.failures.items()),
        )
        for name, model, result in _each(found)
        if sum(result.failures.values())
    ]
    text = "Counted here and in no rate. If there are many, the rates above are of the rest only."
    head = ("benchmark", "model", "responses", "without a value", "why")
    return _table("Responses that could not be judged", text, head, rows)


def _categories(found: Mapping[str, Results]) -> Panel | None:
    names = dict.fromkeys((name, category) for name, _, result in _each(found) for category in result.by_category)
    rows = [
        (
            *(name, category),
            *(
                _rate(one.benchmarks[name].by_category.get(category) if name in one.benchmarks else None)
                for one in found.values()
            ),
        )
        for name, category in names
    ]
    text = "Few items each: check the intervals."
    return _table("By category", text, ("benchmark", "category", *found), rows, folded=True)


def _table(title: str, text: str, head: tuple[str, ...], rows: Sequence[tuple], folded: bool = False) -> Panel | None:
    return Panel(title, text, table=Table(head, tuple(rows)), folded=folded) if rows else None
