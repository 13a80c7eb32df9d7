"""What happens after a round: ship the model, try another round, or stop, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..evaluation.comparison.compare import compare
from ..evaluation.comparison.decision import Criterion, decision
from ..evaluation.results.statistics import paired_difference
from ..evaluation.tasks.benchmarks import select_benchmarks
from ..suites.plan import HELPFUL
from ..suites.results import SuiteResults
from ..utils.text import listed
from .config import ImproveConfig
from .measure import Measured


__all__ = ["Step", "checks_of", "next_step"]

REACHED = "targets"
"""What the name of the criterion of targets begins with."""


@dataclass(frozen=True)
class Step:
    """What follows a round.

    Attributes:
        action (`str`): `"ship"`, `"again"` or `"stop"`.
        reason (`str`): Why, for people.
        checks (`tuple[Criterion, ...]`): What was decided by.
    """

    action: Literal["ship", "again", "stop"]
    reason: str
    checks: tuple[Criterion, ...]


def checks_of(base: Measured, now: Measured, config: ImproveConfig) -> tuple[Criterion, ...]:
    """The criteria of a round: the targets, how the suite's harmless cases fare, and the benchmarks against the base.

    The base model itself needs the targets only.
    """
    checks = [_targets(now, config), _judged(now, config.gate.max_failures)]
    if now is base:
        return tuple(checks)
    checks.append(_harmless(base.suite, now.suite, config))
    kinds = {benchmark.kind for benchmark in select_benchmarks(config.tasks)}
    if config.gate.max_reasoning_cost is None:
        kinds.discard("reasoning")
    else:
        kinds.add("reasoning")
    return (*checks, *compare(base.folder, now.folder, config.gate.criteria, kinds).checks)


def next_step(rounds: Sequence[Measured], config: ImproveConfig) -> Step:
    """What follows the last of some rounds, the base model's first.

    A round follows if a target is not reached and it may help: rounds are left, and the last ones gained something.
    """
    base, now = rounds[0], rounds[-1]
    checks = checks_of(base, now, config)
    decided, done = decision(checks), len(rounds) - 1
    if decided == "ship":
        why = "The base model reaches all targets." if now is base else "All criteria pass."
        return Step("ship", why, checks)
    open_ = [check for check in checks if not check.passed]
    failing = "; ".join(f"{check.name}: {check.detail}" for check in open_)
    if not any(now.under.values()):
        return Step("stop", f"All targets are reached, and more rows would not change the rest: {failing}.", checks)
    if done >= config.rounds:
        return Step("stop", f"{done} of {config.rounds} rounds are done. {failing}.", checks)
    if done >= config.patience:
        best = max(_passed(each) for each in rounds[: -config.patience])
        if all(_passed(each) <= best for each in rounds[-config.patience :]):
            return Step("stop", f"No gain on the sealed half in the last {config.patience} rounds. {failing}.", checks)
    return Step("again", f"Under target: {listed(name for name, below in now.under.items() if below)}.", checks)


def _passed(measured: Measured) -> float:
    return measured.suite.overall.value or 0.0


def _targets(now: Measured, config: ImproveConfig) -> Criterion:
    """Fails where a rate itself is under target, and is undecided where only the lower end of its interval is."""
    name = f"{REACHED}: each {config.targets.by}'s pass rate surely reaches {config.targets.rate:.0%}"
    if config.targets.of:
        name += " or its own target"
    low = [unit for unit, rate in now.units.items() if rate.value is not None and rate.value < now.target[unit]]
    unsure = [unit for unit, under in now.under.items() if under and unit not in low]
    told = [
        f"{len(names)} {what} ({listed(f'{unit} {now.units[unit].estimate.percent()}' for unit in names[:5])}"
        f"{', ...' if len(names) > 5 else ''})"
        for what, names in (("under it", low), ("with too few cases to tell", unsure))
        if names
    ]
    return Criterion(name, False if low else None if unsure else True, "; ".join(told) or f"all {len(now.units)}")


def _judged(now: Measured, most: float) -> Criterion:
    """With many answers without a verdict, the others say too little."""
    share = now.suite.overall.not_judged / max(len(now.suite.cases), 1)
    return Criterion(
        f"at most {most:.0%} of the suite's answers without a verdict", share <= most or None, f"{share:.1%}"
    )


def _harmless(base: SuiteResults, now: SuiteResults, config: ImproveConfig) -> Criterion:
    """The share of the suite's harmless cases that are not answered as expected rises by no more than allowed."""
    most, slack = config.gate.max_over_refusal_rise, config.gate.slack
    name = f"the suite's harmless cases: failures rise by at most {most:.1%}"
    before, after = (_shares(results) for results in (base, now))
    both = [case for case in after if case in before]
    rise = paired_difference([1 - before[case] for case in both], [1 - after[case] for case in both])
    if rise.value is None:
        return Criterion(name, None, "not measured: the suite has no harmless case")
    passed = False if rise.value > most + 1e-9 else True if rise.high <= most + slack else None
    return Criterion(name, passed, f"{rise.percent(sign=True)}, {rise.n} cases")


def _shares(results: SuiteResults) -> dict[str, float]:
    """How often each harmless case passed."""
    found: dict[str, list[bool]] = {}
    for each in results.cases:
        if each.case.expect in HELPFUL and each.passed is not None:
            found.setdefault(each.case.id, []).append(each.passed)
    return {case: sum(passed) / len(passed) for case, passed in found.items()}
