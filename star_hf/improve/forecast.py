"""The calls, dollars and hours of an improvement, before anything is sent; `None` where that cannot be known."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from ..evaluation.grading.judges.kinds import Kinds
from ..evaluation.tasks.benchmarks import select_benchmarks
from ..evaluation.tasks.profiles import load_evaluation
from ..llm import Endpoint, Journal
from ..llm.types import Message
from ..pipeline.forecast import ANSWER_TOKENS, STAND_IN, StageForecast, forecast_stage
from ..policies import Prompts
from ..suites.drafting import Drafting, forecast_draft
from ..transforms.reason import Teacher
from ..transforms.score import Scorer
from .config import ImproveConfig
from .data import STEP
from .ledger import Ledger
from .measure import Subject


__all__ = ["RoundForecast", "StepForecast", "forecast"]

JUDGED_TOKENS, QUESTION = 80, "a question of usual length about the rule, as a user would ask it"


@dataclass(frozen=True)
class StepForecast:
    """The forecast of one step, for one model.

    Attributes:
        cost_usd (`float` or `None`): Dollars; `None` if they cannot be known, as of a trainer or a server of your own.
        hours (`float` or `None`): As of [`~star_hf.pipeline.forecast.StageForecast`]; of a training by the last one.
    """

    step: str
    model: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    hours: float | None

    @classmethod
    def of(cls, step: str, stage: StageForecast, times: float = 1.0) -> "StepForecast":
        """A stage's forecast, so many times."""
        numbers = (stage.requests, stage.prompt_tokens, stage.completion_tokens)
        cost = None if stage.cost_usd is None else stage.cost_usd * times
        return cls(step, stage.model, *(math.ceil(n * times) for n in numbers), cost, stage.hours * times)


@dataclass(frozen=True)
class RoundForecast:
    """The forecast of a round, the base model's first, with all that is still to be done in it."""

    name: str
    stages: tuple[StepForecast, ...]


class _Asked:
    """Questions for the model under test."""

    stage, reasoning = "evaluate", False

    def messages(self, row: Mapping[str, Any]) -> list[Message]:
        system = [{"role": "system", "content": row["system"]}] if row["system"] else []
        return [*system, {"role": "user", "content": row["question"]}]

    def schema(self, row: Mapping[str, Any]) -> None:
        return None

    def version(self, row: Mapping[str, Any]) -> str:
        return ""


def forecast(config: ImproveConfig, run_dir: str | Path) -> list[RoundForecast]:
    """Forecast the rounds that are not done yet, at most: each round in full, for any rules. Sends nothing.

    A benchmark's items are those that it is known to have, with the profile's samples.
    """
    subject = Subject.of(config)
    for _, endpoint in config.endpoints:
        endpoint.check()
    ledger = Ledger(run_dir)
    done = ledger.stages
    with Journal(ledger.journal) as journal:
        asking, making = _evaluation(subject, journal), _data(subject, journal)
    rounds = []
    for number in range(config.rounds + 1):
        stages = [] if number == 0 or f"round-{number} rows" in done else list(making)
        if number and f"round-{number} train" not in done:
            stages.append(StepForecast("train", config.model, 0, 0, 0, None, _training_hours(ledger, number)))
        if f"round-{number} evaluate" not in done:
            stages += asking
        rounds.append(RoundForecast("base" if number == 0 else f"round-{number}", tuple(stages)))
    return rounds


def _training_hours(ledger: Ledger, number: int) -> float | None:
    """By the last training of this run, in proportion to the rows."""
    for before in range(number - 1, 0, -1):
        train, mixture = (ledger.stages.get(f"round-{before} {stage}") for stage in ("train", "mixture"))
        if train is not None and mixture is not None:
            return train.seconds / 3600 * number / before
    return None


def _evaluation(subject: Subject, journal: Journal) -> list[StepForecast]:
    config, profile = subject.config, load_evaluation(subject.config.profile)
    limits = {"samples": config.samples, "max_tokens": config.max_tokens}
    cases = subject.sealed.cases
    samples = profile.sampling("", **limits).samples
    asked = [{"system": subject.system_prompt, "question": turn} for case in cases for turn in case.turns] * samples
    judged = {"policy": [(case.turns[-1], case.expect) for case in cases] * samples}
    for benchmark in select_benchmarks(config.tasks):
        items = min(benchmark.count or 0, config.limit or benchmark.count or 0)
        items *= profile.sampling(benchmark.name, **limits).samples
        asked += [{"system": subject.system_prompt, "question": QUESTION}] * items
        judged[benchmark.kind] = judged.get(benchmark.kind, []) + [(QUESTION, None)] * items
    stages = [_subject(config, asked, journal)]
    for judge in subject.judges:
        for kind, pairs in judged.items():
            if judge.endpoint is None or kind not in judge.kinds:
                continue
            family = judge.family(kind)
            family = replace(family, rules=subject.suite.rules) if isinstance(family, Kinds) else family
            rows = [{"question": question, "target": target, "kind": kind} for question, target in pairs]
            rows = [{**row, "response": QUESTION * 6, "part": "answer", "history": None} for row in rows]
            stage = forecast_stage(family, judge.endpoint, rows, journal, JUDGED_TOKENS)
            stages.append(StepForecast.of(f"judge {kind}", stage))
    return stages


def _subject(config: ImproveConfig, asked: list[dict[str, Any]], journal: Journal) -> StepForecast:
    """The model under test: in this process it costs nothing, and its speed is unknown."""
    endpoint = Endpoint(model=config.model, provider="vllm") if config.serve is None else config.serve.endpoint
    stage = forecast_stage(_Asked(), endpoint, asked, journal, ANSWER_TOKENS["reason"])
    found = replace(StepForecast.of("ask the model", stage), model=config.model)
    return replace(found, cost_usd=0.0, hours=None) if config.serve is None else found


def _data(subject: Subject, journal: Journal) -> list[StepForecast]:
    """Drafts, answers and scores of one round; for which rules is not known yet, so all are counted alike."""
    config, prompts = subject.config, Prompts.load(subject.config.prompts)
    questions = math.ceil(config.rows.size * config.rows.spare)
    rules = list(dict.fromkeys(case.rule for case in subject.suite.cases))
    options = Drafting(per_rule=STEP, prompts=prompts, rules=rules)
    roles = config.endpoints
    drafts = forecast_draft(subject.taxonomy, roles.drafter, journal, checker=roles.checker, options=options)
    times = max(1.0, questions / STEP / len(rules))
    about = cycle({"category": [rule.rpartition("#")[0]]} for rule in rules)
    rows = [{**row, "question": QUESTION, "response": STAND_IN} for row in islice(about, questions)]
    policies = {"taxonomy": subject.taxonomy, "prompts": prompts}
    answers = forecast_stage(Teacher(**policies), roles.teacher, rows, journal, ANSWER_TOKENS["reason"])
    scores = forecast_stage(Scorer(**policies), roles.scorer, rows, journal, ANSWER_TOKENS["score"])
    steps = [("draft", drafts[0], times), ("check drafts", drafts[1], times), ("answer", answers, 1.0)]
    return [StepForecast.of(*step) for step in [*steps, ("score", scores, 1.0)]]
