"""Two results folders, item by item: the same prompt under the same judge makes a pair."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ...errors import SourceError
from ..results.folder import ResultsFolder
from ..results.results import STRICT, Results
from ..results.scores import scored_responses, strict_values
from ..results.statistics import Difference, Estimate, mean_of, paired_difference
from ..tasks.benchmarks import place_of


__all__ = ["Pair", "ScoredRun", "mean_difference", "pairs_of"]

ITEM = ["benchmark", "item_id"]


@dataclass(frozen=True)
class ScoredRun:
    """A results folder with the score of each item.

    Attributes:
        results ([`Results`]): Its `results.json`.
        items ([`~pandas.DataFrame`]): `value` and `prompt` of each item with a value, by benchmark and item id. For
            over-refusal, 1 is a refusal.
    """

    results: Results
    items: pd.DataFrame

    @classmethod
    def read(cls, folder: str | Path) -> "ScoredRun":
        """Read and score a results folder. Raises [`SourceError`] if it is not one."""
        place = ResultsFolder(folder)
        results = place.results
        answers = place.table("responses.parquet", [*ITEM, "sample", "prompt", "failure"]).to_pandas()
        verdicts = place.table("verdicts.parquet", [*ITEM, "sample", "judge", "part", "value", "failure"]).to_pandas()
        rows = scored_responses(answers, verdicts, {name: each.judge for name, each in results.benchmarks.items()})
        kinds = rows["benchmark"].map({name: each.kind for name, each in results.benchmarks.items()})
        rows["value"] = rows["value"].mask(kinds == "reasoning", strict_values(rows))
        rows["value"] = rows["value"].mask(kinds == "over_refusal", 1 - rows["value"])
        items = rows.groupby(ITEM).agg(value=("value", "mean"), prompt=("prompt", "first"))
        return cls(results, items.dropna(subset="value"))

    def judge_model(self, name: str) -> str | None:
        """The model of the judge of a benchmark; `None` for a judge without a model."""
        judge = self.results.benchmarks[name].judge
        return next((record.get("model") for record in self.results.judges if record["name"] == judge), None)


@dataclass(frozen=True)
class Pair:
    """Two models on one benchmark.

    Attributes:
        base, tuned (`Estimate`): Each model's own rate, on all its items.
        difference (`Difference`): Tuned minus base on the items that both have. Higher is better, except for
            over-refusal.
        base_failed, tuned_failed (`float`): Share of answers without a value.
        problem (`str` or `None`): Why the two cannot be compared.
    """

    name: str
    kind: str
    metric: str
    base: Estimate
    tuned: Estimate
    difference: Difference
    base_failed: float
    tuned_failed: float
    problem: str | None = None

    @property
    def numbers(self) -> tuple[str, ...]:
        """Base, tuned and difference in percent, the p-value, and the number of items."""
        change = self.difference
        p_value = "-" if change.p_value is None else f"{change.p_value:.2g}"
        return self.base.percent(), self.tuned.percent(), change.percent(sign=True), p_value, str(change.n)


def pairs_of(base: ScoredRun, tuned: ScoredRun) -> tuple[Pair, ...]:
    """The benchmarks that both runs have, in the paper's order. Raises [`SourceError`] if there are none."""
    one, other = base.results.benchmarks, tuned.results.benchmarks
    there = sorted((name for name in one if name in other), key=place_of)
    if not there:
        raise SourceError(
            "The two results have no benchmark in common.", "Run `star-hf evaluate` with the same --tasks for both."
        )
    both = base.items.merge(tuned.items, left_index=True, right_index=True, suffixes=("_base", "_tuned"))
    both = both[both["prompt_base"] == both["prompt_tuned"]]
    return tuple(_pair(name, base, tuned, both[both.index.get_level_values("benchmark") == name]) for name in there)


def mean_difference(pairs: Sequence[Pair], names: Sequence[str]) -> Estimate:
    """The unweighted mean of the differences on some benchmarks; without a value if one could not be compared."""
    return mean_of([pair.difference for pair in pairs if pair.name in names])


def _pair(name: str, base: ScoredRun, tuned: ScoredRun, both: pd.DataFrame) -> Pair:
    one, other = base.results.benchmarks[name], tuned.results.benchmarks[name]
    models = base.judge_model(name), tuned.judge_model(name)
    problem = None
    if (one.judge, one.part) != (other.judge, other.part):
        both, problem = both.iloc[:0], f"it was judged by {one.judge} and by {other.judge}"
    elif None not in models and models[0] != models[1]:
        both, problem = both.iloc[:0], f"the judge {one.judge} was {models[0]} and {models[1]}"
    elif one.kind == "safety" and base.results.attack != tuned.results.attack:
        both, problem = both.iloc[:0], "only one was attacked, or the attacks differ"
    elif both.empty:
        problem = "no item has a value in both under the same prompt"
    return Pair(
        name=name,
        kind=one.kind,
        metric=STRICT if one.kind == "reasoning" else one.metric,
        base=one.comparable,
        tuned=other.comparable,
        difference=paired_difference(both["value_base"].to_numpy(), both["value_tuned"].to_numpy()),
        base_failed=one.failed_share,
        tuned_failed=other.failed_share,
        problem=problem,
    )
