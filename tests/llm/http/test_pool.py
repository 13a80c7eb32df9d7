"""Several keys and servers that share the requests of one endpoint."""

import logging
import threading
import time

import pytest

from model_server import ModelServer, Reply
from shouter import Shouter, shouted, some_rows
from star_hf.errors import ConfigError, IncompleteRunError
from star_hf.llm import Endpoint, annotate


QUOTA = Reply(status=429, error={"code": "insufficient_quota", "message": "You have no credit."})
DOWN = Reply(status=503, headers={"Retry-After-Ms": "1"})


def pool_of(*members, **options):
    return Endpoint(model="m", provider="vllm", name="fleet", max_retries=1, concurrency=4, pool=members, **options)


def run(endpoint, journal, rows=60):
    return annotate(some_rows(rows), Shouter(), endpoint, journal, progress=False)


def test_two_servers_share_the_requests_and_the_keys_do_not_tell_which(journal, tmp_path):
    with ModelServer(shouted, delay_s=0.01) as one, ModelServer(shouted, delay_s=0.01) as other:
        outcome = run(pool_of({"base_url": one.url}, {"base_url": other.url}), journal)
        assert len(one.requests) + len(other.requests) == 60 and min(len(one.requests), len(other.requests)) > 10
        run(Endpoint(model="m", provider="vllm", name="fleet", base_url=one.url), journal)
        assert len(one.requests) + len(other.requests) == 60, "whoever answered, the request is the same"
    assert outcome.rows["loud"][:] == [f"QUESTION {i}" for i in range(60)]
    assert set(outcome.provenance["endpoint"]) == {"fleet"}


def test_each_member_keeps_to_its_own_limits(journal):
    busy, most, lock = 0, 0, threading.Lock()

    def rule(body, before):
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.02)
        with lock:
            busy -= 1
        return shouted(body, before)

    with ModelServer(rule) as narrow, ModelServer(shouted, delay_s=0.02) as wide:
        run(pool_of({"base_url": narrow.url, "concurrency": 1}, {"base_url": wide.url, "concurrency": 8}), journal)
        assert most == 1 and len(wide.requests) > 2 * len(narrow.requests)


@pytest.mark.parametrize("trouble", [QUOTA, DOWN, Reply(status=401), Reply(status=404)])
def test_a_member_in_trouble_is_set_aside_and_the_others_answer_its_requests(journal, caplog, trouble):
    caplog.set_level(logging.WARNING)
    with ModelServer(lambda body, before: trouble) as bad, ModelServer(shouted) as good:
        outcome = run(pool_of({"base_url": bad.url}, {"base_url": good.url}), journal)
        assert len(outcome.rows) == 60 and sum(good.paid.values()) == 60 and max(good.paid.values()) == 1
        assert len(bad.requests) <= 20
    warnings = [record.getMessage() for record in caplog.records if "no longer asked" in record.getMessage()]
    assert len(warnings) == 1 and bad.url in warnings[0]


def test_keys_of_one_provider_are_a_pool_too(journal, monkeypatch, caplog):
    monkeypatch.setenv("KEY_A", "a-not-a-key")
    monkeypatch.setenv("KEY_B", "b-not-a-key")
    with ModelServer(shouted, delay_s=0.01) as server:
        answer = server.answer
        server.answer = lambda body, key: QUOTA if key == "Bearer a-not-a-key" else answer(body, key)
        endpoint = Endpoint(
            model="m", base_url=server.url, concurrency=4, pool=({"api_key_env": "KEY_A"}, {"api_key_env": "KEY_B"})
        )
        assert len(run(endpoint, journal).rows) == 60
        assert endpoint.identity() == Endpoint(model="m", base_url=server.url).identity()
    assert "KEY_A is no longer asked" in caplog.text and "not-a-key" not in caplog.text


def test_when_all_are_down_the_run_is_incomplete_and_goes_on_later(journal):
    down = True
    rule = lambda body, before: DOWN if down else shouted(body, before)  # noqa: E731
    with ModelServer(rule) as one, ModelServer(rule) as other:
        endpoint = pool_of({"base_url": one.url}, {"base_url": other.url})
        with pytest.raises(IncompleteRunError, match="60 of 60 rows"):
            run(endpoint, journal)
        assert len(one.requests) + len(other.requests) < 80
        down = False
        assert len(run(endpoint, journal).rows) == 60


def test_a_server_is_down_after_so_many_failures_in_a_row_and_not_before(journal):
    def odd_ones_fail(body, before):
        odd = int(body["messages"][0]["content"].split()[-1]) % 2
        return DOWN if odd else shouted(body, before)

    with ModelServer(lambda body, before: DOWN) as server:
        endpoint = Endpoint(model="m", provider="vllm", base_url=server.url, max_retries=0, concurrency=1)
        with pytest.raises(IncompleteRunError, match="20 of 20 rows"):
            run(endpoint, journal, rows=20)
        assert len(server.requests) == 3
        server.rule = odd_ones_fail
        with pytest.raises(IncompleteRunError, match="10 of 20 rows"):
            run(endpoint, journal, rows=20)


def test_when_all_refuse_the_first_refusal_is_told(journal):
    with ModelServer(lambda body, before: QUOTA) as one, ModelServer(lambda body, before: QUOTA) as other:
        with pytest.raises(ConfigError, match="You have no credit"):
            run(pool_of({"base_url": one.url}, {"base_url": other.url}), journal)


def test_the_last_request_of_a_server_that_dies_finds_another(journal):
    """The good server has long finished when the bad one gives up."""

    def die(body, before):
        time.sleep(0.3)
        return DOWN

    with ModelServer(die) as bad, ModelServer(shouted) as good:
        assert len(run(pool_of({"base_url": bad.url}, {"base_url": good.url}), journal, rows=10).rows) == 10


def test_a_request_that_every_member_fails_is_told_and_the_others_are_answered(journal):
    def one_fails(body, before):
        return DOWN if body["messages"][0]["content"].endswith(" 7") else shouted(body, before)

    with ModelServer(one_fails) as one, ModelServer(one_fails) as other:
        with pytest.raises(IncompleteRunError, match="for 1 of 20 rows"):
            run(pool_of({"base_url": one.url}, {"base_url": other.url}), journal, rows=20)
        asked = [body["messages"][0]["content"] for body in one.requests + other.requests]
    assert len(journal) == 19 and asked.count("Shout: question 7") == 4, "twice by each"


def test_servers_without_a_common_name_are_refused():
    with pytest.raises(ConfigError, match="needs a `name`"):
        Endpoint(model="m", provider="vllm", pool=({"base_url": "http://a/v1"}, {"base_url": "http://b/v1"}))


def test_a_member_may_have_its_own_name_for_the_model(journal):
    with ModelServer(shouted) as one, ModelServer(shouted) as other:
        run(pool_of({"base_url": one.url}, {"base_url": other.url, "model": "m-eu"}), journal)
        assert {body["model"] for body in one.requests} == {"m"}
        assert {body["model"] for body in other.requests} == {"m-eu"}


def test_a_deadline_ends_a_stage_and_keeps_what_was_answered(journal):
    with ModelServer(shouted, delay_s=0.05) as server:
        endpoint = Endpoint(model="m", provider="vllm", base_url=server.url, concurrency=2, deadline_s=0.5)
        with pytest.raises(IncompleteRunError, match="the deadline of 0.5 s for this stage has passed"):
            run(endpoint, journal, rows=500)
        assert 2 <= len(journal) == sum(server.paid.values()) < 100


@pytest.mark.parametrize("limits", [{"requests_per_minute": 6}, {"max_retries": 6}])
def test_a_deadline_does_not_wait_for_limits_or_retries(journal, limits):
    rule = shouted if "requests_per_minute" in limits else lambda body, before: Reply(status=500)
    with ModelServer(rule) as server:
        endpoint = Endpoint(model="m", provider="vllm", base_url=server.url, deadline_s=0.5, **limits)
        started = time.monotonic()
        with pytest.raises(IncompleteRunError, match="60 of 60|has passed"):
            run(endpoint, journal)
        assert time.monotonic() - started < 4
