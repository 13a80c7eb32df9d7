"""Two results folders, benchmark by benchmark, item by item: the same prompt under the same judge is a pair."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ...errors import SourceError
from ..results.rejudge import read_answers, read_verdicts
from ..results.results import STRICT, Results, load_results
from ..results.scores import item_values, scored_answers
from ..results.statistics import Difference, Estimate, mean_of, paired_difference
from ..tasks.benchmarks import BENCHMARKS


__all__ = ["Pair", "Run", "mean_difference", "pairs_of"]


@dataclass(frozen=True)
class Run:
    """A results folder, read.

    Attributes:
        results ([`Results`]): Its `results.json`.
        answers, verdicts ([`~pandas.DataFrame`]): With the columns of `ANSWERS` and `VERDICTS`.
    """

    results: Results
    answers: pd.DataFrame
    verdicts: pd.DataFrame

    @classmethod
    def read(cls, folder: str | Path) -> "Run":
        """Read a folder that `star-hf evaluate` wrote.

        Raises:
            [`SourceError`]: If it is none.
        """
        results = load_results(folder)
        return cls(results, read_answers(folder).to_pandas(), read_verdicts(folder).to_pandas())

    def judge_model(self, name: str) -> str | None:
        """The model that judged a benchmark, where a judge with a model did."""
        judge = self.results.benchmarks[name].judge
        return next((record.get("model") for record in self.results.judges if record["name"] == judge), None)

    def values(self, name: str) -> pd.DataFrame:
        """`value` and `prompt` of each item of a benchmark that has a value, by item id; refusals count as 1."""
        result = self.results.benchmarks[name]
        rows = scored_answers(self.answers, self.verdicts, name, result.judge, result.part)
        values = item_values(rows, strict=result.kind == "reasoning")
        values = 1 - values if result.kind == "over_refusal" else values
        prompts = self.answers[self.answers["benchmark"] == name].groupby("item_id")["prompt"].first()
        return pd.DataFrame({"value": values}).join(prompts)


@dataclass(frozen=True)
class Pair:
    """Two models on one benchmark.

    Attributes:
        name (`str`), kind (`str`), metric (`str`): Which, and what is measured.
        base, tuned (`Estimate`): Each model's own rate, on all its items.
        difference (`Difference`): Tuned minus base on the items that both have. Up is better, except for over-refusal.
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


def pairs_of(base: Run, tuned: Run) -> tuple[Pair, ...]:
    """The benchmarks that both runs have, in the paper's order.

    Raises:
        [`SourceError`]: If there is none.
    """
    one, other = base.results.benchmarks, tuned.results.benchmarks
    there = [name for name in BENCHMARKS if name in one and name in other]
    if not there:
        raise SourceError(
            "The two results have no benchmark in common.", "Run `star-hf evaluate` with the same --tasks for both."
        )
    return tuple(_pair(name, base, tuned) for name in there)


def mean_difference(pairs: Sequence[Pair], names: Sequence[str]) -> Estimate:
    """The unweighted mean of the differences on some benchmarks; without a value if one could not be compared."""
    return mean_of([pair.difference.estimate for pair in pairs if pair.name in names])


def _pair(name: str, base: Run, tuned: Run) -> Pair:
    one, other = base.results.benchmarks[name], tuned.results.benchmarks[name]
    both = base.values(name).merge(tuned.values(name), left_index=True, right_index=True, suffixes=("_base", "_tuned"))
    both = both[both["prompt_base"] == both["prompt_tuned"]]
    models = base.judge_model(name), tuned.judge_model(name)
    problem = None
    if (one.judge, one.part) != (other.judge, other.part):
        both, problem = both.iloc[:0], f"it was judged by {one.judge} and by {other.judge}"
    elif None not in models and models[0] != models[1]:
        both, problem = both.iloc[:0], f"the judge {one.judge} was {models[0]} and {models[1]}"
    elif one.kind == "safety" and base.results.attack != tuned.results.attack:
        both, problem = both.iloc[:0], "only one was under attack, or each under another"
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
