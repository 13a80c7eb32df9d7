"""Batches against a Batch API on loopback that counts what it is paid for, with a kill between every two steps."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from batch_server import BatchServer
from model_server import Reply
from shouter import Shouter, shouted, some_rows
from star_hf.errors import ConfigError, IncompleteRunError, StarError
from star_hf.llm import Budget, Endpoint, Journal, annotate
from star_hf.llm.batch import api
from star_hf.llm.batch import provider as batch
from star_hf.llm.batch.api import BatchApi
from star_hf.llm.batch.ledger import BatchLedger


ROWS = 12


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(batch, "FIRST_POLL_S", 0.01)
    monkeypatch.setattr(batch, "SETTLE_S", 0.2)


def endpoint(server, **options):
    settings = {"at_least": 1, "poll_s": 0.01, **options.pop("batch", {})}
    price = {"input": 2.0, "output": 10.0}
    return Endpoint(
        model="m",
        provider="vllm",
        name="b",
        base_url=server.url,
        batch=settings,
        price=price,
        max_retries=2,
        **options,
    )


def run(folder, endpoint, rows=ROWS, **options):
    with Journal(folder / "journal.sqlite") as journal:
        return annotate(some_rows(rows), Shouter(), endpoint, journal, progress=False, **options)


def paid_once(server):
    return set(server.paid.values()) == {1}


def test_a_batch_answers_every_row_at_its_own_price(tmp_path):
    with BatchServer(shouted) as server:
        outcome = run(tmp_path, endpoint(server))
        assert paid_once(server) and server.live == 0 and len(server.batches) == 1
    assert outcome.rows["loud"][:] == [f"QUESTION {i}" for i in range(ROWS)]
    assert outcome.provenance[0]["cost_usd"] == pytest.approx((100 * 2.0 + 10 * 10.0) / 1e6 / 2)


def test_batch_or_not_is_no_part_of_the_request_key(tmp_path):
    with BatchServer(shouted) as server:
        batched = run(tmp_path, endpoint(server))
        live = run(tmp_path, endpoint(server).model_copy(update={"batch": None}))
        assert server.live == 0 and len(server.batches) == 1
    assert live.rows.to_list() == batched.rows.to_list()


@pytest.mark.parametrize(("limit", "files"), [({"max_requests": 5}, 3), ({"max_bytes": 1_000}, 6)])
def test_files_stay_within_the_providers_limits(tmp_path, limit, files):
    with BatchServer(shouted) as server:
        run(tmp_path, endpoint(server, batch=limit))
        sizes = [server.files[made["input_file_id"]] for made in server.batches.values()]
        assert len(sizes) == files and paid_once(server)
    assert all(len(file) <= limit.get("max_bytes", len(file)) for file in sizes)
    assert all(file.count(b"\n") <= limit.get("max_requests", ROWS) for file in sizes)


@pytest.mark.parametrize(("fate", "batched"), [("expired", 6), ("cancelled", 6), ("failed", 0)])
def test_what_a_batch_left_is_asked_live_and_only_that(tmp_path, caplog, fate, batched):
    caplog.set_level(logging.WARNING)
    with BatchServer(shouted, fate=lambda number: fate) as server:
        outcome = run(tmp_path, endpoint(server))
        assert server.live == ROWS - batched and paid_once(server) and len(server.batches) == 1
    assert len(outcome.rows) == ROWS and f"{ROWS - batched} of {ROWS} requests unanswered" in caplog.text
    costs = Counter(round(cost * 1e6) for cost in outcome.provenance["cost_usd"])
    assert costs == Counter({150: batched, 300: ROWS - batched}) - Counter({150: 0})


def test_what_a_batch_left_is_not_batched_again_after_a_kill(tmp_path, monkeypatch):
    from star_hf.llm.http.pool import HttpProvider

    with BatchServer(shouted, fate=lambda number: "expired") as server:
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(HttpProvider, "complete", killed)
            run(tmp_path, endpoint(server))
        run(tmp_path, endpoint(server))
        assert len(server.batches) == 1 and server.live == ROWS // 2 and paid_once(server)


def test_a_full_queue_is_no_reason_to_pay_double(tmp_path):
    fates = iter(["full", "completed"])
    with BatchServer(shouted, fate=lambda number: next(fates)) as server:
        with pytest.raises(IncompleteRunError, match="Enqueued token limit.*max_requests"):
            run(tmp_path, endpoint(server))
        assert server.live == 0 and not server.paid
        run(tmp_path, endpoint(server))
        assert server.live == 0 and paid_once(server)


def test_failures_inside_a_batch_have_their_names(tmp_path):
    replies = {
        "0": Reply(status=400, error={"code": "content_filter"}),
        "1": Reply(status=400, error={"message": "prompt too long"}),
        "2": Reply(message={"refusal": "I would rather not."}),
        "3": Reply('{"loud": "cut', finish_reason="length"),
    }

    def rule(body, before):
        number = body["messages"][0]["content"].split()[-1]
        if number == "4" and before == 0:
            return Reply(status=500)
        return replies.get(number) or shouted(body, before)

    with BatchServer(rule) as server:
        outcome = run(tmp_path, endpoint(server), max_unusable=0.5)
        assert server.live == 1, "a server error inside a batch is asked live"
    reasons = dict(zip(outcome.removed["id"], outcome.removed["reason"], strict=True))
    expected = ["content_filter", "invalid_request", "refused", "truncated"]
    assert reasons == {f"{number:016x}": reason for number, reason in enumerate(expected)}


def test_a_second_question_about_a_few_malformed_answers_is_asked_live(tmp_path):
    def rule(body, before):
        prose = body["messages"][0]["content"].endswith(" 0") and len(body["messages"]) == 1
        return "Sure, happily!" if prose else shouted(body, before)

    with BatchServer(rule) as server:
        outcome = run(tmp_path, endpoint(server, batch={"at_least": 5}))
        assert len(outcome.rows) == ROWS and server.live == 1 and len(server.batches) == 1


def test_a_few_requests_are_not_worth_a_batch(tmp_path):
    with BatchServer(shouted) as server:
        run(tmp_path, endpoint(server, batch={"at_least": 100}))
        assert server.live == ROWS and not server.batches


def test_files_of_fewer_requests_than_make_a_batch_are_batches_all_the_same(tmp_path):
    with BatchServer(shouted) as server:
        run(tmp_path, endpoint(server, batch={"at_least": 100, "max_requests": 5}))
        assert len(server.batches) == 3 and server.live == 0


def test_lines_that_nobody_asked_for_are_passed_over(tmp_path, monkeypatch):
    strange = [b"", b"no json\n", b"[1]\n", b'{"custom_id": "stranger", "response": {"status_code": 200}}\n']
    lines = BatchApi.lines
    monkeypatch.setattr(BatchApi, "lines", lambda self, file_id: [*strange, *lines(self, file_id)])
    with BatchServer(shouted) as server:
        assert len(run(tmp_path, endpoint(server)).rows) == ROWS and server.live == 0


def test_a_deadline_leaves_the_batch_for_the_next_run(tmp_path):
    with BatchServer(shouted, looks=10_000) as server:
        with pytest.raises(IncompleteRunError, match="is in_progress, 0 of 12 requests, .* deadline .* passed"):
            run(tmp_path, endpoint(server, deadline_s=0.3))
        server.looks = 1
        run(tmp_path, endpoint(server))
        assert len(server.batches) == 1 and server.live == 0 and paid_once(server)


def test_an_open_batch_is_waited_for_even_when_batches_are_switched_off(tmp_path):
    with BatchServer(shouted, looks=10_000) as server:
        with pytest.raises(IncompleteRunError):
            run(tmp_path, endpoint(server, deadline_s=0.3))
        server.looks = 1
        outcome = run(tmp_path, endpoint(server).model_copy(update={"batch": None}), rows=ROWS + 3)
        assert len(outcome.rows) == ROWS + 3 and server.live == 3 and paid_once(server)
    assert set(outcome.provenance["prompt_version"]) == {"v1"}, "also of what was asked by the first process"


def test_the_budget_counts_a_batch_at_its_own_price(tmp_path):
    with BatchServer(shouted) as server:
        most = (100 * 2.0 + 512 * 10.0) / 1e6 / 2  # no prompt here has a hundred tokens
        with pytest.raises(IncompleteRunError, match="budget") as caught:
            run(tmp_path, endpoint(server), budget=Budget(most * 5))
        assert 5 <= sum(server.paid.values()) < ROWS and server.live == 0
        assert "higher budget" in caught.value.remedy
        run(tmp_path, endpoint(server), budget=Budget(1.0))
        assert paid_once(server) and sum(server.paid.values()) == ROWS


def test_another_endpoint_leaves_an_open_batch_alone(tmp_path):
    with BatchServer(shouted, looks=10_000) as server, BatchServer(shouted) as other:
        with pytest.raises(IncompleteRunError):
            run(tmp_path, endpoint(server, deadline_s=0.3))
        run(tmp_path, endpoint(other).model_copy(update={"name": "other"}))
        assert len(other.batches) == 1 and other.live == 0
        with Journal(tmp_path / "journal.sqlite") as journal:
            assert len(journal) == ROWS and len(BatchLedger(journal, "shout", "b").open()) == 1


def test_results_that_a_killed_process_kept_are_not_counted_again(tmp_path, monkeypatch):
    with BatchServer(shouted) as server:
        with monkeypatch.context() as patch, pytest.raises(Killed):
            put = Journal.put
            patch.setattr(Journal, "put", lambda self, entry: killed() if len(self) == 5 else put(self, entry))
            run(tmp_path, endpoint(server))
        with Journal(tmp_path / "journal.sqlite") as journal:
            budget = Budget(1.0, journal.cost())
        run(tmp_path, endpoint(server), budget=budget)
        with Journal(tmp_path / "journal.sqlite") as journal:
            assert paid_once(server) and budget.spent_usd == pytest.approx(journal.cost())


def test_a_provider_without_batches_says_so(tmp_path):
    with BatchServer(shouted) as server:
        wrong = endpoint(server).model_copy(update={"base_url": server.url + "/nowhere"})
        with pytest.raises(ConfigError, match="If the provider has no Batch API, remove `batch`"):
            run(tmp_path, wrong)


def test_one_process_at_a_time_hands_out_batches(tmp_path):
    with Journal(tmp_path / "journal.sqlite") as journal, BatchServer(shouted) as server:
        with BatchLedger(journal, "other", "x").locked(), pytest.raises(StarError, match="Another process works in"):
            run(tmp_path, endpoint(server))
        assert not server.batches


class Killed(BaseException):
    """Stands for the end of the process: nothing in the library catches it."""


def killed(*arguments, **options):
    raise Killed


STEPS = [
    (BatchLedger, "plan"),
    (BatchApi, "upload"),
    (BatchLedger, "uploaded"),
    (BatchApi, "create"),
    (BatchLedger, "created"),
    (BatchApi, "look"),
    (BatchApi, "lines"),
    (Journal, "put"),
    (BatchLedger, "ended"),
]


@pytest.mark.parametrize(("nth", "moment"), [(1, "before"), (1, "after"), (3, "after")])
@pytest.mark.parametrize(("where", "step"), STEPS, ids=[step for _, step in STEPS])
def test_killed_between_any_two_steps_it_goes_on_and_nothing_is_paid_twice(
    tmp_path, monkeypatch, where, step, nth, moment
):
    """Three batches; the process ends before or after the first or third time of a step, then starts again."""
    original, calls = getattr(where, step), 0

    def deadly(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == nth and moment == "before":
            raise Killed
        result = original(*arguments, **options)
        if calls == nth:
            raise Killed
        return result

    with BatchServer(shouted) as server:
        settings = endpoint(server, batch={"max_requests": 4})
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(where, step, deadly)
            run(tmp_path, settings)
        outcome = run(tmp_path, settings)
        assert paid_once(server) and sum(server.paid.values()) == ROWS and server.live == 0
        assert len(server.batches) == 3
    assert outcome.rows["loud"][:] == [f"QUESTION {i}" for i in range(ROWS)]


def test_a_server_that_keeps_no_metadata_is_searched_by_its_input_file(tmp_path, monkeypatch):
    with BatchServer(shouted, metadata=False) as server:
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(BatchLedger, "created", killed)
            run(tmp_path, endpoint(server))
        run(tmp_path, endpoint(server))
        assert len(server.batches) == 1 and paid_once(server)


def test_a_batch_that_the_provider_lists_late_is_waited_for(tmp_path, monkeypatch):
    find, waits = BatchApi.find, []
    monkeypatch.setattr(batch, "SETTLE_S", 60.0)
    monkeypatch.setattr(BatchApi, "find", lambda self, made: find(self, made) if waits else None)
    with BatchServer(shouted) as server:
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(BatchLedger, "created", killed)
            run(tmp_path, endpoint(server))
        monkeypatch.setattr(batch.time, "sleep", waits.append)
        run(tmp_path, endpoint(server))
        assert len(server.batches) == 1 and paid_once(server) and 50 < waits[0] <= 60


def test_a_batch_is_found_though_the_providers_clock_is_slow(tmp_path, monkeypatch):
    with BatchServer(shouted) as server:
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(BatchLedger, "created", killed)
            run(tmp_path, endpoint(server))
        ours = server.batches["batch-0"]
        ours["created_at"] -= 3_600
        server.batches["batch-1"] = {**ours, "id": "batch-1", "metadata": {}, "input_file_id": "of-another-program"}
        run(tmp_path, endpoint(server))
        assert len(server.batches) == 2 and paid_once(server) and server.live == 0


def test_a_batch_whose_reply_was_lost_is_found_and_not_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(api, "wait_s", lambda failures: 0.0)
    with BatchServer(shouted) as server:
        server.hang_after_create_s = 1.0
        run(tmp_path, endpoint(server, timeout_s=0.3))
        assert len(server.batches) == 1 and paid_once(server)


@pytest.mark.slow
def test_kill_9_while_the_provider_makes_the_batch(tmp_path):
    """The server has the batch, the process never hears of it."""
    script = (
        "import sys; sys.path[:0] = ['tests', 'tests/llm', 'tests/llm/batch']; from pathlib import Path; "
        "from star_hf.llm import Endpoint; import test_provider; "
        "test_provider.run(Path(sys.argv[1]), Endpoint.model_validate_json(sys.argv[2]))"
    )
    with BatchServer(shouted) as server:
        server.hang_after_create_s = 30
        settings = endpoint(server)
        command = [sys.executable, "-c", script, str(tmp_path), settings.model_dump_json()]
        process = subprocess.Popen(command, env=dict(os.environ))
        deadline = time.monotonic() + 60
        while not server.batches and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.batches, "the first process came as far as that"
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        outcome = run(tmp_path, settings)
        assert len(server.batches) == 1 and paid_once(server) and len(outcome.rows) == ROWS


def test_the_key_is_not_in_what_is_uploaded_or_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("OUR_KEY", "sk-not-a-real-key")
    with BatchServer(shouted) as server:
        run(tmp_path, endpoint(server, api_key_env="OUR_KEY"))
        assert server.keys == {"Bearer sk-not-a-real-key"}
        assert all(b"sk-not" not in file for file in server.files.values())
        assert json.loads(next(iter(server.files.values())).splitlines()[0])["custom_id"]
    assert all(b"sk-not" not in path.read_bytes() for path in tmp_path.iterdir())
