"""Everything that providers do wrong, at once: no row may vanish, and nothing delivered is asked for again."""

import json
import random
import threading
from collections import defaultdict

import pytest

from model_server import ModelServer, Reply
from shouter import Shouter, shouted, some_rows
from star_hf.llm import Endpoint, Journal, annotate


SEED = 20260404
ROWS = 2_000
PASSING = {
    "429": (10, Reply(status=429)),
    "429 with a wait": (10, Reply(status=429, headers={"Retry-After-Ms": "20"})),
    "500": (10, Reply(status=500)),
    "503": (10, Reply(status=503)),
    "dropped": (10, Reply(drop=True)),
    "stalled": (1, Reply("never heard to its end", half_s=30)),
    "half": (10, Reply("cut in two", half_s=0)),
    "wrong json": (10, Reply(raw=b'{"choices": "none"}')),
    "no json": (10, Reply(raw=b"Bad gateway")),
    "empty": (10, Reply("")),
}
FINAL = {
    "answer": (90, None),
    "prose": (4, Reply("Sure, happily!")),
    "unclosed thought": (2, Reply("<think>\nWell, the policy")),
    "truncated thought": (2, Reply("<think>\nWell, the", finish_reason="length")),
    "filtered": (2, Reply("", finish_reason="content_filter")),
    "filtered prompt": (2, Reply(status=400, error={"code": "content_filter"})),
    "refused": (2, Reply(message={"refusal": "I would rather not."})),
}


class Storm:
    """A rule that gives each request its troubles and each question its end, and keeps what it did."""

    def __init__(self):
        self.log = defaultdict(list)
        self._lock = threading.Lock()

    def __call__(self, body, before):
        request = json.dumps(body["messages"])
        luck = random.Random(f"{SEED} {request}")
        passing = _pick(luck, PASSING, luck.choice([0, 0, 0, 0, 0, 0, 1, 1, 2]))
        final = _pick(random.Random(f"{SEED} {body['messages'][0]}"), FINAL, 1)
        kind = (passing + final)[min(before, len(passing))]
        with self._lock:
            self.log[request].append(kind)
        return ({**PASSING, **FINAL}[kind][1]) or shouted(body, before)


def _pick(luck, kinds, count):
    return luck.choices(list(kinds), [weight for weight, _ in kinds.values()], k=count)


def rows_with_duplicates():
    return some_rows(ROWS).map(lambda row, i: {"question": f"question {i % (ROWS - 100)}"}, with_indices=True)


def weather(folder, rows):
    """Send the rows through a storm; returns the outcome, the storm and how many requests a second run sent."""
    storm = Storm()
    with ModelServer(storm) as server, Journal(folder / "journal.sqlite") as journal:
        endpoint = Endpoint(provider="vllm", model="m", base_url=server.url, name="storm", concurrency=64, timeout_s=3)
        outcome = annotate(rows, Shouter(), endpoint, journal, max_unusable=0.5, progress=False)
        sent, paid = len(server.requests), dict(server.paid)
        annotate(rows, Shouter(), endpoint, journal, max_unusable=0.5, progress=False)
        return outcome, storm.log, paid, len(server.requests) - sent


@pytest.mark.slow
def test_two_thousand_rows_through_the_storm(tmp_path):
    rows = rows_with_duplicates()
    outcome, log, paid, sent_again = weather(tmp_path, rows)

    ends = outcome.rows["id"][:] + outcome.removed["id"][:]
    assert sorted(ends) == sorted(rows["id"][:]) == sorted(outcome.provenance["id"][:])
    assert set(outcome.removed["reason"]) == {"content_filter", "empty", "malformed", "refused", "truncated"}
    assert all(row["loud"] == row["question"].upper() for row in outcome.rows)

    suffered = {kind for kinds in log.values() for kind in kinds}
    assert suffered == {*PASSING, *FINAL}, "the storm was no storm"
    for request, kinds in log.items():
        delivered = [kind for kind in kinds if kind in FINAL]
        last_word = delivered or kinds[-1:] == ["empty"] == kinds[-2:-1]
        assert last_word, f"{request} was left without an answer: {kinds}"
        assert len(delivered) <= 1 and kinds.count("empty") <= 2, f"{request} was asked again: {kinds}"
        assert not delivered or kinds[-1] in FINAL, f"{request} was asked again: {kinds}"
    unpaid = sum("filtered prompt" in kinds for kinds in log.values())
    empty = sum(kinds.count("empty") for kinds in log.values())
    assert sum(paid.values()) == sum(kinds[-1] in FINAL for kinds in log.values()) - unpaid + empty
    assert sent_again == 0


@pytest.mark.slow
def test_the_same_storm_twice_gives_the_same_outcome(tmp_path):
    rows = rows_with_duplicates().select(range(200))
    (tmp_path / "again").mkdir()
    first, again = weather(tmp_path, rows)[0], weather(tmp_path / "again", rows)[0]
    for name in ("rows", "removed", "provenance"):
        assert getattr(first, name).to_list() == getattr(again, name).to_list()
