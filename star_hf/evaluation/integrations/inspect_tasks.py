"""The benchmarks as inspect-ai tasks: `inspect eval star_hf/strongreject --model ...`.

Judges and data come from environment variables, see [`~star_hf.evaluation.integrations.harness`]. A failure is an
unscored sample. Imports are absolute, because inspect-ai loads the file on its own.
"""

import functools
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import anyio
import click
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.hooks import Hooks, RunEnd, hooks
from inspect_ai.log import EvalLog
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

from star_hf.errors import IncompleteRunError
from star_hf.evaluation.generation.responses import read_response
from star_hf.evaluation.integrations.harness import (
    FIELDS,
    benchmark_of,
    check_failures,
    expects_reasoning,
    grade_responses,
    ready,
    rows,
    to_item,
)
from star_hf.evaluation.results.statistics import Estimate, rate
from star_hf.evaluation.tasks.benchmarks import BENCHMARKS
from star_hf.evaluation.types import Item, Response


__all__ = ["SOLVER", "Unscored", "benchmark", "sample_of", "star1_scorer", "turn_by_turn"]

logger = logging.getLogger(__name__)

THREADS = 64

STOPS = {"stop": False, "max_tokens": True, "model_length": True}
"""How a model's own text ends, and whether that cuts it. What a provider's filter stopped is not the model's."""


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


@hooks(name="unscored", description="Says how many samples have no value; `inspect eval` fails above a share.")
class Unscored(Hooks):
    """inspect-ai's table shows rates without saying how many samples they leave out, and ends with 0."""

    async def on_run_end(self, data: RunEnd) -> None:
        """Log the number of each task, and let the command `inspect` fail at its end, when the table is shown."""
        shares = {log.eval.task: share for log in data.logs if (share := _unscored(log)) is not None}
        command = click.get_current_context(silent=True)
        if command and "inspect" in (command.find_root().info_name or ""):
            command.call_on_close(functools.partial(_fail, shares))


def _unscored(log: EvalLog) -> float | None:
    """The share of samples without a value in a log of our tasks, all where it ended early; `None` in others."""
    if not any(scorer.name.endswith("star1_scorer") for scorer in log.eval.scorers or ()):
        return None
    scores = log.results.scores if log.status == "success" and log.results else []
    if not scores:
        logger.warning("%s: it ended early, so no sample has a value", log.eval.task)
        return 1.0
    scored = scores[0].scored_samples or 0
    total = max(log.results.total_samples if log.results else 0, 1)
    if scored < total:
        said = (log.eval.task, total - scored, total)
        logger.warning("%s: %d of %d samples have no value; rates leave them out", *said)
    return 1 - scored / total


def _fail(shares: Mapping[str, float]) -> None:
    try:
        check_failures(shares)
    except IncompleteRunError as error:
        raise SystemExit(f"{error.message}\n{error.remedy}") from None


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
    if choice is None or output.error or choice.stop_reason not in STOPS:
        return read_response(item.id, None)
    content = choice.message.content
    parts = [] if isinstance(content, str) else content
    reasoning = "\n".join(part.reasoning for part in parts if isinstance(part, ContentReasoning))
    return read_response(
        item.id,
        choice.message.text,
        reasoning=reasoning or None,
        truncated=STOPS[choice.stop_reason],
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
