"""Two runs on one journal share its requests, and a run that is stopped keeps what is in flight."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from model_server import ModelServer, Reply
from shouter import Shouter, shouted, some_rows
from star_hf.errors import IncompleteRunError
from star_hf.llm import Endpoint, Journal, annotate
from star_hf.llm.journal.claims import Claims


ROWS = 120


def run(path, server, rows=ROWS, **options):
    endpoint = Endpoint(model="m", provider="vllm", name="e", base_url=server.url, **{"concurrency": 4, **options})
    with Journal(path) as journal:
        return annotate(some_rows(rows), Shouter(), endpoint, journal, progress=False)


def at_once(*works):
    """Run functions in threads, and return their results or errors."""
    results = [None] * len(works)

    def call(place):
        try:
            results[place] = works[place]()
        except Exception as error:
            results[place] = error

    threads = [threading.Thread(target=call, args=(place,)) for place in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def own_files(folder):
    return [path.name for path in folder.iterdir() if path.name.endswith(".run")]


@pytest.mark.parametrize("rows", [1, 5, ROWS])
def test_two_runs_on_one_journal_ask_each_request_once_and_both_end(tmp_path, rows):
    path = tmp_path / "journal.sqlite"
    with ModelServer(shouted, delay_s=0.02) as server:
        first, second = at_once(*[lambda: run(path, server, rows)] * 2)
        assert set(server.paid.values()) == {1} and len(server.requests) == rows
    assert first.rows.to_list() == second.rows.to_list() and len(first.rows) == rows
    assert not own_files(tmp_path)
    with Journal(path) as journal:
        assert journal.execute("SELECT COUNT(*) FROM claims").fetchone() == (0,)


def test_what_a_failed_run_leaves_the_other_one_asks(tmp_path):
    def fails_first(body, before):
        odd = int(body["messages"][0]["content"].split()[-1]) % 2
        return Reply(status=500) if odd and not before else shouted(body, before)

    path = tmp_path / "journal.sqlite"
    with ModelServer(fails_first, delay_s=0.02) as server:
        results = at_once(*[lambda: run(path, server, 20, max_retries=0, concurrency=8)] * 2)
        assert set(server.paid.values()) == {1}
        if any(isinstance(result, IncompleteRunError) for result in results):
            run(path, server, 20)
        assert set(server.paid.values()) == {1} and sum(server.paid.values()) == 20


def test_the_claims_of_a_killed_run_are_nobodys(tmp_path):
    path = tmp_path / "journal.sqlite"
    script = (
        "import sys, time; from star_hf.llm import Journal; from star_hf.llm.journal.claims import Claims\n"
        "with Journal(sys.argv[1]) as journal, Claims(journal) as claims:\n"
        "    print(len(claims.take(['a', 'b'])), flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "2"
    with Journal(path) as journal, Claims(journal) as claims:
        assert claims.take(["a", "b", "c"]) == {"c"} and not claims.free(["a", "b"])
        process.kill()
        process.wait()
        assert claims.free(["a", "b"]) and claims.take(["a", "b"]) == {"a", "b"}
    assert not own_files(tmp_path)


def test_a_killed_run_leaves_nothing_that_stops_the_next_one(tmp_path):
    with Journal(tmp_path / "journal.sqlite") as journal:
        claims = Claims(journal).__enter__()
        claims.take(["a"])
        claims._lock.release()  # as the end of the process does
        with Claims(journal) as ours:
            assert ours.take(["a"]) == {"a"}


def test_a_lock_that_a_run_has_just_made_is_left_to_it_and_an_old_one_removed(tmp_path):
    young, old = (tmp_path / f".journal.sqlite.{name}.run" for name in ("young", "old"))
    with Journal(tmp_path / "journal.sqlite") as journal:
        young.touch()
        old.touch()
        os.utime(old, (0, 0))
        with Claims(journal):
            assert young.exists() and not old.exists()


def test_an_answer_that_came_between_two_looks_is_not_asked_for(tmp_path, monkeypatch):
    """The other run answers and ends after this run has found the request open, and before it claims it."""
    path, take = tmp_path / "journal.sqlite", Claims.take
    with ModelServer(shouted) as server:

        def late(self, keys):
            monkeypatch.setattr(Claims, "take", take)
            run(path, server, 8)
            return take(self, keys)

        monkeypatch.setattr(Claims, "take", late)
        assert len(run(path, server, 8).rows) == 8
        assert len(server.requests) == 8


def test_a_deadline_ends_the_wait_for_another_run(tmp_path):
    path = tmp_path / "journal.sqlite"
    with ModelServer(shouted) as server, Journal(path) as journal, Claims(journal) as claims:
        rows, endpoint = some_rows(3), Endpoint(model="m", provider="vllm", name="e", base_url=server.url)
        from star_hf.llm.walk import Walk

        keys = [Walk(Shouter(), endpoint, journal, 2, None).follow(row).key for row in rows]
        claims.take(keys)
        with pytest.raises(IncompleteRunError, match="another run is asking for 3 .* deadline"):
            run(path, server, 3, deadline_s=0.3)
        assert not server.requests


# Ctrl-C is as in a terminal: a shell ignores it for what it starts in the background.
STOPPED = """
import signal; signal.signal(signal.SIGINT, signal.default_int_handler)
import sys; sys.path[:0] = ['tests', 'tests/llm']
import logging; logging.basicConfig(format="%(message)s")
from types import SimpleNamespace; from pathlib import Path; import test_sharing
test_sharing.run(Path(sys.argv[1]), SimpleNamespace(url=sys.argv[2]), 200, concurrency=8)
"""


def started(folder, server, prefix=()):
    command = [*prefix, sys.executable, "-c", STOPPED, str(folder / "journal.sqlite"), server.url]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    deadline = time.monotonic() + 60
    while len(server.requests) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    return process


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, (-2, 130)), (signal.SIGTERM, (143,)), (signal.SIGHUP, (129,))]
)
def test_what_is_in_flight_is_kept_when_a_run_is_stopped(tmp_path, number, code):
    with ModelServer(shouted, delay_s=0.5) as server:
        process = started(tmp_path, server)
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
        assert process.returncode in code, said
        assert "Run the same command again to go on." in said and str(tmp_path) in said
        with Journal(tmp_path / "journal.sqlite") as journal:
            assert len(journal) == sum(server.paid.values()) >= 8
        assert not own_files(tmp_path)
        server.delay_s = 0
        assert len(run(tmp_path / "journal.sqlite", server, 200, concurrency=8).rows) == 200
        assert set(server.paid.values()) == {1}


@pytest.mark.slow
def test_a_second_signal_ends_the_wait(tmp_path):
    with ModelServer(shouted, delay_s=30) as server:
        process = started(tmp_path, server)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None, "it waits for what is in flight"
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert time.monotonic() - sent < 4.5


@pytest.mark.slow
def test_under_nohup_a_closed_terminal_ends_nothing(tmp_path):
    with ModelServer(shouted, delay_s=0.05) as server:
        process = started(tmp_path, server, ["nohup"])
        process.send_signal(signal.SIGHUP)
        assert process.communicate(timeout=60) and process.returncode == 0
        assert sum(server.paid.values()) == 200


def test_waits_for_nothing_that_is_not_on_the_wire():
    """A request that only waits for its next try is not in flight."""
    from star_hf.llm import Request
    from star_hf.llm.http import pool

    with ModelServer(lambda body, before: Reply(status=503, headers={"Retry-After": "60"})) as server:
        endpoint = Endpoint(model="m", provider="vllm", base_url=server.url)
        request = Request([{"role": "user", "content": json.dumps("hi")}])
        drain = pool._Drain(endpoint, pool.CHAT, iter([("key", request)]), print)

        def stop():
            while not server.requests:
                time.sleep(0.01)
            time.sleep(0.2)
            drain.stop()

        threading.Thread(target=stop).start()
        started_at = time.monotonic()
        pool._run(drain)
        assert time.monotonic() - started_at < pool.DRAIN_S
