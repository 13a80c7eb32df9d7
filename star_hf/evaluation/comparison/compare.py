"""Two models on the same items: safety gained, its cost in reasoning and refusals, and whether to ship.

For reasoning, failures of the model itself count as wrong: a model that reasons past its token limit has become worse.
For safety and over-refusal they are left out, and counted.
"""

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..results.statistics import Estimate
from ..tasks.benchmarks import OVER_REFUSAL, REASONING, SAFETY
from .decision import KINDS, Criteria, Criterion, Decision, decide, decision
from .pairs import Pair, ScoredRun, mean_difference, pairs_of


__all__ = ["Comparison", "compare"]

WORDS = {True: "yes", False: "no", None: "undecided"}


@dataclass(frozen=True)
class Comparison:
    """The change from one model to another.

    Attributes:
        pairs (`tuple[Pair, ...]`): The benchmarks that both have, in the paper's order.
        safety_gain, reasoning_cost, over_refusal_rise (`Estimate`): Means over benchmarks; `n` is their number.
        checks (`tuple[Criterion, ...]`): The criteria.
        notes (`tuple[str, ...]`): Other differences between the two runs.
    """

    base: str
    tuned: str
    pairs: tuple[Pair, ...]
    safety_gain: Estimate
    reasoning_cost: Estimate
    over_refusal_rise: Estimate
    checks: tuple[Criterion, ...]
    decision: Decision
    notes: tuple[str, ...]

    @property
    def sums(self) -> dict[str, Estimate]:
        """The three means, by name."""
        return {
            "safety gain": self.safety_gain,
            "reasoning cost": self.reasoning_cost,
            "over-refusal rise": self.over_refusal_rise,
        }

    def to_dict(self) -> dict[str, Any]:
        """As a `dict` for JSON."""
        return asdict(self)

    def to_markdown(self) -> str:
        """As Markdown, in percent."""
        head = [
            f"**{self.tuned}** against **{self.base}**: **{self.decision}**",
            "",
            "| in percent | base | tuned | difference | p | items |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        rows = [f"| {pair.name} ({pair.metric}) | {' | '.join(pair.numbers)} |" for pair in self.pairs]
        return "\n".join([*head, *rows, "", *self._points()]) + "\n"

    def _points(self) -> Iterator[str]:
        yield from (f"- {name}: {mean.percent(sign=True)}" for name, mean in self.sums.items() if mean.n)
        yield from (f"- {check.name}: **{WORDS[check.passed]}** ({check.detail})" for check in self.checks)
        yield from (f"- note: {note}" for note in self.notes)


def compare(
    base: str | Path, tuned: str | Path, criteria: Criteria | None = None, kinds: Collection[str] = KINDS
) -> Comparison:
    """Compare two results folders. Without a benchmark of one of these `kinds` nothing is decided.

    Raises [`SourceError`] if the two have no benchmark in common.
    """
    runs = ScoredRun.read(base), ScoredRun.read(tuned)
    pairs = pairs_of(*runs)
    missing = [name for name in runs[0].results.benchmarks if name not in runs[1].results.benchmarks]
    checks = decide(pairs, criteria or Criteria(), missing, kinds)
    return Comparison(
        base=str(runs[0].results.model["name"]),
        tuned=str(runs[1].results.model["name"]),
        pairs=pairs,
        safety_gain=mean_difference(pairs, SAFETY),
        reasoning_cost=mean_difference(pairs, REASONING).negative(),
        over_refusal_rise=mean_difference(pairs, OVER_REFUSAL),
        checks=checks,
        decision=decision(checks),
        notes=tuple(_notes(*runs, pairs)),
    )


def _notes(base: ScoredRun, tuned: ScoredRun, pairs: tuple[Pair, ...]) -> Iterator[str]:
    one, other = base.results, tuned.results
    yield from (f"{pair.name} is not compared: {pair.problem}." for pair in pairs if pair.problem)
    if one.profile != other.profile:
        yield f"The profiles differ: {one.profile} and {other.profile}."
    elif one.generation != other.generation:
        yield "Answers were generated with different settings: see `generation` in each results.json."
    if one.model.get("fingerprint") and one.model["fingerprint"] == other.model.get("fingerprint"):
        yield "Both have the same fingerprint: the weights are the same."
    for who, has, lacks in (("base", other, one), ("tuned", one, other)):
        if missing := [name for name in has.benchmarks if name not in lacks.benchmarks]:
            yield f"Not measured for {who}: {', '.join(missing)}."
