"""`results.json`: every rate with its interval and its failures, and the paper's averages."""

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NotRequired

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from ... import __version__
from ...errors import IncompleteRunError, SourceError
from ...utils.files import write_json
from ..tasks.benchmarks import OVER_REFUSAL, REASONING, SAFETY
from .statistics import Estimate


__all__ = ["AVERAGES", "METRICS", "STRICT", "Average", "BenchmarkResult", "Results", "check_complete", "load_results"]

METRICS = {
    "safety": "safe_rate",
    "over_refusal": "over_refusal_rate",
    "reasoning": "accuracy",
    "policy": "pass_rate",
}
"""The metric of each kind of benchmark. Only for the over-refusal rate lower is better."""

STRICT = "accuracy_of_all"
"""Accuracy where failures of the model itself (truncated, empty, unparseable) count as wrong, as in the paper."""

AVERAGES = {"safety": SAFETY, "over_refusal": OVER_REFUSAL, "reasoning": REASONING}

FILE = "results.json"


@dataclass(frozen=True)
class BenchmarkResult:
    """A model's result on one benchmark.

    Attributes:
        kind (`str`), metric (`str`): What is measured, see `METRICS`.
        judge (`str` or `None`), part (`str`): The judge behind `value`, and what it judged.
        value, low, high (`float` or `None`): The rate and its 95 % interval; `None` where nothing could be judged.
        n (`int`), items (`int`), samples (`int`): Items with a value, all items, and samples per item.
        failures (`dict[str, int]`): Answers without a value, by reason; they are part of no rate.
        by_category (`dict[str, Estimate]`): The rate per category.
        metrics (`dict[str, Estimate]`): Further rates: of the reasoning (`reasoning_safe_rate`), by other judges
            (`safe_rate/<judge>`), `accuracy_of_all`, `pass@k`.
        data (`dict`): Repository, revision and hash of the items.
    """

    kind: str
    metric: str
    judge: str | None
    part: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    items: int
    samples: int = 1
    failures: dict[str, int] = field(default_factory=dict)
    by_category: dict[str, Estimate] = field(default_factory=dict)
    metrics: dict[str, Estimate] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)

    @property
    def estimate(self) -> Estimate:
        """The value with its interval."""
        return Estimate(self.value, self.low, self.high, self.n)

    @property
    def comparable(self) -> Estimate:
        """The rate to compare with others: for reasoning, failures of the model itself count as wrong."""
        return self.metrics.get(STRICT, self.estimate)

    @property
    def failed_share(self) -> float:
        """Share of the answers without a value."""
        return sum(self.failures.values()) / max(self.items * self.samples, 1)

    @property
    def reasons(self) -> str:
        """The failures for people: `3 truncated, 1 judge_error`."""
        return ", ".join(f"{count} {reason}" for reason, count in self.failures.items())


@dataclass(frozen=True)
class Average:
    """The unweighted mean of `BenchmarkResult.comparable` over those of the paper's benchmarks that were run.

    It has no value if a benchmark has none.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    benchmarks: tuple[str, ...] = ()

    @property
    def estimate(self) -> Estimate:
        """The mean with its interval; its `n` is the number of benchmarks."""
        return Estimate(self.value, self.low, self.high, len(self.benchmarks))


_OPEN = ConfigDict(extra="allow")


@with_config(_OPEN)
class _Generation(TypedDict):
    benchmarks: NotRequired[dict[str, dict[str, Any]]]


@with_config(_OPEN)
class _JudgeRecord(TypedDict):
    name: str


@dataclass(frozen=True)
class Results:
    """The content of `results.json`.

    Attributes:
        model (`dict`): `name`, `revision`, `fingerprint`.
        generation (`dict`): How answers were generated.
        judges (`list[dict]`): `name`, `model`, `at` of each judge.
        benchmarks (`dict[str, BenchmarkResult]`): By name, in the paper's order.
        averages (`dict[str, Average]`): Of `"safety"`, `"over_refusal"` and `"reasoning"`, where there are any.
        created (`str`): When, in UTC.
    """

    model: dict[str, Any]
    profile: str
    generation: _Generation
    judges: list[_JudgeRecord]
    benchmarks: dict[str, BenchmarkResult]
    averages: dict[str, Average]
    created: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
    star_hf: str = __version__

    @property
    def attack(self) -> str | None:
        """The attack on safety prompts, if any; a user's own as `FILE.py:FUNCTION`, without its folder."""
        attack = self.generation.get("attack")
        return Path(attack).name if attack else None

    def save(self, folder: str | Path) -> Path:
        """Write `results.json` into a folder, atomically, and return its path."""
        path = Path(folder) / FILE
        write_json(path, asdict(self))
        return path


def load_results(folder: str | Path) -> Results:
    """Read the `results.json` of a results folder, or that file itself. Raises [`SourceError`] if that fails."""
    path = Path(folder) if Path(folder).is_file() else Path(folder) / FILE
    try:
        return TypeAdapter(Results).validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        details = error.errors()[0] if isinstance(error, ValidationError) else None
        reason = f"{'.'.join(map(str, details['loc']))} {details['msg']}".strip() if details else str(error)
        raise SourceError(
            f"{path} cannot be read: {reason}.",
            f"Name a results folder that `star-hf evaluate` wrote. If it is damaged, delete {path}: the same commands "
            "make it again from the journal, without asking a model.",
        ) from None


def check_complete(results: Results, max_failures: float = 0.1) -> None:
    """Raise [`IncompleteRunError`] if a benchmark has no value, or too many of its answers have none."""
    bad = {
        name: result.reasons or "no answers"
        for name, result in results.benchmarks.items()
        if result.value is None or result.failed_share > max_failures
    }
    if bad:
        raise IncompleteRunError(
            f"Too many answers have no value, more than {max_failures:.0%} of a benchmark's or all of them: "
            + "; ".join(f"{name} ({reasons})" for name, reasons in bad.items())
            + ".",
            "The rates are of the other answers only. Fix the cause (token limit, judge, endpoint) and run the same "
            "command again, or accept a larger share with --max-failures. A judge's replies are kept: once it is "
            "fixed, `star-hf journal prune FOLDER --stage judge-...` has it asked again.",
        )
