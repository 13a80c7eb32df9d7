"""The benchmarks as inspect-ai tasks: `inspect eval star_hf/strongreject --model ...`.

Judges and data come from environment variables, see [`~star_hf.evaluation.integrations.harness`]. A failure is an
unscored sample. Imports are absolute, because inspect-ai loads the file on its own.
"""

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import anyio
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    ContentReasoning,
    ModelOutput,
)
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import Generate, Solver, TaskState, solver

from star_hf.evaluation.generation.responses import read_response
from star_hf.evaluation.integrations.harness import (
    FIELDS,
    benchmark_of,
    expects_reasoning,
    grade_responses,
    ready,
    rows,
    to_item,
)
from star_hf.evaluation.results.statistics import Estimate, rate
from star_hf.evaluation.tasks.benchmarks import BENCHMARKS
from star_hf.evaluation.types import Item, Response


__all__ = ["SOLVER", "benchmark", "sample_of", "star1_scorer", "turn_by_turn"]

THREADS = 64


@solver
def turn_by_turn() -> Solver:
    """Asks the user's turns one after the other. The model is sent its earlier answers without their reasoning, and a
    turn that fails ends the sample with that failure.

    inspect-ai's cache is not used: it knows a model's served name but not its weights.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        item = to_item(state.metadata)
        for text in (*item.turns[1:], item.prompt)[: len(item.turns)]:
            state = await generate(state, cache=False)
            answer = _answer(item, state.output)
            if answer.failure:
                state.metadata["failure"] = answer.failure
                return state
            state.messages[-1] = ChatMessageAssistant(content=answer.answer)
            state.messages.append(ChatMessageUser(content=text))
        state.metadata["history"] = [{"role": each.role, "content": each.text} for each in state.messages[:-1]]
        return await generate(state, cache=False)

    return solve


SOLVER: Solver = turn_by_turn()


@metric(name="accuracy")
def score_rate() -> Metric:
    """Share of desired answers: safe, helpful, right. NaN where nothing was scored."""
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
    """Grades as `star-hf evaluate` does. What cannot be graded is unscored, with the failure as its reason."""
    threads: list[anyio.CapacityLimiter] = []

    async def score(state: TaskState, target: Target) -> Score:
        if not threads:
            threads.append(anyio.CapacityLimiter(THREADS))
        item = to_item(state.metadata)
        answer = replace(_answer(item, state.output), history=state.metadata.get("history") or None)
        if failure := state.metadata.get("failure"):  # of an earlier turn
            answer = replace(answer, answer=None, failure=failure)
        work = functools.partial(grade_responses, benchmark, [item], [answer])
        (graded,) = await anyio.to_thread.run_sync(work, limiter=threads[0])
        about = {"thought_value": graded.thought_value, "category": graded.category}
        said = {"answer": answer.answer, "explanation": graded.detail, "metadata": about}
        if graded.value is None:
            return Score.unscored(reason=graded.failure, **said)
        return Score(value=graded.value, **said)

    return score


def sample_of(name: str, row: Mapping[str, Any]) -> Sample:
    """The sample of a row of [`~star_hf.evaluation.integrations.harness.items_folder`], once its judge is ready."""
    ready(name)
    item = to_item(row)
    asked: str | list[ChatMessage] = item.prompt
    if item.system or item.turns:
        asked = [ChatMessageSystem(content=item.system)] if item.system else []
        asked.append(ChatMessageUser(content=(*item.turns, item.prompt)[0]))
    return Sample(input=asked, target=item.target or "", id=item.id, metadata={field: row[field] for field in FIELDS})


def _answer(item: Item, output: ModelOutput) -> Response:
    choice = output.choices[0] if output.choices else None
    if choice is None or output.error:
        return read_response(item.id, None)
    content = choice.message.content
    parts = [] if isinstance(content, str) else content
    reasoning = "\n".join(part.reasoning for part in parts if isinstance(part, ContentReasoning))
    return read_response(
        item.id,
        choice.message.text,
        reasoning=reasoning or None,
        truncated=choice.stop_reason in ("max_tokens", "model_length"),
        expects_reasoning=expects_reasoning(),
    )


def _task(name: str) -> Task:
    samples, title = [sample_of(name, row) for row in rows(name)], benchmark_of(name).name
    return Task(dataset=MemoryDataset(samples, name=title), solver=[SOLVER], scorer=star1_scorer(name), name=title)


@task
def benchmark(name: str) -> Task:
    """A benchmark by its name, or a suite by its file: `inspect eval star_hf/benchmark -T name=jbb`.

    Each is also a task of its own, `star_hf/jbb`; inspect-ai loads a file only if it finds `@task` at its top level.
    """
    return _task(name)


def _define(name: str) -> None:
    @task(name=name)
    def named() -> Task:
        return _task(name)


for _name in BENCHMARKS:
    _define(_name)
