"""From answers and verdicts to rates with intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset

from ..tasks.benchmarks import Benchmark, benchmark_named, place_of
from .results import AVERAGES, METRICS, STRICT, Average, BenchmarkResult, Results
from .scores import item_values, scored_responses, strict_values
from .statistics import Estimate, mean_of, pass_at_k, rate, wilson


__all__ = ["summarise"]


def summarise(
    answers: Dataset,
    verdicts: Dataset,
    *,
    model: Mapping[str, Any],
    profile: str,
    generation: Mapping[str, Any],
    judges: Sequence[Mapping[str, Any]],
    data: Mapping[str, Mapping[str, str]],
    primary: Mapping[str, str] | None = None,
) -> Results:
    """Compute results from answers and verdicts. Failures are counted and part of no rate.

    Args:
        answers, verdicts ([`~datasets.Dataset`]): As `RESPONSES` and `VERDICTS`, of any benchmarks.
        model, profile, generation, judges: As in [`Results`].
        data (`dict[str, dict]`): Per benchmark, as `tasks.loading.data_record` makes it.
        primary (`dict[str, str]`, *optional*): The judge behind `value`, per benchmark. By default the first that
            judged it; the rates of the others are in `metrics`.
    """
    columns = ["benchmark", "item_id", "sample", "category", "failure"]
    given = dict(list(answers.select_columns(columns).to_pandas().groupby("benchmark")))
    judged = verdicts.select_columns([*columns, "judge", "part", "value"]).to_pandas()
    found = {
        name: _measure(
            benchmark,
            given[name],
            judged[judged["benchmark"] == name],
            (primary or {}).get(name),
            data.get(name, {}),
        )
        for name in sorted(given, key=place_of)
        if (benchmark := benchmark_named(name)) is not None
    }
    return Results(
        model=dict(model),
        profile=profile,
        generation=dict(generation),
        judges=[dict(judge) for judge in judges],
        benchmarks=found,
        averages=_averages(found),
    )


def _measure(
    benchmark: Benchmark, answers: pd.DataFrame, verdicts: pd.DataFrame, judge: str | None, data: Mapping[str, str]
) -> BenchmarkResult:
    judges = list(verdicts.loc[verdicts["part"] == "answer", "judge"].unique())
    judge = judge or (judges[0] if judges else None)
    rows = scored_responses(answers, verdicts, {benchmark.name: judge})
    metric = METRICS[benchmark.kind]
    estimate = _estimate(rows, benchmark)
    metrics = {
        f"{metric}/{other}": _estimate(scored_responses(answers, verdicts, {benchmark.name: other}), benchmark)
        for other in judges
        if other != judge
    }
    if benchmark.kind == "reasoning":
        metrics[STRICT] = rate(item_values(rows, strict=True).to_numpy())
        metrics |= _passes(rows)
    elif ((verdicts["part"] == "reasoning") & (verdicts["judge"] == judge)).any():
        judged = scored_responses(answers, verdicts, {benchmark.name: judge}, "reasoning")
        metrics[f"reasoning_{metric}"] = _estimate(judged, benchmark)
    return BenchmarkResult(
        kind=benchmark.kind,
        metric=metric,
        judge=judge,
        part="answer",
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        n=estimate.n,
        items=int(rows["item_id"].nunique()),
        samples=int(rows.groupby("item_id").size().max()),
        failures={name: int(count) for name, count in rows["failure"].value_counts().sort_index().items()},
        by_category=_by_category(rows, benchmark),
        metrics=metrics,
        data=dict(data),
    )


def _estimate(rows: pd.DataFrame, benchmark: Benchmark) -> Estimate:
    """The rate over items. A value of 1 is the desired outcome, so that a rate of refusals is its complement."""
    return _rate(item_values(rows).to_numpy(), benchmark)


def _by_category(rows: pd.DataFrame, benchmark: Benchmark) -> dict[str, Estimate]:
    values, items = item_values(rows), rows.dropna(subset="category").drop_duplicates("item_id")
    of = dict(zip(items["item_id"], items["category"], strict=True))
    groups = {name: part.to_numpy() for name, part in values.groupby(values.index.get_level_values(1).map(of.get))}
    return {name: _rate(groups.get(name, np.empty(0)), benchmark) for name in sorted(set(of.values()))}


def _rate(values: np.ndarray, benchmark: Benchmark) -> Estimate:
    if benchmark.kind == "policy":
        return wilson(float(values.sum()), values.size)
    estimate = rate(values)
    return estimate.complement() if benchmark.kind == "over_refusal" else estimate


def _passes(rows: pd.DataFrame) -> dict[str, Estimate]:
    """pass@k for k = 2, 4, 8 ... up to the samples that every item has; failures of the model itself are wrong."""
    counts = strict_values(rows).groupby(rows["item_id"]).agg(["count", "sum"]).query("count > 0")
    most = 0 if counts.empty else int(counts["count"].min())
    powers = (2**n for n in range(1, most.bit_length()))
    return {f"pass@{k}": rate(pass_at_k(counts["count"], counts["sum"], k)) for k in powers}


def _averages(found: Mapping[str, BenchmarkResult]) -> dict[str, Average]:
    averages = {}
    for kind, names in AVERAGES.items():
        if there := tuple(name for name in names if name in found):
            mean = mean_of([found[name].comparable for name in there])
            averages[kind] = Average(mean.value, mean.low, mean.high, there)
    return averages
