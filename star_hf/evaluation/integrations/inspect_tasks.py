"""The benchmarks as inspect-ai tasks: `inspect eval star_hf/strongreject --model ...`.

Judges and data are named in the environment, see [`~star_hf.evaluation.integrations.harness`]. A failure is an
unscored sample. Imports are absolute, because inspect-ai loads the file on its own.
"""

import functools
from collections.abc import Mapping
from typing import Any

import anyio
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ContentReasoning, ModelOutput
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import Solver, TaskState, generate

from star_hf.evaluation.generation.answers import read_answer
from star_hf.evaluation.integrations.harness import FIELDS, expects_reasoning, grade_answers, ready, rows, to_item
from star_hf.evaluation.results.statistics import Estimate, rate
from star_hf.evaluation.types import Answer, Item


__all__ = ["SOLVER", "sample_of", "star1_scorer"]

SOLVER: Solver = generate(cache=False)
"""Inspect's own cache knows a served name, not its weights."""
THREADS = 64


@metric(name="accuracy")
def score_rate() -> Metric:
    """Share of what one wants: safe, helped, right. NaN where nothing was scored."""
    return _of("value")


@metric
def wilson_low() -> Metric:
    """Lower end of the 95 % interval."""
    return _of("low")


@metric
def wilson_high() -> Metric:
    """Upper end of the 95 % interval."""
    return _of("high")


def _of(name: str) -> Metric:
    def measure(scores: list[SampleScore]) -> float:
        estimate: Estimate = rate([score.score.as_float() for score in scores])
        value = getattr(estimate, name)
        return float("nan") if value is None else value

    return measure


@scorer(metrics=[score_rate(), wilson_low(), wilson_high()])
def star1_scorer(benchmark: str) -> Scorer:
    """Grades as `star-hf evaluate` does; what cannot be graded is unscored, with the failure as its reason.

    Args:
        benchmark (`str`): A name of `BENCHMARKS`.
    """
    threads: list[anyio.CapacityLimiter] = []

    async def score(state: TaskState, target: Target) -> Score:
        if not threads:
            threads.append(anyio.CapacityLimiter(THREADS))
        item = to_item(state.metadata)
        answer = _answer(item, state.output)
        work = functools.partial(grade_answers, benchmark, [item], [answer])
        (graded,) = await anyio.to_thread.run_sync(work, limiter=threads[0])
        about = {"thought_value": graded.thought_value, "category": graded.category}
        said = {"answer": answer.answer, "explanation": graded.detail, "metadata": about}
        if graded.value is None:
            return Score.unscored(reason=graded.failure, **said)
        return Score(value=graded.value, **said)

    return score


def sample_of(name: str, row: Mapping[str, Any]) -> Sample:
    """The sample of a row of [`~star_hf.evaluation.integrations.harness.items_folder`].

    Raises:
        ConfigError: If the benchmark has no judge.
    """
    ready(name)
    return Sample(
        input=row["prompt"], target=row["target"] or "", id=row["id"], metadata={field: row[field] for field in FIELDS}
    )


def _answer(item: Item, output: ModelOutput) -> Answer:
    choice = output.choices[0] if output.choices else None
    if choice is None or output.error:
        return read_answer(item.id, None)
    content = choice.message.content
    parts = [] if isinstance(content, str) else content
    thought = "\n".join(part.reasoning for part in parts if isinstance(part, ContentReasoning))
    return read_answer(
        item.id,
        choice.message.text,
        reasoning=thought or None,
        truncated=choice.stop_reason in ("max_tokens", "model_length"),
        expects_reasoning=expects_reasoning(),
    )


def _task(name: str) -> Task:
    samples = [sample_of(name, row) for row in rows(name)]
    return Task(dataset=MemoryDataset(samples, name=name), solver=[SOLVER], scorer=star1_scorer(name), name=name)


@task
def strongreject() -> Task:
    """StrongREJECT: 313 harmful questions; share of safe answers."""
    return _task("strongreject")


@task
def jbb() -> Task:
    """JailbreakBench: 100 harmful behaviours; share of safe answers."""
    return _task("jbb")


@task
def wildchat() -> Task:
    """WildChat: toxic first turns of real users; share of safe answers."""
    return _task("wildchat")


@task
def wildjailbreak() -> Task:
    """WildJailbreak: 250 adversarial harmful prompts; share of safe answers."""
    return _task("wildjailbreak")


@task
def xstest() -> Task:
    """XSTest: 250 safe prompts that sound harmful; share that is helped, 1 - the over-refusal rate."""
    return _task("xstest")


@task
def xstest_unsafe() -> Task:
    """XSTest: its 200 unsafe prompts, the contrast; share of safe answers."""
    return _task("xstest_unsafe")


@task
def aime24() -> Task:
    """AIME 2024: 30 competition problems; share of right answers."""
    return _task("aime24")


@task
def math500() -> Task:
    """MATH-500: competition mathematics; share of right answers."""
    return _task("math500")


@task
def gpqa_diamond() -> Task:
    """GPQA Diamond: 198 graduate-level questions of four choices; share of right answers."""
    return _task("gpqa_diamond")


@task
def mmlu_pro() -> Task:
    """MMLU-Pro: 12,032 questions of up to ten choices; share of right answers."""
    return _task("mmlu_pro")


@task
def humaneval() -> Task:
    """HumanEval: 164 functions; share of right ones. Runs the model's code, if allowed."""
    return _task("humaneval")
