"""Verdicts of extractors on a benchmark's answers, as a table beside those of judges."""

from collections.abc import Callable, Sequence

from datasets import Dataset

from .benchmarks import Benchmark
from .code_execution import code_verdicts
from .extractors import choice_verdict, math_verdict
from .scores import verdicts_table
from .types import Answer, Item, Verdict


__all__ = ["extract_verdicts"]

EXTRACTORS: dict[str, Callable[[Item, Answer], Verdict]] = {"math": math_verdict, "choice": choice_verdict}


def extract_verdicts(
    benchmark: Benchmark,
    items: Sequence[Item],
    answers: Dataset,
    *,
    allow_code_execution: bool = False,
    progress: bool = True,
) -> Dataset:
    """Grade the answers to a benchmark whose items have a right answer.

    Args:
        benchmark ([`Benchmark`]): One whose `grader` is `"math"`, `"choice"` or `"code"`.
        items (list of `Item`): What was asked.
        answers ([`~datasets.Dataset`]): As `ANSWERS`, to this benchmark alone.
        allow_code_execution (`bool`, defaults to `False`): Whether code that the model wrote may be run.
        progress (`bool`, defaults to `True`): Whether to show a bar.

    Returns:
        [`~datasets.Dataset`]: As `VERDICTS`, in the order of the answers. A failed answer keeps its failure.

    Raises:
        [`ConfigError`]: If code must be run and was not allowed.
    """
    asked = {item.id: item for item in items}
    given = [
        Answer(row["item_id"], row["sample"], row["answer"], row["reasoning"], row["failure"], row["tokens"])
        for row in answers
    ]
    if benchmark.grader == "code":
        found = code_verdicts(asked, given, allow_code_execution=allow_code_execution, progress=progress)
    else:
        grade = EXTRACTORS[benchmark.grader]
        found = [grade(asked[answer.item_id], answer) for answer in given]
    return verdicts_table(benchmark.name, found)
