"""What lighteval and inspect-ai need of the benchmarks: items as rows of a file, and verdicts on texts.

Both frameworks call tasks without options of the task's own, so these come from the environment:

| variable | meaning |
|---|---|
| `STAR_HF_JUDGE` | judges for `--judge`, separated by commas; the first of a benchmark's kind judges it |
| `STAR_HF_DATA_DIR` | folder of local copies of the data |
| `STAR_HF_PROFILE` | instructions and limits: `recommended` (default), `paper`, or a YAML file |
| `STAR_HF_MAX_TOKENS` | tokens of an answer, instead of the profile's |
| `STAR_HF_JOURNAL` | file for the judges' replies; `judge.sqlite` in the cache by default |
| `STAR_HF_ALLOW_CODE_EXECUTION` | `1` allows HumanEval to run the model's code |
| `STAR_HF_SANDBOX` | the least confinement of that code: `isolated`, `restricted` (the default) or `weak` |
| `STAR_HF_MAX_FAILURES` | the largest accepted share of a benchmark's items without a value; `0.1` by default |
| `STAR_HF_SUITES` | files of policy suites, separated by commas: each is one more benchmark |
| `STAR_HF_EXPECTS_REASONING` | `1`: the model always reasons first, a text without `</think>` is not an answer |
"""

import functools
import json
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ...errors import ConfigError, IncompleteRunError
from ...llm import Journal
from ...utils.files import write_text
from ..grading.grade import check_graders, grade
from ..grading.judges import Judge, load_judge
from ..grading.judging import probe
from ..results.statistics import rate
from ..tasks.benchmarks import BENCHMARKS, Benchmark, select_benchmarks
from ..tasks.loading import data_record, load_items
from ..tasks.profiles import load_evaluation
from ..types import Item, Response, responses_table


__all__ = [
    "FIELDS",
    "Graded",
    "benchmark_of",
    "check_failures",
    "expects_reasoning",
    "failed_shares",
    "grade_responses",
    "items_folder",
    "max_tokens",
    "ready",
    "rows",
    "suites",
    "summary",
    "to_item",
]

logger = logging.getLogger(__name__)

FIELDS = tuple(field.name for field in fields(Item))
"""Columns of an item as a row."""

MAX_FAILURES = 0.1
"""Largest accepted share of a benchmark's items without a value."""

LAYOUT = 2
"""The version of these rows, so that none of an earlier version is read."""

failed_shares: dict[str, float] = {}
"""Share of each benchmark's items without a value, of the last summary in this process."""


@dataclass(frozen=True)
class Graded:
    """The result for one item.

    Attributes:
        value (`float` or `None`): 0 to 1, where 1 is the desired answer: safe, helpful, right. The mean over samples.
        thought_value (`float` or `None`): The same for the reasoning, where a judge read it.
        failure (`str`): Why there is no value; empty where there is one.
        detail (`str`): The judge's reply, or what was extracted.
    """

    item_id: str
    category: str = ""
    value: float | None = None
    thought_value: float | None = None
    failure: str = ""
    detail: str = ""


@functools.cache
def suites() -> dict[str, Benchmark]:
    """The suites that the environment names, by their name as a benchmark."""
    paths = os.environ.get("STAR_HF_SUITES", "").split(",")
    return {suite.name: suite for suite in select_benchmarks(filter(None, map(str.strip, paths)))}


@functools.cache
def benchmark_of(name: str) -> Benchmark:
    """The benchmark with this name, or of a suite's file."""
    known = BENCHMARKS | suites()
    return known[name] if name in known else select_benchmarks([name])[0]


def rows(name: str) -> list[dict[str, Any]]:
    """A benchmark's items as rows of strings, with the columns `FIELDS`."""
    return [
        {**asdict(item), "facts": json.dumps(dict(item.facts)), "turns": json.dumps(item.turns)}
        for item in _items(name)
    ]


def items_folder(name: str) -> str:
    """A folder with a benchmark's items as `test.jsonl`. Its name changes with the items.

    So a framework that caches generations by the data's path never finds those of other data.
    """
    items = _items(name)
    sha256 = data_record(benchmark_of(name), items)["sha256"]
    folder = _cache() / "items" / f"{name}-{sha256[:16]}-{LAYOUT}"
    path = folder / "test.jsonl"
    if not path.exists():
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows(name)))
    return str(folder)


def to_item(row: Mapping[str, Any]) -> Item:
    """The item of a row of [`items_folder`]."""
    read = {"facts": json.loads(row["facts"]), "turns": tuple(json.loads(row["turns"]))}
    return Item(**{**{name: row[name] for name in FIELDS}, **read})


@functools.cache
def ready(name: str) -> None:
    """Check that a benchmark can be graded and that its judge answers, before a model is asked anything."""
    benchmark = benchmark_of(name)
    try:
        allowed = os.environ.get("STAR_HF_ALLOW_CODE_EXECUTION") == "1"
        check_graders([benchmark], _judges(), allowed, _sandbox())
    except ConfigError as error:
        raise ConfigError(
            error.message,
            (error.remedy if allowed else "Set STAR_HF_ALLOW_CODE_EXECUTION=1 to allow it.")
            if benchmark.grader == "code"
            else "Name one in STAR_HF_JUDGE, such as STAR_HF_JUDGE=llama-guard-3@http://localhost:8001/v1,xstest. "
            "Nothing is scored without a judge.",
        ) from None
    for judge in _serving(name):
        _probe(judge.name, benchmark.kind)


def max_tokens(name: str) -> int:
    """Tokens of an answer: `STAR_HF_MAX_TOKENS`, or the profile's."""
    given = os.environ.get("STAR_HF_MAX_TOKENS")
    return int(given) if given else load_evaluation(_profile()).sampling(name).max_tokens


def expects_reasoning() -> bool:
    """Whether the environment says that the model always reasons first."""
    return os.environ.get("STAR_HF_EXPECTS_REASONING") == "1"


def _sandbox() -> str:
    """The least confinement of model code."""
    return os.environ.get("STAR_HF_SANDBOX", "restricted")


def grade_responses(name: str, items: Sequence[Item], answers: Sequence[Response]) -> list[Graded]:
    """The result for each item, in their order. It opens the journal itself, so that threads may call it."""
    table = responses_table(name, items, answers)
    path = os.environ.get("STAR_HF_JOURNAL") or _cache() / "judge.sqlite"
    with Journal(path) as journal:
        verdicts = grade(benchmark_of(name), items, table, _serving(name), journal, sandbox=_sandbox(), progress=False)
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in verdicts:
        found[row["item_id"], row["part"]].append(row)
    return [_graded(item, found[item.id, "answer"], found[item.id, "reasoning"]) for item in items]


def summary(name: str, graded: Sequence[Graded]) -> dict[str, float]:
    """The rate of a benchmark with Wilson's interval, and the number of items that it leaves out.

    The keys are the same for every benchmark: lighteval averages tasks by the keys of the first, a missing one as 0.
    `score` is the share of desired answers (1 - the over-refusal rate for XSTest), NaN over no items.
    """
    values = [each.value for each in graded if each.value is not None]
    thoughts = [each.thought_value for each in graded if each.thought_value is not None]
    failures = Counter(each.failure for each in graded if each.value is None)
    estimate, nan = rate(values), float("nan")
    failed_shares[name] = failures.total() / max(len(graded), 1)
    if failures:
        logger.warning("%s: %s; rates leave them out", name, ", ".join(f"{n} {why}" for why, n in failures.items()))
    missing = estimate.value is None
    return {
        "score": nan if missing else estimate.value,
        "score_stderr": nan if missing else (estimate.value * (1 - estimate.value) / estimate.n) ** 0.5,
        "score_low": nan if missing else estimate.low,
        "score_high": nan if missing else estimate.high,
        "thought_score": sum(thoughts) / len(thoughts) if thoughts else nan,
        "judged": float(len(values)),
        "failed": float(failures.total()),
    }


def check_failures(shares: Mapping[str, float]) -> None:
    """Raise [`IncompleteRunError`] if too many items have no value. `shares` are theirs, per benchmark."""
    accepted = float(os.environ.get("STAR_HF_MAX_FAILURES", MAX_FAILURES))
    if bad := {name: share for name, share in shares.items() if share > accepted}:
        raise IncompleteRunError(
            f"More than {accepted:.0%} of the answers have no value: "
            + ", ".join(f"{name} {share:.0%}" for name, share in bad.items())
            + ". Their rates leave these answers out.",
            "Fix the cause (endpoint, token limit, judge) and run it again, or raise STAR_HF_MAX_FAILURES.",
        )


def _graded(item: Item, answers: Sequence[Mapping[str, Any]], thoughts: Sequence[Mapping[str, Any]]) -> Graded:
    value = _mean(answers)
    why = next((row["failure"] for row in answers if row["failure"]), "judge_error") if value is None else ""
    detail = answers[0]["detail"] or answers[0]["label"] or "" if answers else ""
    return Graded(item.id, item.category or "", value, _mean(thoughts), why, detail)


def _mean(rows: Sequence[Mapping[str, Any]]) -> float | None:
    values = [row["value"] for row in rows if row["value"] is not None]
    return sum(values) / len(values) if values else None


@functools.cache
def _items(name: str) -> list[Item]:
    return load_items(
        benchmark_of(name), os.environ.get("STAR_HF_DATA_DIR"), profile=load_evaluation(_profile()).profile
    )


def _profile() -> str:
    return os.environ.get("STAR_HF_PROFILE", "recommended")


@functools.cache
def _judges() -> tuple[Judge, ...]:
    specs = os.environ.get("STAR_HF_JUDGE", "").split(",")
    return tuple(load_judge(spec.strip()) for spec in specs if spec.strip())


def _serving(name: str) -> list[Judge]:
    return [judge for judge in _judges() if benchmark_of(name).kind in judge.kinds][:1]


@functools.cache
def _probe(name: str, kind: str) -> None:
    probe(next(judge for judge in _judges() if judge.name == name), [kind])


def _cache() -> Path:
    from huggingface_hub.constants import HF_HOME

    return Path(HF_HOME) / "star_hf"
