"""A provider that repeats the key everywhere: it is in no file of a run and in nothing that is shown."""

import json
import logging
from pathlib import Path

import pytest

from batch_server import BatchServer
from model_server import ModelServer, Reply
from shouter import Shouter, shouted, some_rows
from star_hf.errors import StarError
from star_hf.llm import Endpoint, Journal, annotate
from star_hf.llm.http.probe import probe
from star_hf.utils import secrets


KEY = "sk-not-a-real-key/0123"
FORMS = [KEY, KEY.replace("-", "\\u002d"), KEY.replace("/", "%2F"), KEY[:6] + "\n" + KEY[6:], f"\u200b{KEY}\u200b"]


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OUR_KEY", KEY)


def everywhere(form, body, before):
    """A whole answer in which every field that can holds the key."""
    text = json.dumps({"loud": f"the key is {form}"})
    message = {"content": text, "reasoning_content": form, "refusal": None, form: form}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, form: form}
    choice = {"message": message, "finish_reason": "stop", "native_finish_reason": form}
    return {"id": form, "model": f"m {form}", "system_fingerprint": form, "usage": usage, "choices": [choice]}


def leak(body, before):
    number = int(body["messages"][0]["content"].split()[-1]) if "question" in str(body) else 0
    form = FORMS[number % len(FORMS)]
    whole = everywhere(form, body, before)
    headers = {"X-Key": KEY, "Retry-After": KEY, "x-ratelimit-limit-tokens": KEY}
    if number % 4 == 1:
        whole["choices"][0]["finish_reason"] = form
    if number % 4 == 2:
        whole["choices"][0]["message"]["refusal"] = f"no, {form}"
    if number % 4 == 3:
        error = {"message": f"bad prompt {form}", "code": form, "type": form}
        return Reply(status=400, raw=json.dumps({"error": error}).encode(), headers=headers)
    return Reply(raw=json.dumps(whole).encode(), headers=headers)


def assert_not_in(text):
    assert secrets._plain(KEY) not in secrets._plain(text)


def scan(folder: Path):
    """No file, and no value of the journal, has the key in any spelling."""
    for path in folder.rglob("*"):
        if path.is_file():
            assert_not_in(path.read_bytes().decode("latin-1"))
    for path in folder.rglob("*.sqlite"):
        with Journal(path) as journal:
            for table in ("responses", "batches"):
                for row in journal.execute(f"SELECT * FROM {table}"):
                    assert_not_in(" ".join(map(str, row)))


@pytest.mark.parametrize("batched", [False, True])
def test_no_file_of_a_run_holds_the_key(tmp_path, batched, caplog):
    caplog.set_level(logging.DEBUG)
    batch = {"at_least": 1, "poll_s": 0.01} if batched else None
    with BatchServer(leak) as server, Journal(tmp_path / "journal.sqlite") as journal:
        endpoint = Endpoint(model="m", base_url=server.url, api_key_env="OUR_KEY", batch=batch, concurrency=4)
        outcome = annotate(some_rows(40), Shouter(), endpoint, journal, max_unusable=1.0, progress=False)
        assert server.keys == {f"Bearer {KEY}"}
    assert len(outcome.rows) == 10 and len(outcome.removed) == 30
    assert all("[the key]" in row["loud"] for row in outcome.rows)
    for name in ("rows", "removed", "provenance"):
        getattr(outcome, name).to_parquet(tmp_path / f"{name}.parquet")
        assert_not_in(json.dumps(getattr(outcome, name).to_list(), ensure_ascii=False))
    scan(tmp_path)
    assert_not_in(caplog.text)


@pytest.mark.parametrize("status", [200, 302, 400, 401, 404, 429, 500])
@pytest.mark.parametrize("form", FORMS)
def test_no_error_shows_the_key(journal, tmp_path, form, status):
    body = json.dumps({"error": {"message": "x" * 280 + form, "code": 500 if status == 200 else form}}).encode()
    headers = {"Location": f"https://{KEY}.invalid/{KEY}", "Content-Type": f"text/{KEY}"}
    with ModelServer(lambda *_: Reply(status=status, raw=body, headers=headers)) as server:
        endpoint = Endpoint(model="m", base_url=server.url, api_key_env="OUR_KEY", max_retries=0, concurrency=1)
        with pytest.raises(StarError) as caught:
            annotate(some_rows(4), Shouter(), endpoint, journal, progress=False)
        assert_not_in(str(caught.value))
        assert_not_in(str(vars(probe(endpoint))))
    scan(tmp_path)


def test_a_batchs_id_that_is_the_key_is_not_kept(tmp_path):
    class Repeating(BatchServer):
        def create(self, body):
            return {**super().create(body), "id": f"batch-{KEY}"}

    with Repeating(shouted) as server, Journal(tmp_path / "journal.sqlite") as journal:
        endpoint = Endpoint(model="m", base_url=server.url, api_key_env="OUR_KEY", batch={"at_least": 1})
        with pytest.raises(StarError, match="ids that cannot be kept") as caught:
            annotate(some_rows(3), Shouter(), endpoint, journal, progress=False)
    assert_not_in(str(caught.value))
    scan(tmp_path)
