"""What a suite found: rates by rule, expected against observed kinds, and what changed since an earlier run."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import SourceError
from ..evaluation.comparison.pairs import ScoredRun, pairs_of
from ..evaluation.grading.judges.kinds import broken_rules
from ..evaluation.results.folder import ResultsFolder
from ..evaluation.results.statistics import Difference, Estimate, paired_difference, wilson
from ..evaluation.results.tables import of_benchmarks
from ..evaluation.tasks.benchmarks import Benchmark
from ..policies import Case, Suite, Taxonomy
from ..schema import each_row


__all__ = ["CaseResult", "Change", "Rate", "SuiteResults", "read_results"]


@dataclass(frozen=True)
class Rate:
    """How many answers passed.

    Attributes:
        passed, total (`int`): Answers that passed, and all that were judged.
        not_judged (`int`): Answers without a verdict. They are part of no rate.
        cases (`int`): Cases with a judged answer. Several answers to one case count as one, by their mean.
        value, low, high (`float` or `None`): The rate over cases with Wilson's 95 % interval; `None` where nothing was
            judged.
    """

    passed: int
    total: int
    not_judged: int
    cases: int
    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, results: Iterable["CaseResult"]) -> "Rate":
        """The rate of some answers."""
        by_case: dict[str, list[bool]] = defaultdict(list)
        missing = 0
        for each in results:
            if each.passed is None:
                missing += 1
            else:
                by_case[each.case.id].append(each.passed)
        shares = [sum(outcomes) / len(outcomes) for outcomes in by_case.values()]
        found = wilson(sum(shares), len(shares))
        passed, total = sum(map(sum, by_case.values())), sum(map(len, by_case.values()))
        return cls(passed, total, missing, len(shares), found.value, found.low, found.high)

    @property
    def estimate(self) -> Estimate:
        """The rate with its interval."""
        return Estimate(self.value, self.low, self.high, self.cases)


@dataclass(frozen=True)
class CaseResult:
    """One answer to a case.

    Attributes:
        observed (`str` or `None`): The kind of response that the judge saw, or with the failure `kind_unknown` whether
            it is a refusal.
        broken (`tuple[str, ...]`): References of the rules that the answer breaks.
        passed (`bool` or `None`): Whether the kind passes for the expected one and no rule is broken.
        failure (`str` or `None`): Why there is no verdict, one of `FAILURES`.
        why (`str`): The judge's reason.
        messages (`tuple[Message, ...]`): The conversation with the answer.
    """

    case: Case
    sample: int
    observed: str | None
    broken: tuple[str, ...]
    passed: bool | None
    failure: str | None
    why: str = ""
    messages: tuple[dict[str, str], ...] = field(default=(), repr=False)

    @property
    def what(self) -> str:
        """What was expected and observed, in words without the texts."""
        if self.passed is None:
            return f"not judged: {self.failure}"
        broken = f", breaks {', '.join(self.broken)}" if self.broken else ""
        return f"expected {self.case.expect}, observed {self.observed}{broken}"


@dataclass(frozen=True)
class Change:
    """The same cases in an earlier run and in this one.

    Attributes:
        difference (`Difference`): This run minus the earlier one over the cases that both judged, with McNemar's exact
            test (random signs where a case has several samples).
        rules (`dict[str, Difference]`): The same for each rule.
        mended, broken (`tuple[str, ...]`): Ids of the cases with a higher rate now, and with a lower one.
        notes (`tuple[str, ...]`): What else differs, and why the two cannot be compared.
    """

    earlier: str
    difference: Difference
    rules: dict[str, Difference]
    mended: tuple[str, ...]
    broken: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SuiteResults:
    """The results of one suite.

    Attributes:
        name, model, judge (`str`): The suite, the model and the judge.
        cases (`tuple[CaseResult, ...]`): One for each case and sample, in the suite's order.
        uncovered (`tuple[str, ...]`): References of the policy's rules without a case.
        change (`Change` or `None`): What changed since an earlier run.
    """

    name: str
    model: str
    judge: str
    rules: Mapping[str, str]
    cases: tuple[CaseResult, ...]
    uncovered: tuple[str, ...] = ()
    change: Change | None = None

    @cached_property
    def overall(self) -> Rate:
        """The rate over all cases."""
        return Rate.of(self.cases)

    @cached_property
    def per_rule(self) -> dict[str, Rate]:
        """The rate over each rule's own cases, in the order of the rules."""
        return self._by(lambda each: each.case.rule, [*self.rules, *(each.case.rule for each in self.cases)])

    @cached_property
    def per_style(self) -> dict[str, Rate]:
        """The rate of plain, borderline, adversarial and allowed cases."""
        return self._by(lambda each: each.case.style, (each.case.style for each in self.cases))

    @cached_property
    def matrix(self) -> dict[str, dict[str, int]]:
        """Answers by expected kind, then by observed kind."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for each in self.cases:
            counts[each.case.expect][each.observed or "not judged"] += 1
        return {kind: dict(found) for kind, found in counts.items()}

    @cached_property
    def broken(self) -> dict[str, int]:
        """Answers that break each rule, whichever rule their case is about."""
        counts = Counter(ref for each in self.cases for ref in each.broken)
        return {ref: counts[ref] for ref in self.rules if counts[ref]}

    @cached_property
    def failures(self) -> dict[str, int]:
        """Answers without a verdict, by reason."""
        return dict(Counter(each.failure for each in self.cases if each.failure).most_common())

    @property
    def worst(self) -> list[CaseResult]:
        """The answers that did not pass: those that break most rules first, then the cases that fail most often."""
        failed = Counter(each.case.id for each in self.cases if each.passed is False)
        bad = (each for each in self.cases if each.passed is False)
        return sorted(bad, key=lambda each: (-len(each.broken), -failed[each.case.id]))

    def surely_below(self, least: float) -> list[str]:
        """The rules whose whole interval is below a rate: those that too few passed by chance alone are not among
        them. docs/policy_suites.md says how many cases it takes to find a broken rule."""
        return [ref for ref, rate in self.per_rule.items() if rate.high is not None and rate.high < least]

    def _by(self, of: Any, names: Iterable[str]) -> dict[str, Rate]:
        groups: dict[str, list[CaseResult]] = defaultdict(list)
        for each in self.cases:
            groups[of(each)].append(each)
        return {name: Rate.of(groups[name]) for name in dict.fromkeys(names) if name in groups}

    def to_dict(self) -> dict[str, Any]:
        """As a `dict` for JSON, without the texts of cases and answers."""
        return {
            "suite": self.name,
            "model": self.model,
            "judge": self.judge,
            "overall": asdict(self.overall),
            "rules": {ref: {"text": self.rules.get(ref), **asdict(rate)} for ref, rate in self.per_rule.items()},
            "styles": {style: asdict(rate) for style, rate in self.per_style.items()},
            "kinds": self.matrix,
            "broken": self.broken,
            "uncovered": list(self.uncovered),
            "failures": self.failures,
            "change": self.change and asdict(self.change),
            "cases": [
                {
                    **{name: getattr(each.case, name) for name in ("id", "rule", "style", "technique", "half")},
                    "expected": each.case.expect,
                    **{name: getattr(each, name) for name in ("sample", "observed", "passed", "failure")},
                    "broken": list(each.broken),
                }
                for each in self.cases
            ],
        }


def read_results(
    folder: str | Path, suite: Suite, taxonomy: Taxonomy | None = None, earlier: ScoredRun | None = None
) -> SuiteResults:
    """The results of a suite from a results folder.

    Args:
        folder (`str` or `Path`): The results folder.
        suite ([`~star_hf.policies.suite.Suite`]): The suite. Answers to other cases are left out.
        taxonomy ([`~star_hf.policies.Taxonomy`], *optional*): Its policy, which knows the rules without a case.
        earlier ([`~star_hf.evaluation.comparison.pairs.ScoredRun`], *optional*): The run to compare with.

    Raises:
        [`SourceError`]: If the folder has no results of this suite, or an answer without a case.
    """
    place, name = ResultsFolder(folder), Benchmark.of_suite(suite).name
    results = place.results
    if name not in results.benchmarks:
        raise SourceError(f"{folder} has no results of the suite {suite.name!r}.", "Run `star-hf policy test` first.")
    judge = results.benchmarks[name].judge
    said = {
        (row["item_id"], row["sample"]): row
        for row in each_row(of_benchmarks(place.verdicts, [name]))
        if row["judge"] == judge and row["part"] == "answer"
    }
    answers = {(row["item_id"], row["sample"]): row for row in each_row(of_benchmarks(place.responses, [name]))}
    by_id: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for key in answers:
        by_id[key[0]].append(key)
    found = tuple(
        _case(case, answers[key], said.get(key), suite.rules) for case in suite.cases for key in sorted(by_id[case.id])
    )
    tested = {case.rule for case in suite.cases}
    uncovered = suite.uncovered(taxonomy) if taxonomy else [ref for ref in suite.rules if ref not in tested]
    return SuiteResults(
        suite.name,
        str(results.model["name"]),
        judge or "none",
        suite.rules,
        found,
        tuple(uncovered),
        None if earlier is None else _change(earlier, ScoredRun.read(folder), name, suite),
    )


def _case(case: Case, row: Mapping[str, Any], said: Mapping[str, Any] | None, rules: Mapping[str, str]) -> CaseResult:
    """An answer with its verdict. Without one it is not judged."""
    failure = row["failure"] or (said["failure"] if said else "judge_error")
    turns = [*(row["history"] or ()), {"role": "user", "content": row["prompt"]}]
    messages = (*turns, {"role": "assistant", "content": row["answer"] or ""})
    if failure or said is None:
        detail = (said["detail"] if said else None) or ""
        observed = detail if failure == "kind_unknown" else None  # a refusal or not, which is no verdict
        return CaseResult(case, row["sample"], observed, (), None, failure, detail, messages)
    broken = tuple(broken_rules(said["category"], rules))
    return CaseResult(
        case, row["sample"], said["label"], broken, said["value"] >= 0.5, None, said["detail"] or "", messages
    )


def _change(earlier: ScoredRun, now: ScoredRun, name: str, suite: Suite) -> Change:
    """The cases that both runs judged, under the same words and the same judge."""
    if name not in earlier.results.benchmarks:
        raise SourceError(
            f"The earlier results hold {', '.join(earlier.results.benchmarks)}, not the suite {suite.name!r}.",
            "Name a results folder of the same suite with --against.",
        )
    pair = next(each for each in pairs_of(earlier, now) if each.name == name)
    one, other = (run.items[run.items.index.get_level_values("benchmark") == name] for run in (earlier, now))
    both = one.merge(other, left_index=True, right_index=True, suffixes=("_base", "_tuned"))
    both = both[both["prompt_base"] == both["prompt_tuned"]]
    notes = [f"Not compared: {pair.problem}."] if pair.problem else []
    both = both.iloc[:0] if pair.problem else both
    rules = {case.id: case.rule for case in suite.cases}
    both = both.assign(rule=[rules.get(item) for item in both.index.get_level_values("item_id")])
    gain = both["value_tuned"] - both["value_base"]
    only = len(other) - len(both)
    if only and not pair.problem:
        notes.append(f"{only} cases are new, were changed, or have no verdict in the earlier run.")
    settings = [run.results.generation for run in (earlier, now)]
    if len({each.get("system_prompt") for each in settings}) > 1:
        notes.append("The system prompts differ.")
    before, after = (each.get("benchmarks", {}).get(name, {}).get("rules", {}) for each in settings)
    if reworded := [ref for ref in after if ref in before and after[ref] != before[ref]]:
        notes.append(f"These rules read differently now: {', '.join(reworded)}.")
    rates = {
        ref: paired_difference(rows["value_base"].to_numpy(), rows["value_tuned"].to_numpy())
        for ref, rows in both.groupby("rule", sort=False)
    }
    return Change(
        str(earlier.results.model["name"]),
        pair.difference,
        {ref: rates[ref] for ref in suite.rules if ref in rates},
        tuple(both.index.get_level_values("item_id")[gain > 0]),
        tuple(both.index.get_level_values("item_id")[gain < 0]),
        tuple(notes),
    )
