"""The limits alone, on a clock that only sleeping moves, and what the client makes of them against a server."""

import asyncio
import json
import threading
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_server import ModelServer, Reply
from star_hf.llm import Endpoint, Request
from star_hf.llm.http import limits
from star_hf.llm.http.limits import InFlight, Pace, RateLimits, retry_after_s, wait_s
from star_hf.llm.http.pool import HttpProvider
from star_hf.llm.types import Completion


class Clock:
    """Stands in for `time` and `asyncio.sleep` in `limits`."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    async def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(limits.time, "monotonic", clock.monotonic)
    monkeypatch.setattr(limits.asyncio, "sleep", clock.sleep)
    return clock


def taken_at(pace, amounts, clock):
    async def take_all():
        times = []
        for amount in amounts:
            await pace.take(amount)
            times.append(clock.now)
        return times

    return asyncio.run(take_all())


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60), st.integers(10, 2000))
def test_no_minute_holds_more_than_the_pace_and_its_burst(amounts, per_minute):
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr(limits.time, "monotonic", clock.monotonic)
        patch.setattr(limits.asyncio, "sleep", clock.sleep)
        times = taken_at(Pace(per_minute), amounts, clock)
    for first, start in enumerate(times):
        within = [amount for at, amount in zip(times[first:], amounts[first:], strict=True) if at < start + 60]
        # The last one taken may go into debt.
        assert sum(within[:-1]) <= per_minute * (61 / 60) + 1e-6


def test_a_pace_is_used_up_and_not_only_kept(clock):
    times = taken_at(Pace(60), [1] * 61, clock)
    assert times[-1] - times[0] == pytest.approx(59, abs=1.01)


def test_without_a_limit_nothing_waits(clock):
    assert taken_at(Pace(), [1e9] * 100, clock) == [1000.0] * 100


def test_what_was_estimated_too_high_is_given_back(clock):
    pace = Pace(60)
    taken_at(pace, [100], clock)
    pace.correct(-90)
    assert taken_at(pace, [1], clock)[0] - 1000.0 <= 10


def test_a_request_that_failed_used_no_tokens(clock):
    ours = RateLimits(Endpoint(provider="vllm", model="m", tokens_per_minute=600))
    asyncio.run(ours.admit(600))
    ours.failed({}, 600, 500, clock.now)
    assert taken_at(ours.tokens, [1], clock) == [1000.0]


def test_the_users_pace_holds_where_the_provider_allows_more(clock):
    pace = Pace(60)
    pace.learn(600, None, 1)
    assert pace.per_minute == 60
    pace.learn(30, None, 1)
    assert pace.per_minute == 30
    pace.learn(None, None, 1)
    assert pace.per_minute == 30


def test_what_does_not_remain_is_waited_for(clock):
    pace = Pace()
    pace.learn(60, 2, 1)
    assert taken_at(pace, [1], clock) == [1000.0]
    pace.learn(60, 0, 10)
    assert taken_at(pace, [10], clock)[0] == pytest.approx(1010)


@pytest.mark.parametrize("text", ["", "nan", "inf", "-1", "0", "many", "1e400"])
def test_a_limit_that_is_no_limit_is_ignored(clock, text):
    ours = RateLimits(Endpoint(provider="vllm", model="m"))
    headers = {f"x-ratelimit-limit-{name}": text for name in ("requests", "tokens")}
    ours.answered(headers, 10, Completion("hi"))
    assert taken_at(ours.requests, [1, 1, 1], clock) == taken_at(ours.tokens, [9e9, 1, 1], clock) == [1000.0] * 3


@pytest.mark.parametrize("text", ["1", "0.001", "999"])
def test_a_limit_below_a_single_request_holds_nothing_back(clock, text):
    ours = RateLimits(Endpoint(provider="vllm", model="m"))
    ours.answered({"x-ratelimit-limit-tokens": text}, 1000, Completion("hi"))
    assert taken_at(ours.tokens, [1000, 1000], clock) == [1000.0] * 2
    ours.answered({"x-ratelimit-limit-tokens": "60000"}, 1000, Completion("hi"))
    assert taken_at(ours.tokens, [2000, 1], clock) == [1000.0, pytest.approx(1001.0)]


def test_the_estimate_follows_the_answers_and_max_tokens_stands():
    request = Request([{"role": "user", "content": "x" * 400}])
    assert RateLimits(Endpoint(provider="vllm", model="m", max_tokens=50)).estimate(request) == 150
    ours = RateLimits(Endpoint(provider="vllm", model="m"))
    for _ in range(100):
        ours.answered({}, 1100, Completion("hi", prompt_tokens=100, completion_tokens=7))
    assert ours.estimate(request) == pytest.approx(107, abs=1)


def test_places_are_halved_once_per_round_trip_and_come_back_one_by_one(clock):
    places = InFlight(16)
    clock.now += 1
    for _ in range(12):
        places.overload(sent_at=1000.0)
        clock.now += 0.1
    assert places.limit == 8
    for _ in range(2):
        places.overload(sent_at=clock.now)
    assert places.limit == 4
    for _ in range(4):
        places.succeed()
    assert places.limit == 5
    for _ in range(1000):
        places.succeed()
    assert places.limit == 16
    for _ in range(10):
        clock.now += 1
        for _ in range(4):
            places.overload(sent_at=clock.now)
    assert places.limit == 1


def test_a_provider_that_is_busy_now_and_then_keeps_its_places(clock):
    places = InFlight(64)
    for number in range(10_000):
        places.overload(sent_at=clock.now) if number % 8 == 0 else places.succeed()
        clock.now += 0.01
    assert places.limit == 64


def test_never_more_are_in_flight_than_there_are_places():
    places, busy, seen = InFlight(8), 0, []

    async def one(number):
        nonlocal busy
        async with places:
            busy += 1
            seen.append((busy, places.limit))
            await asyncio.sleep(0.001)
            if number == 20:
                places.overload(time.monotonic())
                places.overload(time.monotonic())
            elif number > 20:
                places.succeed()
            busy -= 1

    async def everyone():
        await asyncio.wait_for(asyncio.gather(*(one(number) for number in range(120))), 5)

    asyncio.run(everyone())
    assert len(seen) == 120 and all(busy <= limit for busy, limit in seen)
    assert max(busy for busy, _ in seen) == 8 and min(limit for _, limit in seen) == 4


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "86400"}, 120),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Wed, 99 Foo 20260 99:99:99 GMT"}, None),
        ({"retry-after": formatdate(0, usegmt=True)}, 0),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers, seconds):
    assert retry_after_s(headers) == seconds


def test_retry_after_may_be_a_date():
    assert retry_after_s({"retry-after": formatdate(time.time() + 30, usegmt=True)}) == pytest.approx(30, abs=2)


def test_waits_grow_are_jittered_and_capped():
    for failures, most in ((0, 0.5), (3, 4.0), (10_000, 120.0)):
        waits = [wait_s(failures) for _ in range(200)]
        assert 0 <= min(waits) < most / 4 and most * 3 / 4 < max(waits) <= most
    assert all(10 <= wait_s(5, 10.0) <= 11 for _ in range(100))


def ask(server, count=1, **options):
    """Drain so many requests; returns what was kept, what failed, and the seconds it took."""
    endpoint = Endpoint(provider="vllm", model="m", base_url=server.url, **options)
    requests = ((str(i), Request([{"role": "user", "content": str(i)}])) for i in range(count))
    kept, started = {}, time.monotonic()
    failures = HttpProvider(endpoint).complete(requests, kept.__setitem__)
    return kept, failures, time.monotonic() - started


def timed(rule):
    """The rule, and a list of when each request came: what `ask` measures holds the making of a client, too."""
    came = []

    def told(body, before):
        came.append(time.monotonic())
        return rule(body, before)

    return told, came


def test_requests_per_minute_hold_on_the_wire():
    rule, came = timed(lambda body, before: "hi")
    with ModelServer(rule) as server:
        kept, _, _ = ask(server, 8, requests_per_minute=180)
    assert len(kept) == 8 and 0.8 <= came[-1] - came[0] < 4


def test_tokens_per_minute_hold_on_the_wire():
    rule, came = timed(lambda body, before: "hi")
    with ModelServer(rule) as server:  # which says 110 tokens for each answer
        kept, _, _ = ask(server, 5, tokens_per_minute=110 * 120, concurrency=1, max_tokens=10)
    assert len(kept) == 5 and 0.9 <= came[-1] - came[0] < 4


def test_tokens_per_minute_are_corrected_by_what_an_answer_really_took():
    # 1000 tokens estimated at first, 110 used: by the estimate alone, ten requests would take ten seconds.
    with ModelServer(lambda body, before: "hi") as server:
        kept, _, seconds = ask(server, 10, tokens_per_minute=60_000, concurrency=1)
    assert len(kept) == 10 and seconds < 4


@pytest.mark.parametrize("status", [200, 500])
def test_the_providers_limit_is_learned_from_its_headers(status):
    def rule(body, before):
        limited = {"x-ratelimit-limit-requests": "120", "Retry-After-Ms": "1"}
        return Reply("hi", headers=limited, status=200 if before else status)

    rule, came = timed(rule)
    with ModelServer(rule) as server:
        kept, _, _ = ask(server, 6 if status == 200 else 3, concurrency=1)
    assert len(kept) * (1 if status == 200 else 2) == len(came) == 6 and 0.9 <= came[-1] - came[0] < 4


def test_retry_after_holds_the_whole_endpoint_back():
    def once(body, before):
        first = body["messages"][0]["content"] == "0" and not before
        return Reply(status=429, headers={"Retry-After": "1"}) if first else "hi"

    rule, came = timed(once)
    with ModelServer(rule, delay_s=0.05) as server:
        kept, failures, _ = ask(server, 8, concurrency=2)
    assert len(kept) == 8 and not failures and len(came) == 9
    assert sum(at < came[0] + 0.9 for at in came) <= 3, "the other place, too, waits"
    assert came[-1] - came[0] < 3


def test_a_request_that_failed_waits_as_long_as_it_is_told():
    rule, came = timed(lambda body, before: "hi" if before else Reply(status=500, headers={"Retry-After": "1"}))
    with ModelServer(rule) as server:
        assert len(ask(server)[0]) == 1
    assert 0.95 <= came[1] - came[0] < 3


def test_overload_lowers_the_number_in_flight_and_successes_raise_it_again():
    busy, seen, lock = 0, [], threading.Lock()

    def four_at_a_time_at_first(body, before):
        nonlocal busy
        with lock:
            busy += 1
            seen.append(busy)
            full = busy > 4 and len(seen) < 150
        time.sleep(0.05)
        with lock:
            busy -= 1
        return Reply(status=429, headers={"Retry-After-Ms": "1"}) if full else "hi"

    with ModelServer(four_at_a_time_at_first) as server:
        kept, failures, _ = ask(server, 500, concurrency=32, max_retries=50)
    assert len(kept) == 500 and not failures
    assert max(seen[100:150]) <= 12 < max(seen[:50])
    assert max(seen[-100:]) >= max(seen[100:150]) + 5


def test_no_more_retries_than_allowed():
    with ModelServer(lambda body, before: Reply(status=500, headers={"Retry-After-Ms": "1"})) as server:
        kept, failures, _ = ask(server, max_retries=2)
        assert len(server.requests) == 3
    assert not kept and "500" in failures[0]


@pytest.mark.parametrize(
    "fault",
    [
        Reply(drop=True),
        Reply(half_s=0),
        Reply(half_s=20),
        Reply(raw=b'{"choices": [{"mess'),
        Reply(raw=b"[]"),
        Reply(raw=b"busy"),
        Reply(raw=b'{"choices": null}'),
        Reply(raw=b'data: {"choices": [{"delta": {"content": "cut"}}]}\n\n'),
        Reply("cut", finish_reason="insufficient_system_resource"),
        Reply("cut", finish_reason="ABORT"),
        Reply(raw=b'{"error": {"message": "overloaded"}}'),
        Reply(raw=b"[" * 100_000),
        Reply(status=408),
        Reply(status=500),
    ],
    ids=lambda fault: str(fault.raw or fault)[:40],
)
def test_what_is_no_whole_answer_is_asked_for_again(fault):
    with ModelServer(lambda body, before: "hi" if before else fault) as server:
        kept, failures, seconds = ask(server, timeout_s=1)
        assert kept["0"].text == "hi" and not failures and len(server.requests) == 2
    assert seconds < 4, "a body that trickles must end with the timeout"


@pytest.mark.parametrize("error", [{"message": "the model is overloaded", "code": 503}, "the model is overloaded"])
def test_an_error_in_a_body_of_status_200_is_told(error):
    with ModelServer(lambda body, before: Reply(raw=json.dumps({"error": error}).encode())) as server:
        _, failures, _ = ask(server, max_retries=0)
    assert "the model is overloaded" in failures[0]


def test_an_answer_without_text_is_asked_for_once_more_and_then_named():
    with ModelServer(lambda body, before: "") as server:
        kept, failures, _ = ask(server)
        assert len(server.requests) == 2
    assert kept["0"].outcome == "empty" and kept["0"].text == "" and not failures
    assert kept["0"].prompt_tokens == 200 and kept["0"].completion_tokens == 20, "both were billed"


def test_an_empty_answer_is_kept_when_the_second_never_comes():
    with ModelServer(
        lambda body, before: Reply(status=500, headers={"Retry-After-Ms": "1"}) if before else ""
    ) as server:
        kept, failures, _ = ask(server, max_retries=1)
    assert kept["0"].text == "" and not failures


def test_answers_in_flight_are_kept_when_another_request_ends_the_run():
    def one_is_refused(body, before):
        time.sleep(0.5 if body["messages"][0]["content"] != "0" else 0.1)
        return Reply(status=401) if body["messages"][0]["content"] == "0" else "hi"

    from star_hf.errors import ConfigError

    kept = {}
    with ModelServer(one_is_refused) as server:
        endpoint = Endpoint(provider="vllm", model="m", base_url=server.url, concurrency=4)
        requests = ((str(i), Request([{"role": "user", "content": str(i)}])) for i in range(50))
        with pytest.raises(ConfigError):
            HttpProvider(endpoint).complete(requests, kept.__setitem__)
        assert set(kept) == {"1", "2", "3"} and len(server.requests) == 4


def test_limits_are_no_part_of_a_requests_key():
    plain = Endpoint(provider="vllm", model="m")
    assert (
        plain.model_copy(update={"requests_per_minute": 5.0, "tokens_per_minute": 7.0}).identity() == plain.identity()
    )
