"""A forecast against what a build then really asks."""

import pytest

from model_server import ModelServer, star_answers
from star_hf.errors import StarError
from star_hf.llm import Batch, Endpoint, Journal
from star_hf.llm.cost.tokens import TokenCounter
from star_hf.pipeline.build import build
from star_hf.pipeline.config import BuildConfig, load_config
from star_hf.pipeline.forecast import forecast
from star_hf.pipeline.run import Run


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-real-key")
    questions = tmp_path / "questions.txt"
    questions.write_text("\n".join(f"How do I misuse thing {n} of kind {n * n}?" for n in range(30)))

    def make(server):
        endpoint = {"model": "m", "base_url": server.url, "price": {"input": 1, "output": 2}}
        return BuildConfig.model_validate(
            {
                "collect": {"sources": [], "held_out": [], "questions": str(questions)},
                "deduplicate": {"embedding_threshold": None, "tfidf_threshold": 1.0},
                "endpoints": dict.fromkeys(("classifier", "teacher", "scorer", "rewriter"), endpoint),
                "select": {"size": 5},
            }
        )

    return make


def test_the_first_stage_is_forecast_exactly_and_the_others_from_above(config, tmp_path):
    with ModelServer(star_answers) as server:
        run = build(config(server), tmp_path / "run", until="deduplicate", progress=False)
        stages = {stage.stage: stage for stage in forecast(config(server), run)}
        assert not server.requests
        build(config(server), run.folder, until="score", progress=False)
        with Journal(run.journal_path) as journal:
            asked = dict(journal._db.execute("SELECT stage, COUNT(*) FROM responses GROUP BY stage"))
    assert stages["classify"].requests == asked["classify"] == run.records["deduplicate"].rows_out
    assert stages["reason"].requests >= asked["reason"] and stages["score"].requests >= asked["score"]
    assert stages["benign_rewrite"].requests == 5
    classify = [body for body in server.requests if "category" in str(body.get("response_format"))]
    sent = sum(len(message["content"]) for body in classify for message in body["messages"])
    assert stages["classify"].prompt_tokens == pytest.approx(sent / 4, rel=0.01)
    cost = stages["classify"].prompt_tokens / 1e6 + stages["classify"].completion_tokens * 2 / 1e6
    assert stages["classify"].cost_usd == pytest.approx(cost)


def test_what_is_answered_is_not_forecast_again(config, tmp_path):
    with ModelServer(star_answers) as server:
        run = build(config(server), tmp_path / "run", progress=False)
        assert {stage.requests for stage in forecast(config(server), run)[:3]} == {0}


def test_a_run_without_rows_says_what_to_run_first(config, tmp_path):
    with ModelServer(star_answers) as server, pytest.raises(StarError, match="deduplicate"):
        forecast(config(server), Run(tmp_path / "empty"))


def test_a_batch_is_forecast_at_its_price_and_time(config, tmp_path):
    with ModelServer(star_answers) as server:
        run = build(config(server), tmp_path / "run", until="deduplicate", progress=False)
        live = forecast(config(server), run)[0]
        endpoints = config(server).endpoints
        scorer = endpoints.classifier.model_copy(update={"batch": Batch(at_least=live.requests)})
        batched = config(server).model_copy(update={"endpoints": endpoints.model_copy(update={"classifier": scorer})})
        half = forecast(batched, run)[0]
    assert half.cost_usd == pytest.approx(live.cost_usd / 2) and half.hours == 24
    assert half.requests == live.requests and half.counted_by == "UTF-8 bytes / 4"


@pytest.mark.parametrize(
    ("limits", "minutes"),
    [
        ({"concurrency": 10}, lambda stage: stage.completion_tokens / 30 / 10 / 60),
        ({"requests_per_minute": 1}, lambda stage: stage.requests),
        ({"tokens_per_minute": 100}, lambda stage: (stage.prompt_tokens + stage.completion_tokens) / 100),
        (
            {"name": "both", "pool": [{"requests_per_minute": 1}, {"requests_per_minute": 2}]},
            lambda stage: stage.requests / 3,
        ),
    ],
)
def test_hours_follow_the_narrowest_limit(config, tmp_path, limits, minutes):
    with ModelServer(star_answers) as server:
        given = config(server)
        run = build(given, tmp_path / "run", until="deduplicate", progress=False)
        endpoint = Endpoint(**{**given.endpoints.classifier.model_dump(exclude_none=True), **limits})
        endpoints = given.endpoints.model_copy(update={"classifier": endpoint})
        stage = forecast(given.model_copy(update={"endpoints": endpoints}), run)[0]
    assert stage.hours == pytest.approx(minutes(stage) / 60)


def test_a_tokenizer_at_hand_is_used(config, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "star_hf.pipeline.forecast.token_counter", lambda model: TokenCounter("words", lambda t: len(t.split()))
    )
    with ModelServer(star_answers) as server:
        run = build(config(server), tmp_path / "run", until="deduplicate", progress=False)
        stage = forecast(config(server), run)[0]
        build(config(server), run.folder, until="classify", progress=False)
    words = sum(len(message["content"].split()) for body in server.requests for message in body["messages"])
    assert stage.counted_by == "words" and stage.prompt_tokens == pytest.approx(words, rel=0.02)


def test_the_default_recipe_has_a_price_for_every_model():
    for _, endpoint in load_config().endpoints:
        assert endpoint.rate is not None
