"""
name:
STAR-1

dataset:
StrongREJECT, JailbreakBench, WildChat, WildJailbreak, XSTest, AIME 2024, MATH-500, GPQA Diamond, MMLU-Pro, HumanEval

abstract:
Safety, over-refusal and reasoning of reasoning models, as in STAR-1 (Safer Alignment of Reasoning LLMs with 1K Data).

languages:
english

tags:
safety, over-refusal, reasoning

paper:
https://arxiv.org/abs/2504.01903
"""

import re
from functools import partial
from itertools import zip_longest
from typing import Any

from lighteval.metrics.metrics_sample import SampleLevelComputation
from lighteval.metrics.utils.metric_utils import SampleLevelMetric
from lighteval.models.model_output import ModelResponse
from lighteval.tasks.lighteval_task import LightevalTaskConfig
from lighteval.tasks.requests import Doc, SamplingMethod

from star_hf.errors import ConfigError
from star_hf.evaluation.generation.responses import read_response
from star_hf.evaluation.integrations import harness
from star_hf.evaluation.integrations.inspect_tasks import SOLVER, sample_of, star1_scorer
from star_hf.evaluation.tasks.benchmarks import BENCHMARKS
from star_hf.evaluation.types import Response
from star_hf.utils.text import OPEN


__all__ = ["TASKS_TABLE", "Star1Task", "Verdicts"]


class Star1Task(LightevalTaskConfig):
    """A task that reads its data when lighteval asks for their place, so that importing this file reads nothing. Its
    text is the same in every process: lighteval caches generations by the hash of that text."""

    @property
    def hf_repo(self) -> str:
        """A folder of the benchmark's items, named by their hash."""
        return harness.items_folder(self.name.removeprefix("star1:"))

    @hf_repo.setter
    def hf_repo(self, value: str) -> None:
        pass

    def __str__(self, lite: bool = False) -> str:
        return re.sub(r" at 0x[0-9a-f]+", "", super().__str__(lite))


class Verdicts(SampleLevelComputation):
    """The verdicts on all responses at once. Empty responses of a dead endpoint are failures.

    Args:
        benchmark (`str`): A name of `BENCHMARKS`. It is part of the task's hash, the key of lighteval's cache.
    """

    def __init__(self, benchmark: str):
        self.benchmark = benchmark

    def compute(self, responses: list[ModelResponse], docs: list[Doc], **unused: Any) -> list[dict[str, Any]]:
        """One `Graded` per document, as a dict; lighteval keeps them with the details."""
        items = [harness.to_item(doc.specific) for doc in docs]
        answers = [answer for pair in zip(docs, responses, strict=True) for answer in answers_of(*pair)]
        return [vars(graded) for graded in harness.grade_responses(self.benchmark, items, answers)]


def answers_of(doc: Doc, response: ModelResponse) -> list[Response]:
    """The samples of a response. A text as long as the limit was cut, if the backend tells lengths. Where the prompt
    opens the thought, a text that does not close it is not an answer. No text means that the endpoint failed."""
    prompt = response.input if isinstance(response.input, str) else None
    thinks = harness.expects_reasoning() or (prompt or "").rstrip().endswith(OPEN)
    lengths = [len(tokens) for tokens in response.output_tokens] if prompt is not None else []
    thoughts = response.reasonings or []
    return [
        read_response(
            doc.specific["id"],
            text if text or length else None,
            reasoning=thought,
            truncated=length is not None and length >= doc.generation_size,
            expects_reasoning=thinks,
            sample=sample,
        )
        for sample, (text, thought, length) in enumerate(zip_longest(response.text, thoughts, lengths))
    ]


def summary(graded: list[dict[str, Any]], benchmark: str) -> dict[str, float]:
    """The rate over the documents, with its interval and the number of those that it leaves out."""
    return harness.summary(benchmark, [harness.Graded(**each) for each in graded])


def prompt(line: dict[str, Any], task_name: str) -> Doc:
    """The item as lighteval's document. Without a judge for it, this fails before anything is generated."""
    harness.ready(task_name.removeprefix("star1:"))
    row = {name: line[name] for name in harness.FIELDS}
    item = harness.to_item(row)
    if item.system or item.turns:
        raise ConfigError(
            f"{task_name}: item {item.id} has a system prompt or several turns, which lighteval cannot send.",
            "Use `star-hf evaluate`, `inspect eval` or `lighteval eval`.",
        )
    return Doc(task_name=task_name, query=row["prompt"], choices=[row["target"] or ""], gold_index=0, specific=row)


def _task(name: str) -> LightevalTaskConfig:
    metric = SampleLevelMetric(
        metric_name="score",
        higher_is_better=True,
        category=SamplingMethod.GENERATIVE,
        sample_level_fn=Verdicts(name),
        corpus_level_fn=partial(summary, benchmark=name),
        batched_compute=True,
    )
    return Star1Task(
        name=f"star1:{name}",
        prompt_function=prompt,
        hf_repo="",
        hf_subset="default",
        metrics=[metric],
        solver=[SOLVER],
        scorer=star1_scorer(name),
        sample_fields=partial(sample_of, name),
        hf_avail_splits=["test"],
        evaluation_splits=["test"],
        generation_size=harness.max_tokens(name),
        stop_sequence=[],
        version=1,
    )


TASKS_TABLE = [_task(name) for name in (*BENCHMARKS, *harness.suites())]
