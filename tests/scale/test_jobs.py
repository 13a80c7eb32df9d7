"""Shards on Hugging Face Jobs: datatrove's own executor, over a service that runs each job in this process."""

import os
import runpy
import shutil
import sqlite3
import sys
import threading
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest

from model_server import ModelServer
from shouter import Shouter, shouted, some_rows
from star_hf.errors import ConfigError, IncompleteRunError
from star_hf.llm import Endpoint, Journal, annotate
from star_hf.scale.annotate import drain_shards
from star_hf.scale.executors import Scale
from star_hf.scale.jobs import OUTPUTS, BucketTask, in_bucket
from star_hf.scale.shard import ShardTask
from star_hf.utils.files import write_table


ROWS = 12
BUCKET = "memory://bucket/runs"


@pytest.fixture(autouse=True)
def bucket(monkeypatch):
    """An empty bucket that no file system of this machine sees.

    As on the Hub, a file is there whole or not at all, and any number of readers have it at once: fsspec's memory
    shows what is half written, and its readers share one position.
    """
    fs = fsspec.filesystem("memory")
    monkeypatch.setattr(type(fs), "put_file", lambda self, here, there: self.pipe_file(there, Path(here).read_bytes()))
    monkeypatch.setattr(type(fs), "get_file", lambda self, there, here: Path(here).write_bytes(self.cat_file(there)))
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    yield fs
    fs.store.clear()


class Jobs:
    """What `run_uv_job` and `inspect_job` reach: jobs that run at once, or are killed before they begin."""

    def __init__(self):
        self.started, self.killed = [], 0

    def run(self, script, *, script_args, env, secrets, **options):
        self.started.append({"env": env, "secrets": secrets, **options})
        stage = "ERROR" if len(self.started) <= self.killed else "COMPLETED"
        if stage == "COMPLETED":
            before, arguments = dict(os.environ), sys.argv
            os.environ |= {**env, **secrets}
            sys.argv = [script, *script_args]
            try:
                runpy.run_path(script, run_name="__main__")
            finally:
                sys.argv = arguments
                os.environ.clear()
                os.environ |= before
        return SimpleNamespace(id=f"{len(self.started)}-{stage}", url="https://example.invalid")

    def inspect(self, job_id, **options):
        return SimpleNamespace(status=SimpleNamespace(stage=job_id.split("-")[1]))


@pytest.fixture
def jobs(monkeypatch):
    pytest.importorskip("datatrove")
    service = Jobs()
    monkeypatch.setattr("huggingface_hub.run_uv_job", service.run)
    monkeypatch.setattr("huggingface_hub.inspect_job", service.inspect)
    monkeypatch.setenv("HF_TOKEN", "hf_not_a_real_token")
    monkeypatch.setenv("A_KEY", "sk-not-a-real-key")
    return service


def endpoint(server):
    options = {"max_retries": 0, "concurrency": 4, "api_key_env": "A_KEY"}
    return Endpoint(model="m", provider="vllm", name="s", base_url=server.url, **options)


def scale(**options):
    options = {"dependencies": ["star_hf"], "poll_interval": 0, "max_retries": 0, **options}
    return Scale(executor="jobs", shards=3, workers=3, remote=BUCKET, options=options)


def run(folder, server, scale=None):
    elsewhere = None if scale is None else partial(drain_shards, scale=scale, folder=folder / "shards")
    with Journal(folder / "journal.sqlite") as journal:
        return annotate(some_rows(ROWS), Shouter(), endpoint(server), journal, progress=False, elsewhere=elsewhere)


def test_jobs_give_what_one_process_gives_and_see_no_folder_of_it(tmp_path, jobs, bucket):
    (tmp_path / "alone").mkdir()
    with ModelServer(shouted) as server:
        alone = run(tmp_path / "alone", server)
        outcome = run(tmp_path, server, scale(flavor="cpu-upgrade"))
        assert set(server.paid.values()) == {2}
    assert (outcome.rows.to_list(), outcome.provenance.to_list()) == (alone.rows.to_list(), alone.provenance.to_list())
    assert [job["flavor"] for job in jobs.started] == ["cpu-upgrade"] * 3
    kept = b"".join(bucket.cat(path) for path in bucket.find("/bucket"))
    assert jobs.started[0]["secrets"]["A_KEY"] == "sk-not-a-real-key" and b"sk-not-a-real" not in kept


def test_a_killed_job_is_run_again_and_nothing_is_asked_twice(tmp_path, jobs):
    jobs.killed = 1
    with ModelServer(shouted) as server:
        with pytest.raises(IncompleteRunError, match="1 shards are not done"):
            run(tmp_path, server, scale())
        assert len(run(tmp_path, server, scale()).rows) == ROWS
        assert set(server.paid.values()) == {1} and len(jobs.started) == 4


def test_what_jobs_did_while_nobody_waited_is_collected(tmp_path, jobs, monkeypatch):
    """The coordinator dies when all jobs are done; its folder knows nothing of that."""

    def dies(job_id, **options):
        shutil.copytree(tmp_path / "shards", tmp_path / "as-killed")
        raise KeyboardInterrupt

    with ModelServer(shouted) as server:
        with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
            killed.setattr("huggingface_hub.inspect_job", dies)
            run(tmp_path, server, scale())
        shutil.rmtree(tmp_path / "shards")
        shutil.move(tmp_path / "as-killed", tmp_path / "shards")
        assert not list((tmp_path / "shards").glob("*/*/rows.parquet"))
        outcome = run(tmp_path, server, scale())
        assert len(outcome.rows) == ROWS and set(server.paid.values()) == {1} and len(jobs.started) == 3


def test_the_journal_is_copied_while_the_job_runs(tmp_path, bucket, monkeypatch):
    """What a job that is killed had been answered."""
    monkeypatch.setenv("A_KEY", "sk-not-a-real-key")
    place, slow = tmp_path / "00000", threading.Event()

    def rule(body, before):
        number = int(body["messages"][0]["content"].split()[-1])
        if number == ROWS - 1:
            slow.wait(20)
        return shouted(body, before)

    with ModelServer(rule) as server:
        place.mkdir()
        some_rows(ROWS).to_parquet(place / "input.parquet")
        Journal(place / "journal.sqlite").close()
        for name in ("input.parquet", "journal.sqlite"):
            bucket.put_file(str(place / name), f"/bucket/runs/00000/{name}")
        task = BucketTask(ShardTask(Shouter(), endpoint(server), tmp_path, ("00000",), 2), BUCKET, period_s=0.05)
        worker = threading.Thread(target=task, args=(None, 0, 1))
        worker.start()
        try:
            answered = 0
            for _ in range(200):
                bucket.get_file("/bucket/runs/00000/journal.sqlite", str(tmp_path / "copy.sqlite"))
                with closing(sqlite3.connect(tmp_path / "copy.sqlite")) as copy:
                    (answered,) = copy.execute("SELECT count(*) FROM responses").fetchone()
                if answered == ROWS - 1:
                    break
                threading.Event().wait(0.05)
            assert answered == ROWS - 1 and not bucket.exists("/bucket/runs/00000/rows.parquet")
        finally:
            slow.set()
            worker.join()
    assert bucket.exists("/bucket/runs/00000/rows.parquet")


@pytest.mark.parametrize("failing", OUTPUTS[1:])
@pytest.mark.parametrize("way", ["put_file", "get_file"])
def test_a_copy_that_stops_between_two_tables_leaves_the_shard_unfinished(tmp_path, bucket, monkeypatch, failing, way):
    monkeypatch.setenv("A_KEY", "sk-not-a-real-key")
    place, copy = tmp_path / "00000", getattr(type(bucket), way)

    def stops(self, source, target):
        if Path(target).name.endswith((failing, f".{failing}.{os.getpid()}.new")):
            raise ConnectionError
        copy(self, source, target)

    write_table(some_rows(ROWS), place / "input.parquet")
    Journal(place / "journal.sqlite").close()
    with ModelServer(shouted) as server:
        task = BucketTask(ShardTask(Shouter(), endpoint(server), tmp_path, (place.name,), 2), BUCKET)
        with monkeypatch.context() as stopping, pytest.raises(ConnectionError):
            stopping.setattr(type(bucket), way, stops)
            with in_bucket(tmp_path, BUCKET, (place.name,)):
                task(None, 0, 1)
    uploaded, downloaded = bucket.exists("/bucket/runs/00000/rows.parquet"), (place / "rows.parquet").exists()
    assert not (uploaded if way == "put_file" else downloaded), "rows.parquet says that all tables are there"


def test_the_bucket_is_made_before_anything_is_put_there(tmp_path, monkeypatch):
    made, there = [], fsspec.filesystem("memory")
    monkeypatch.setattr("huggingface_hub.create_bucket", lambda name, **options: made.append((name, options)))
    monkeypatch.setattr("star_hf.scale.jobs.url_to_fs", lambda remote: (made and there, remote.removeprefix("hf:/")))
    (tmp_path / "00000").mkdir()
    some_rows(1).to_parquet(tmp_path / "00000" / "input.parquet")
    Journal(tmp_path / "00000" / "journal.sqlite").close()
    with in_bucket(tmp_path, "hf://buckets/me/star-1/score-1", ("00000",)):
        assert made == [("me/star-1", {"private": True, "exist_ok": True})]
        assert len(there.find("/")) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [({"remote": None}, "remote"), ({"executor": "ray"}, "remote"), ({"options": {}}, "dependencies")],
)
def test_what_jobs_need_is_said(options, words):
    with pytest.raises(ConfigError, match=words):
        Scale(**{"executor": "jobs", "remote": BUCKET, "options": {"dependencies": ["star_hf"]}, **options})
