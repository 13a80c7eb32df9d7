"""The requests, tokens, cost and time of a build, before anything is sent."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..llm import Annotator, Endpoint, Journal, Request
from ..llm.cost.tokens import ESTIMATE, token_counter
from ..policies import Prompts, Taxonomy
from ..transforms.classify import Classifier
from ..transforms.reason import Teacher
from ..transforms.rewrite import BenignRewriter, BenignScorer, BenignTeacher
from ..transforms.score import Scorer
from ..utils.text import join_reasoning
from .config import BuildConfig
from .run import Run


__all__ = ["StageForecast", "forecast", "forecast_stage"]

ANSWER_TOKENS = {
    "classify": 15,
    "reason": 440,
    "score": 55,
    "benign_rewrite": 40,
    "benign_reason": 600,
    "benign_score": 55,
}
"""Tokens of a response: the average of the released STAR-1 data; an estimate for the benign twins."""

TOKENS_PER_SECOND = 30
"""Assumed speed of one response."""

BATCH_HOURS = 24.0
"""Longest time of a batch."""

TRIED = 200
"""Requests of a stage that are tokenized; the others are assumed to have the same tokens per byte."""

STAND_IN = join_reasoning("thought " * 290, "answer " * 97)
"""A response of STAR-1's average length (216 and 73 words), for stages whose input does not exist yet."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class StageForecast:
    """The forecast of one stage.

    Attributes:
        requests (`int`): Requests without a response in the journal. An upper bound if the rows are not known yet,
            since rows that an earlier stage may remove are counted.
        prompt_tokens (`int`): Counted by `counted_by`.
        completion_tokens (`int`): By typical lengths of responses.
        cost_usd (`float` or `None`): Dollars, at the batch price for a batch; `None` if the price is unknown.
        hours (`float`): At 30 tokens per second for each response and the endpoint's concurrency, or by its limits on
            requests and tokens per minute if these are lower; a day for a batch.
        counted_by (`str`): The model's tokenizer, used on the first requests, or the estimate used instead.
    """

    stage: str
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    hours: float
    counted_by: str = ESTIMATE.name


def forecast(config: BuildConfig, run: Run) -> list[StageForecast]:
    """Forecast the stages that call a model, in their order.

    `collect` must be done and, unless an endpoint computes the embeddings, `deduplicate`; these cost nothing.
    """
    vectors = _vectors(config, run)
    run.table("collect" if vectors else "deduplicate")
    taxonomy = Taxonomy.load(config.policies)
    policies = {"taxonomy": taxonomy, "prompts": Prompts.load(config.prompts)}
    endpoints, size = config.endpoints, config.select.size
    steps: list[tuple[Annotator, Endpoint, str, int | None]] = [
        (Classifier(**policies), endpoints.classifier, "deduplicate", None),
        (Teacher(**policies), endpoints.teacher, "classify", None),
        (Scorer(**policies), endpoints.scorer, "reason", None),
    ]
    if config.benign.enabled:
        steps += [
            (BenignRewriter(**policies), endpoints.rewriter, "select", size),
            (BenignTeacher(**policies), endpoints.teacher, "select", size),
            (BenignScorer(**policies), endpoints.scorer, "select", size),
        ]
    with Journal(run.journal_path) as journal:
        return vectors + [
            forecast_stage(
                annotator, endpoint, _rows(run, before, taxonomy.names, limit), journal, ANSWER_TOKENS[annotator.stage]
            )
            for annotator, endpoint, before, limit in steps
        ]


def _vectors(config: BuildConfig, run: Run) -> list[StageForecast]:
    """The embeddings that `deduplicate` may request if it has not run: one per text, at most."""
    endpoint, encoder = config.deduplicate.endpoint, config.deduplicate.encoder
    if endpoint is None or encoder is None or "deduplicate" in run.records:
        return []
    from ..llm.embeddings import BATCH_SIZE

    texts = [text for name in ("rows", "held_out") for text in run.columns("collect", name, "question")[0]]
    tokens, requests = sum(map(ESTIMATE.count, texts)), math.ceil(len(texts) / (encoder.batch_size or BATCH_SIZE))
    return [
        StageForecast(
            stage="deduplicate",
            model=endpoint.model,
            requests=requests,
            prompt_tokens=tokens,
            completion_tokens=0,
            cost_usd=endpoint.cost(tokens, 0),
            hours=_hours(endpoint, requests, tokens, 0),
        )
    ]


def _rows(run: Run, before: str, names: Sequence[str], limit: int | None) -> Iterator[Row]:
    """The rows of a stage, or the last known rows with placeholders for the columns that do not exist yet."""
    table = run.table(before if before in run.records else list(run.records)[-1])
    for index, row in enumerate(table.select(range(min(limit or len(table), len(table))))):
        yield {"category": [names[index % len(names)]], "response": STAND_IN, **row}


def _hours(endpoint: Endpoint, requests: int, tokens_in: int, tokens_out: int) -> float:
    """By the lowest of concurrency, requests per minute and tokens per minute; a pool's members are added up."""
    members = endpoint.members
    places = sum(member.concurrency for member in members)
    per_minute = sum(member.requests_per_minute or math.inf for member in members)
    tokens_per_minute = sum(member.tokens_per_minute or math.inf for member in members)
    minutes = max(
        tokens_out / TOKENS_PER_SECOND / places / 60,
        requests / per_minute,
        (tokens_in + tokens_out) / tokens_per_minute,
    )
    return minutes / 60


def forecast_stage(
    annotator: Annotator, endpoint: Endpoint, rows: Iterable[Row], journal: Journal, answer_tokens: int
) -> StageForecast:
    """The forecast of an annotator over these rows, with so many tokens per response. Sends nothing."""
    identity, requests, estimated = endpoint.identity(), 0, 0
    counter = token_counter(endpoint.model)
    tried = [0, 0]  # estimated and counted tokens of the first requests
    for row in rows:
        request = Request(annotator.messages(row), annotator.schema(row), annotator.reasoning, annotator.version(row))
        if request.key(identity) in journal:
            continue
        requests += 1
        text = "\n".join(message["content"] for message in request.messages)
        estimate = ESTIMATE.count(text)
        estimated += estimate
        if requests <= TRIED:
            tried = [tried[0] + estimate, tried[1] + counter.count(text)]
    tokens_in = round(estimated * tried[1] / max(tried[0], 1))
    tokens_out = requests * answer_tokens
    batched = endpoint.batch is not None and requests >= endpoint.batch.at_least
    cost = endpoint.cost(tokens_in, tokens_out)
    return StageForecast(
        stage=annotator.stage,
        model=endpoint.model,
        requests=requests,
        prompt_tokens=tokens_in,
        completion_tokens=tokens_out,
        cost_usd=cost * endpoint.batch.price_factor if batched and cost is not None else cost,
        hours=BATCH_HOURS if batched else _hours(endpoint, requests, tokens_in, tokens_out),
        counted_by=counter.name,
    )
