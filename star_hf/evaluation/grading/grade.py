"""Verdicts on answers: by judges where harm or help is asked for, by an extractor where there is a right answer."""

from collections.abc import Iterable, Sequence
from dataclasses import fields

from datasets import Dataset

from ...errors import ConfigError
from ...llm import Journal
from ...schema import each_row
from ..tasks.benchmarks import Benchmark
from ..types import Answer, Item, verdicts_table
from .code_execution import code_verdicts
from .extractors import choice_verdict, math_verdict
from .judges import Judge
from .judging import judge_answers


__all__ = ["check_graders", "grade"]

ANSWER = [field.name for field in fields(Answer)]


def check_graders(benchmarks: Iterable[Benchmark], judges: Sequence[Judge], allow_code_execution: bool) -> None:
    """See that every benchmark can be graded, before anything is asked.

    Raises:
        ConfigError: If a benchmark's kind has no judge, or it would run code that a model wrote, unasked.
    """
    for benchmark in benchmarks:
        if benchmark.grader == "judge" and not any(benchmark.kind in judge.kinds for judge in judges):
            raise ConfigError(
                f"{benchmark.name} needs a judge of {benchmark.kind.replace('_', '-')}, and none is given.",
                "Name one with --judge, such as `--judge llama-guard-3@http://localhost:8001/v1 --judge xstest`; "
                "`star-hf judge list` shows them. Nothing is scored without a judge.",
            )
        if benchmark.grader == "code" and not allow_code_execution:
            raise ConfigError(
                f"{benchmark.name} runs code that the model wrote.",
                "Allow it with --allow-code-execution (docs/evaluation.md says how it is confined), or leave it out.",
            )


def grade(
    benchmark: Benchmark,
    items: Sequence[Item],
    answers: Dataset,
    judges: Sequence[Judge],
    journal: Journal,
    *,
    progress: bool = True,
) -> Dataset:
    """Every verdict on the answers to a benchmark. Whether model code may be run has been asked by `check_graders`.

    Args:
        benchmark (`Benchmark`): Which.
        items (list of `Item`): What was asked.
        answers ([`~datasets.Dataset`]): As `ANSWERS`, to this benchmark alone.
        judges (list of `Judge`): Those that serve its kind are asked; for an extractor's benchmark none is.
        journal (`Journal`): Where their replies are kept.
        progress (`bool`, defaults to `True`): Whether to show progress bars.

    Returns:
        [`~datasets.Dataset`]: As `VERDICTS`. What cannot be graded has a failure there, never a value.

    Raises:
        IncompleteRunError: If a judge does not answer. All replies are kept, and the same call goes on.
    """
    if benchmark.grader == "judge":
        serving = [judge for judge in judges if benchmark.kind in judge.kinds]
        return judge_answers(answers, serving, journal, kind=benchmark.kind, progress=progress)
    asked = {item.id: item for item in items}
    said = [Answer(**{name: row[name] for name in ANSWER}) for row in each_row(answers)]
    if benchmark.grader == "code":
        return verdicts_table(benchmark.name, code_verdicts(asked, said, allow_code_execution=True, progress=progress))
    verdict = {"math": math_verdict, "choice": choice_verdict}[benchmark.grader]
    return verdicts_table(benchmark.name, (verdict(asked[answer.item_id], answer) for answer in said))
