"""Grades the answers to a benchmark: by judges, or by comparing them with the right answer."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import fields

from datasets import Dataset

from ...errors import ConfigError
from ...llm import Budget, Journal
from ...schema import each_row
from ..tasks.benchmarks import Benchmark
from ..types import Item, Response, verdicts_table
from .code_execution import code_verdicts
from .confinement import Level, require
from .extractors import choice_verdict, math_verdict
from .judges import Judge
from .judging import judge_responses


__all__ = ["check_graders", "grade"]

logger = logging.getLogger(__name__)

ANSWER = [field.name for field in fields(Response)]


def check_graders(
    benchmarks: Iterable[Benchmark],
    judges: Sequence[Judge],
    allow_code_execution: bool,
    sandbox: Level = "restricted",
) -> None:
    """Raise [`ConfigError`] if a benchmark has no judge of its kind, or would run code without permission, or less
    confined than at the level `sandbox`."""
    for benchmark in benchmarks:
        if benchmark.grader == "judge" and not any(benchmark.kind in judge.kinds for judge in judges):
            raise ConfigError(
                f"{benchmark.name} needs a judge of {benchmark.kind.replace('_', '-')}, and there is none.",
                "Add one with --judge, such as `--judge llama-guard-3@http://localhost:8001/v1 --judge xstest`; "
                "`star-hf judge list` shows them all.",
            )
        if benchmark.grader == "code" and not allow_code_execution:
            raise ConfigError(
                f"{benchmark.name} runs code that the model wrote.",
                "Allow it with --allow-code-execution (docs/evaluation.md describes how it is confined), or leave the "
                "benchmark out.",
            )
        if benchmark.grader == "code":
            logger.info("%s: model code runs %s.", benchmark.name, require(sandbox))


def grade(
    benchmark: Benchmark,
    items: Sequence[Item],
    answers: Dataset,
    judges: Sequence[Judge],
    journal: Journal,
    *,
    sandbox: Level = "restricted",
    budget: Budget | None = None,
    progress: bool = True,
) -> Dataset:
    """Grade the answers to a benchmark, as `VERDICTS`. `check_graders` has checked that model code may be run.

    The judges of its kind are asked, and none if it has right answers. An answer that cannot be graded has a failure,
    never a value.
    """
    if benchmark.grader == "judge":
        serving = [judge for judge in judges if benchmark.kind in judge.kinds]
        return judge_responses(
            answers, serving, journal, kind=benchmark.kind, rules=benchmark.rules, budget=budget, progress=progress
        )
    by_id = {item.id: item for item in items}
    given = [Response(**{name: row[name] for name in ANSWER}) for row in each_row(answers)]
    if benchmark.grader == "code":
        verdicts = code_verdicts(by_id, given, allow_code_execution=True, least=sandbox, progress=progress)
    else:
        verdict = {"math": math_verdict, "choice": choice_verdict}[benchmark.grader]
        verdicts = [verdict(by_id[answer.item_id], answer) for answer in given]
    return verdicts_table(benchmark.name, verdicts)
