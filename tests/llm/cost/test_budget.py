import json

import pytest

from model_server import ModelServer, Reply
from shouter import Shouter, shouted, some_rows
from star_hf.errors import ConfigError, IncompleteRunError
from star_hf.llm import Budget, Endpoint, Journal, Request, annotate


PRICE = {"input": 1_000.0, "output": 10_000.0}
COST = (100 * 1_000 + 10 * 10_000) / 1e6  # what ModelServer bills for an answer: 100 tokens in, 10 out


@pytest.fixture
def priced(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-real-key")

    def make(server, **options):
        return Endpoint(model="m", base_url=server.url, max_tokens=20, **{"price": PRICE, "concurrency": 8, **options})

    return make


def run(rows, endpoint, journal, budget):
    return annotate(rows, Shouter(), endpoint, journal, budget=budget, progress=False)


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_budget_is_never_exceeded_and_the_run_goes_on_with_a_higher_one(priced, tmp_path, concurrency):
    with ModelServer(shouted, delay_s=0.01) as server, Journal(tmp_path / "j.sqlite") as journal:
        endpoint = priced(server, concurrency=concurrency)
        with pytest.raises(IncompleteRunError, match=r"budget of \$2 allows no further .*\$.* spent") as caught:
            run(some_rows(40), endpoint, journal, Budget(2.0))
        assert "higher budget" in caught.value.remedy
        paid = sum(server.paid.values())
        assert 0 < paid * COST <= 2.0
        assert journal.cost() == pytest.approx(paid * COST)
        with pytest.raises(IncompleteRunError):
            run(some_rows(40), endpoint, journal, Budget(2.0, journal.cost()))
        assert sum(server.paid.values()) * COST <= 2.0, "what was spent before counts"
        outcome = run(some_rows(40), endpoint, journal, Budget(100.0, journal.cost()))
        assert max(server.paid.values()) == 1
    assert len(outcome.rows) == 40


def test_an_answer_without_usage_is_not_taken_for_free(priced, tmp_path):
    def silent(body, before):
        choice = {"message": {"content": shouted(body, before)}, "finish_reason": "stop"}
        return Reply(raw=json.dumps({"choices": [choice]}).encode())

    with ModelServer(silent) as server, Journal(tmp_path / "j.sqlite") as journal:
        with pytest.raises(IncompleteRunError, match="budget"):
            run(some_rows(40), priced(server), journal, Budget(2.0))
        # A prompt is "Shout: question 7", an answer {"loud": "QUESTION 7"}: five tokens of four bytes each.
        assert 0.5 < journal.cost() <= 2.0 and len(server.requests) < 40


def test_what_is_in_flight_counts():
    endpoint = Endpoint(model="m", max_tokens=100, price={"input": 0.0, "output": 10_000.0})
    request, budget = Request([{"role": "user", "content": "x"}]), Budget(2.5)
    assert [budget.reserve(key, request, endpoint) for key in "abc"] == [True, True, False]
    budget.settle("a", 0.1)
    assert budget.reserve("c", request, endpoint) and budget.spent_usd == pytest.approx(0.1)
    assert not budget.reserve("d", request, endpoint)
    budget.release()
    assert budget.reserve("d", request, endpoint)


def test_a_request_that_uses_up_the_limit_exactly_is_sent():
    endpoint = Endpoint(model="m", max_tokens=100, price={"input": 0.0, "output": 10_000.0})  # a dollar an answer
    request, budget = Request([{"role": "user", "content": "x"}]), Budget(2.0)
    assert [budget.reserve(key, request, endpoint) for key in "abc"] == [True, True, False]


def test_what_failed_requests_had_reserved_is_there_for_the_next_stage(priced, tmp_path):
    down = Reply(status=500, headers={"Retry-After-Ms": "1"})
    with ModelServer(lambda body, before: down) as server, Journal(tmp_path / "j.sqlite") as journal:
        endpoint, budget = priced(server, max_retries=0), Budget(1.0)  # enough for four requests at a time
        with pytest.raises(IncompleteRunError, match="answered 500"):
            run(some_rows(4), endpoint, journal, budget)
        server.rule = shouted
        assert len(run(some_rows(4), endpoint, journal, budget).rows) == 4


def test_a_budget_without_a_price_is_refused_before_anything_is_sent(priced, tmp_path):
    with ModelServer(shouted) as server, Journal(tmp_path / "j.sqlite") as journal:
        with pytest.raises(ConfigError, match="has no price"):
            run(some_rows(2), priced(server, price=None), journal, Budget(1.0))
        assert not server.requests


def test_an_embedded_model_costs_nothing():
    assert Budget(0.0).reserve("k", Request([{"role": "user", "content": "x"}]), Endpoint(provider="local", model="m"))
