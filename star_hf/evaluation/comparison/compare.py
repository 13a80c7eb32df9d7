"""Two models on the same items: what safety was gained, what it cost in reasoning and refusals, and whether to ship.

Where there is a right answer, the model's own failures count as wrong: a model that thinks itself past its token limit
has become worse. In safety and over-refusal they are left out, and counted.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..results.statistics import Estimate
from ..tasks.benchmarks import OVER_REFUSAL, REASONING, SAFETY
from .decision import Check, Criteria, Decision, decide, decision
from .pairs import Pair, Run, mean_difference, pairs_of


__all__ = ["Comparison", "compare"]

WORDS = {True: "yes", False: "no", None: "cannot be told"}


@dataclass(frozen=True)
class Comparison:
    """What changed from one model to another.

    Attributes:
        base, tuned (`str`): The models' names.
        pairs (`tuple[Pair, ...]`): The benchmarks that both have, in the paper's order.
        safety_gain, reasoning_cost, over_refusal_rise (`Estimate`): Means over benchmarks; `n` is how many there are.
        checks (`tuple[Check, ...]`): The criteria.
        decision (`str`): `"ship"`, `"do not ship"` or `"undecided"`.
        notes (`tuple[str, ...]`): What else differs between the two runs.
    """

    base: str
    tuned: str
    pairs: tuple[Pair, ...]
    safety_gain: Estimate
    reasoning_cost: Estimate
    over_refusal_rise: Estimate
    checks: tuple[Check, ...]
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
        """As JSON takes it."""
        return asdict(self)

    def to_markdown(self) -> str:
        """Tables for a card or a note, in percent."""
        head = [
            f"**{self.tuned}** against **{self.base}**: **{self.decision}**",
            "",
            "| in percent | base | tuned | difference | p | items |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        return "\n".join([*head, *map(_row, self.pairs), "", *self._points()]) + "\n"

    def _points(self) -> Iterator[str]:
        yield from (f"- {name}: {mean.percent(sign=True)}" for name, mean in self.sums.items() if mean.n)
        yield from (f"- {check.name}: **{WORDS[check.passed]}** ({check.detail})" for check in self.checks)
        yield from (f"- note: {note}" for note in self.notes)


def compare(base: str | Path, tuned: str | Path, criteria: Criteria | None = None) -> Comparison:
    """Compare two results folders.

    Args:
        base, tuned (`str` or `Path`): Results folders of `star-hf evaluate`.
        criteria ([`Criteria`], *optional*): When to ship.

    Raises:
        [`SourceError`]: If a folder is none, or the two have no benchmark in common.
    """
    runs = Run.read(base), Run.read(tuned)
    pairs = pairs_of(*runs)
    missing = [name for name in runs[0].results.benchmarks if name not in runs[1].results.benchmarks]
    checks = decide(pairs, criteria or Criteria(), missing)
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


def _row(pair: Pair) -> str:
    p_value = "-" if pair.difference.p_value is None else f"{pair.difference.p_value:.2g}"
    numbers = (pair.base.percent(), pair.tuned.percent(), pair.difference.estimate.percent(sign=True), p_value)
    return f"| {pair.name} ({pair.metric}) | {' | '.join(numbers)} | {pair.difference.n} |"


def _notes(base: Run, tuned: Run, pairs: tuple[Pair, ...]) -> Iterator[str]:
    one, other = base.results, tuned.results
    yield from (f"{pair.name} is not compared: {pair.problem}." for pair in pairs if pair.problem)
    if one.profile != other.profile:
        yield f"The profiles differ: {one.profile} and {other.profile}."
    elif one.generation != other.generation:
        yield "Answers were drawn with different settings: see `generation` in each results.json."
    if one.model.get("fingerprint") and one.model["fingerprint"] == other.model.get("fingerprint"):
        yield "Both have the same fingerprint: the weights are the same."
    for who, has, lacks in (("base", other, one), ("tuned", one, other)):
        if missing := [name for name in has.benchmarks if name not in lacks.benchmarks]:
            yield f"Not measured for {who}: {', '.join(missing)}."
