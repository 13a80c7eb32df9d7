"""Shards under datatrove's executors against one process, on this machine."""

import json
import os
import pickle
import re
import shutil
from functools import partial
from pathlib import Path

import pytest
from damages import cut, holding
from datasets import concatenate_datasets

from model_server import ModelServer, Reply, star_answers
from shouter import Shouter, shouted, some_rows
from star_hf.errors import ConfigError, IncompleteRunError, StarError
from star_hf.llm import Budget, Endpoint, Journal, annotate
from star_hf.llm.batch.ledger import BatchLedger
from star_hf.llm.journal.repair import repair
from star_hf.pipeline.build import build
from star_hf.pipeline.config import BuildConfig
from star_hf.scale import executors
from star_hf.scale.annotate import drain_shards
from star_hf.scale.executors import Scale
from star_hf.scale.shard import TABLES, ShardTask
from star_hf.utils.files import locked, write_table


ROWS = 23


def here(task, count, scale, log_dir):
    """The tasks one after the other in this process, each through pickle as an executor sends it."""
    for rank in range(count):
        pickle.loads(pickle.dumps(task))(None, rank, count)


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setattr("star_hf.scale.annotate.run_tasks", here)


def endpoint(server, **options):
    price = {"input": 1, "output": 2}
    return Endpoint(
        model="m", provider="vllm", name="s", base_url=server.url, max_retries=0, concurrency=4, price=price, **options
    )


def run(folder, endpoint, scale=None, rows=ROWS, **options):
    elsewhere = None if scale is None else partial(drain_shards, scale=scale, folder=folder / "shards")
    with Journal(folder / "journal.sqlite") as journal:
        return annotate(some_rows(rows), Shouter(), endpoint, journal, progress=False, elsewhere=elsewhere, **options)


def tables(outcome):
    return outcome.rows.to_list(), outcome.removed.to_list(), outcome.provenance.to_list()


def fussy(body, before):
    """Some answers are malformed once, some always, some refused."""
    number = int(body["messages"][0]["content"].split()[-1])
    if number % 7 == 0 or (number % 5 == 0 and len(body["messages"]) == 1):
        return "Sure, happily!"
    return Reply(message={"refusal": "I would rather not."}) if number == 11 else shouted(body, before)


@pytest.mark.parametrize("shards", [1, 4, 100])
def test_shards_give_what_one_process_gives(tmp_path, in_process, shards):
    (tmp_path / "alone").mkdir()
    with ModelServer(fussy) as server:
        alone = run(tmp_path / "alone", endpoint(server), max_unusable=0.5)
        asked = len(server.requests)
        outcome = run(tmp_path, endpoint(server), Scale(shards=shards), max_unusable=0.5)
        assert len(server.requests) == 2 * asked
    assert tables(outcome) == tables(alone)
    made = list((tmp_path / "shards").glob("*/*/rows.parquet"))
    assert len(made) == min(shards, ROWS)


def test_finished_shards_and_answered_rows_are_not_asked_again(tmp_path, in_process):
    down = True

    def rule(body, before):
        number = int(body["messages"][0]["content"].split()[-1])
        return Reply(status=500) if down and number >= 12 and number % 2 else fussy(body, before)

    with ModelServer(rule) as server:
        with pytest.raises(IncompleteRunError, match="2 shards are not done.*no answer from .* rows"):
            run(tmp_path, endpoint(server), Scale(shards=4), max_unusable=0.5)
        with Journal(tmp_path / "journal.sqlite") as journal:
            assert len(journal) == sum(server.paid.values()), "answers are collected already"
        down = False
        outcome = run(tmp_path, endpoint(server), Scale(shards=4), max_unusable=0.5)
        assert set(server.paid.values()) == {1}
        sent = len(server.requests)
        again = run(tmp_path, endpoint(server), max_unusable=0.5)
        assert len(server.requests) == sent, "one process goes on where shards ended"
    assert tables(again) == tables(outcome) and len(list((tmp_path / "shards").glob("*"))) == 1


def repaired(problem):
    """Do what the message says."""
    if match := re.search(r"`star-hf journal repair ([^`]+)`", problem.remedy):
        assert repair(Path(match.group(1))).kept
    else:
        (folder,) = set(re.findall(r"delete (\S+) and run", problem.remedy))
        shutil.rmtree(folder)


SHARDS = {
    "plan cut": lambda place: cut(5)(place / "plan.json"),
    "plan a list": lambda place: holding(b"[2]")(place / "plan.json"),
    "plan of nothing": lambda place: holding(b"{}")(place / "plan.json"),
    "plan of words": lambda place: holding(b'{"shards": "many"}')(place / "plan.json"),
    "plan missing": lambda place: (place / "plan.json").unlink(),
    "rows to ask cut": lambda place: cut(0.5)(place / "00001" / "input.parquet"),
    "rows to ask missing": lambda place: (place / "00001" / "input.parquet").unlink(),
    "journal cut": lambda place: cut(-4096)(place / "00001" / "journal.sqlite"),
    "journal empty": lambda place: cut(0)(place / "00001" / "journal.sqlite"),
    "journal text": lambda place: holding(b"no" * 600)(place / "00000" / "journal.sqlite"),
}


@pytest.mark.parametrize("damage", SHARDS.values(), ids=SHARDS)
def test_damaged_files_of_shards_are_named_and_what_is_left_is_not_paid_twice(tmp_path, in_process, damage):
    down = True

    def rule(body, before):
        number = int(body["messages"][0]["content"].split()[-1])
        return Reply(status=500) if down and number >= 12 and number % 2 else shouted(body, before)

    with ModelServer(rule) as server:
        with pytest.raises(IncompleteRunError):
            run(tmp_path, endpoint(server), Scale(shards=2))
        down = False
        (place,) = (tmp_path / "shards").iterdir()
        damage(place)
        for _ in range(3):
            try:
                outcome = run(tmp_path, endpoint(server), Scale(shards=2))
                break
            except StarError as problem:
                assert str(place) in problem.message
                if "move it away" in problem.remedy:
                    path = Path(problem.message.split()[0])
                    path.rename(path.with_suffix(".away"))
                else:
                    repaired(problem)
        assert len(outcome.rows) == ROWS and set(server.paid.values()) == {1}, "the run's journal had it all"


def test_what_one_process_began_shards_finish(tmp_path, in_process):
    with ModelServer(shouted) as server:
        run(tmp_path, endpoint(server), rows=10)
        run(tmp_path, endpoint(server), Scale(shards=3))
        assert set(server.paid.values()) == {1} and len(server.requests) == ROWS


def test_rows_that_another_shard_may_be_asking_about_are_not_asked_twice(tmp_path, in_process):
    with ModelServer(lambda body, before: Reply(status=500)) as server:
        with pytest.raises(IncompleteRunError):
            run(tmp_path, endpoint(server), Scale(shards=2), rows=10)
        with pytest.raises(IncompleteRunError, match="only some of the open rows are in the shards"):
            run(tmp_path, endpoint(server), Scale(shards=2), rows=12)


def test_a_shard_is_run_by_one_process_at_a_time(tmp_path, in_process, caplog):
    with ModelServer(shouted) as server:
        task = ShardTask(Shouter(), endpoint(server), tmp_path, ("00000",), 2)
        (tmp_path / "00000").mkdir()
        with locked(tmp_path / "00000"):
            task(None, 0, 1)
        assert not server.requests and "by another process" in caplog.text


@pytest.mark.parametrize("failing", TABLES)
def test_a_worker_that_dies_between_two_tables_has_not_finished_its_shard(tmp_path, monkeypatch, failing):
    def dies(table, path):
        if path.stem == failing:
            raise KeyboardInterrupt
        write_table(table, path)

    place = tmp_path / "00000"
    with ModelServer(fussy) as server:
        task = ShardTask(Shouter(), endpoint(server), tmp_path, (place.name,), 2)
        write_table(some_rows(ROWS), place / "input.parquet")
        with monkeypatch.context() as dying, pytest.raises(KeyboardInterrupt):
            dying.setattr("star_hf.scale.shard.write_table", dies)
            task(None, 0, 1)
        assert not (place / "rows.parquet").exists(), "rows.parquet says that all tables are there"
        task(None, 0, 1)
        assert set(server.paid.values()) == {1}
    assert all((place / f"{name}.parquet").exists() for name in TABLES)


def test_shards_of_other_processes_are_waited_for(tmp_path, in_process):
    down = True
    with ModelServer(lambda body, before: Reply(status=500) if down else shouted(body, before)) as server:
        with pytest.raises(IncompleteRunError):
            run(tmp_path, endpoint(server), Scale(shards=2))
        down, sent = False, len(server.requests)
        (shard,) = (tmp_path / "shards").glob("*/00001")
        with locked(shard), pytest.raises(IncompleteRunError, match="other processes are working on 1 shards"):
            run(tmp_path, endpoint(server), Scale(shards=2))
        assert len(server.requests) == sent
        assert len(run(tmp_path, endpoint(server), Scale(shards=2)).rows) == ROWS


def test_equal_rows_are_asked_about_once(tmp_path, in_process):
    twice = concatenate_datasets([some_rows(ROWS), some_rows(ROWS)])
    drain = partial(drain_shards, scale=Scale(shards=4), folder=tmp_path / "shards")
    with ModelServer(shouted) as server, Journal(tmp_path / "journal.sqlite") as journal:
        outcome = annotate(twice, Shouter(), endpoint(server), journal, progress=False, elsewhere=drain)
        assert len(outcome.rows) == 2 * ROWS and len(server.requests) == ROWS


def test_submitted_batches_are_collected_first(tmp_path, in_process):
    with ModelServer(shouted) as server:
        with Journal(tmp_path / "journal.sqlite") as journal:
            at = str(endpoint(server).identity()["at"])
            BatchLedger(journal, Shouter.stage, at).plan({"0" * 64: "v"})
        with pytest.raises(StarError, match="this run has submitted batches"):
            run(tmp_path, endpoint(server), Scale(shards=4))
        assert not server.requests


def test_the_unusable_share_counts_for_all_shards_together(tmp_path, in_process):
    def rule(body, before):
        return "prose" if body["messages"][0]["content"].endswith(" 0") else shouted(body, before)

    with ModelServer(rule) as server:
        assert len(run(tmp_path, endpoint(server), Scale(shards=23), max_unusable=0.1).rows) == ROWS - 1
        with pytest.raises(IncompleteRunError, match="1 of 23 answers are unusable"):
            run(tmp_path, endpoint(server), Scale(shards=23), max_unusable=0.01)


def test_the_budget_holds_for_all_shards_together(tmp_path, in_process):
    most = (100 + 512 * 2) / 1e6
    with ModelServer(shouted) as server:
        with pytest.raises(IncompleteRunError, match="budget"):
            run(tmp_path, endpoint(server), Scale(shards=4), budget=Budget(most * 8))
        spent = sum(server.paid.values()) * (100 + 20) / 1e6
        assert 0 < spent <= most * 8
        budget = Budget(1.0, spent)
        run(tmp_path, endpoint(server), Scale(shards=4), budget=budget)
        assert set(server.paid.values()) == {1}
        assert budget.spent_usd == pytest.approx(ROWS * (100 + 20) / 1e6), "the next stage has what is left"


def test_what_shards_spent_before_counts(tmp_path, in_process):
    most = (100 + 512 * 2) / 1e6
    with ModelServer(shouted) as server:
        for _ in range(2):
            with pytest.raises(IncompleteRunError, match="budget"):
                run(tmp_path, endpoint(server), Scale(shards=2), budget=Budget(most * 2))
            assert sum(server.paid.values()) == 2, "one for each shard, and then no more"


def test_limits_are_divided_among_the_workers(tmp_path, monkeypatch):
    tasks = []
    monkeypatch.setattr("star_hf.scale.annotate.run_tasks", lambda task, *rest: tasks.append(task))
    with ModelServer(shouted) as server:
        limited = endpoint(server, requests_per_minute=100, pool=({"tokens_per_minute": 50},))
        with pytest.raises(IncompleteRunError):
            run(tmp_path, limited, Scale(shards=4, workers=2))
    assert tasks[0].endpoint.requests_per_minute == 50 and tasks[0].endpoint.pool[0].tokens_per_minute == 25
    assert tasks[0].endpoint.identity() == limited.identity()


def test_shards_are_submitted_to_slurm_and_the_same_command_collects(tmp_path, monkeypatch):
    handed = []
    monkeypatch.setattr("star_hf.scale.annotate.run_tasks", lambda task, count, *rest: handed.append((task, count)))
    with ModelServer(shouted) as server:
        slurm = Scale(executor="slurm", shards=4, options={"partition": "cpu", "time": "1:00:00"})
        with pytest.raises(IncompleteRunError, match="4 shards were submitted to Slurm"):
            run(tmp_path, endpoint(server), slurm)
        task, count = handed[0]
        for rank in range(count):
            task(None, rank, count)
        assert len(run(tmp_path, endpoint(server), slurm).rows) == ROWS and len(handed) == 1


def test_slurms_script_asks_for_what_the_recipe_says(tmp_path, monkeypatch):
    pytest.importorskip("datatrove")
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    (bin_dir / "sbatch").write_text("#!/bin/sh\necho 4711\n")
    (bin_dir / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_dir}{os.pathsep}{os.environ['PATH']}")
    slurm = Scale(executor="slurm", workers=3, options={"partition": "cpu", "time": "10:00:00", "venv_path": "/v"})
    executors.run_tasks(print, 8, slurm, tmp_path / "logs")
    script = (tmp_path / "logs" / "launch_script.slurm").read_text()
    assert "--partition=cpu" in script and "--array=0-7%3" in script and "10:00:00" in script


def test_an_option_that_the_executor_does_not_take_is_named(tmp_path):
    pytest.importorskip("datatrove")
    with pytest.raises(ConfigError, match="partition"):
        executors.run_tasks(print, 1, Scale(executor="local", options={"partition": "x"}), tmp_path)


@pytest.fixture
def star_build(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-real-key")
    path = tmp_path / "questions.txt"
    path.write_text("\n".join(f"How do I misuse thing {n} in town {n * 7}?" for n in range(40)))

    def make(server, folder, **scale):
        one = {"model": "m", "base_url": server.url, "concurrency": 4}
        config = {
            "collect": {"sources": [], "held_out": [], "questions": str(path)},
            "deduplicate": {"embedding_threshold": None, "tfidf_threshold": 1.0},
            "endpoints": dict.fromkeys(("classifier", "teacher", "scorer", "rewriter"), one),
            "select": {"size": 8},
            "benign": {"enabled": False},
            "scale": scale or None,
        }
        return build(BuildConfig.model_validate(config), tmp_path / folder / "run", progress=False)

    return make


def same_tables(one, other):
    for stage, record in one.records.items():
        assert record.tables == other.records[stage].tables, stage
    return True


@pytest.mark.slow
def test_a_build_under_datatroves_local_executor_ends_with_the_same_bytes(tmp_path, star_build):
    pytest.importorskip("datatrove")
    with ModelServer(star_answers) as server:
        alone = star_build(server, "alone")
        asked = len(server.requests)
        spread = star_build(server, "spread", executor="local", shards=3, workers=2)
        assert len(server.requests) == 2 * asked
    assert same_tables(alone, spread)
    logs = list((spread.folder / "shards").glob("*/logs/*/stats/*.json"))
    assert len(logs) == 9, "three stages of three shards went through datatrove"
    assert all(b"sk-not" not in path.read_bytes() for path in spread.folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_a_build_under_ray_ends_with_the_same_bytes(tmp_path, star_build, ray):
    with ModelServer(star_answers) as server:
        alone = star_build(server, "alone")
        spread = star_build(server, "spread", executor="ray", shards=2, workers=2, options={"mem_per_cpu_gb": 0.1})
    assert same_tables(alone, spread)
    plans = [json.loads(path.read_text()) for path in (spread.folder / "shards").glob("*/plan.json")]
    assert {plan["stage"] for plan in plans} == {"classify", "reason", "score"}
