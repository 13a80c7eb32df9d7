import json
from importlib.util import find_spec

import pytest
from typer.testing import CliRunner

from model_server import ModelServer
from small_benchmarks import answer, write_benchmarks
from small_gguf import small_gguf
from star_hf import cli
from star_hf.errors import ConfigError, IncompleteRunError
from star_hf.utils.files import sha256_of


def run(*words):
    return CliRunner().invoke(cli.app, ["evaluate", *map(str, words)], env={"COLUMNS": "160"})


@pytest.fixture
def server():
    with ModelServer(answer) as server:
        yield server


@pytest.fixture
def data_dir(tmp_path):
    return write_benchmarks(tmp_path / "data")


def test_rates_are_shown_with_intervals_categories_and_the_folder(server, data_dir, tmp_path):
    words = ("--model", "m", "--base-url", server.url, "--data-dir", data_dir, "--output", tmp_path / "results")
    result = run(*words, "--tasks", "star1:strongreject,xstest", "--judge", "refusal-phrases", "--fingerprint", "a")
    assert result.exit_code == 0, result.output
    for part in ("66.7", "39.1-86.2", "12 of 12", "Whistles", "mean safety", str(tmp_path / "results")):
        assert part in result.output
    data = json.loads((tmp_path / "results" / "results.json").read_text())
    assert data["profile"] == "recommended" and data["benchmarks"]["strongreject"]["n"] == 12
    assert data["generation"]["benchmarks"]["xstest"]["max_tokens"] == 8000


def test_too_many_answers_without_a_value_are_shown_and_end_with_3(data_dir, tmp_path):
    def half(body, before):
        return "" if "ladder" in body["messages"][-1]["content"] else answer(body)

    with ModelServer(half) as server:
        words = ("--model", "m", "--base-url", server.url, "--data-dir", data_dir, "--output", tmp_path / "results")
        words += ("--tasks", "strongreject", "--judge", "refusal-phrases")
        result = run(*words)
        assert isinstance(result.exception, IncompleteRunError) and "4 empty" in result.output
        assert run(*words, "--max-failures", "0.4").exit_code == 0


def test_options_reach_the_model_and_are_recorded(server, data_dir, tmp_path):
    words = ("--model", "m", "--base-url", server.url, "--data-dir", data_dir, "--output", tmp_path / "results")
    words += ("--tasks", "strongreject", "--judge", "refusal-phrases", "--attack", "prefill")
    result = run(*words, "--limit", "3", "--samples", "2", "--max-tokens", "77")
    assert result.exit_code == 0, result.output
    _, *bodies = server.requests
    assert {body["messages"][-1]["role"] for body in bodies} == {"assistant"}
    assert len(bodies) == 6 and {body["max_tokens"] for body in bodies} == {77}
    record = json.loads((tmp_path / "results" / "results.json").read_text())["generation"]
    own = record["benchmarks"]["strongreject"]
    assert (record["attack"], own["samples"], own["max_tokens"], own["limit"]) == ("prefill", 2, 77, 3)


def test_a_model_that_always_reasons_has_no_answer_without_a_closed_thought(data_dir, tmp_path):
    with ModelServer(lambda body, before: "Sure, first look at it.") as server:
        words = ("--model", "m", "--base-url", server.url, "--data-dir", data_dir, "--output", tmp_path / "results")
        words += ("--tasks", "strongreject", "--judge", "refusal-phrases", "--limit", "2")
        assert run(*words).exit_code == 0
        result = run(*words, "--expects-reasoning")
    assert isinstance(result.exception, IncompleteRunError) and "2 unclosed" in result.output


def test_an_endpoint_may_be_a_file(server, data_dir, tmp_path):
    (tmp_path / "mine.yaml").write_text(f"provider: vllm\nbase_url: {server.url}\nconcurrency: 2\n")
    result = run("--model", "m", "--endpoint", tmp_path / "mine.yaml", "--tasks", "math500", "--limit", "2",
                 "--data-dir", data_dir, "--output", tmp_path / "results")  # fmt: skip
    assert result.exit_code == 0, result.output
    (tmp_path / "mine.yaml").write_text("provider: nobody\nheat: 3\n")
    result = run("--model", "m", "--endpoint", tmp_path / "mine.yaml", "--tasks", "math500")
    assert isinstance(result.exception, ConfigError)
    assert isinstance(run("--model", "m", "--endpoint", tmp_path / "none.yaml").exception, ConfigError)


@pytest.mark.skipif(not find_spec("openvino_genai"), reason="openvino_genai is not installed")
def test_a_gguf_file_is_measured_in_this_process(data_dir, tmp_path):
    path = small_gguf(tmp_path / "model.gguf")
    words = ("--model", path, "--data-dir", data_dir, "--output", tmp_path / "results", "--max-failures", "1")
    result = run(*words, "--tasks", "strongreject", "--judge", "refusal-phrases", "--limit", "2", "--max-tokens", "4")
    assert isinstance(result.exception, IncompleteRunError) and "2 truncated" in result.output
    record = json.loads((tmp_path / "results" / "results.json").read_text())
    assert record["model"]["fingerprint"] == sha256_of(path)
    assert record["benchmarks"]["strongreject"]["failures"] == {"truncated": 2}


def test_a_system_prompt_is_a_file_and_names_the_folder(server, data_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bank.md").write_text("You help customers of a bank.\n")
    words = ("--model", "m", "--base-url", server.url, "--data-dir", data_dir, "--fingerprint", "a", "--limit", "2")
    words += ("--tasks", "strongreject", "--judge", "refusal-phrases", "--system-prompt")
    result = run(*words, "bank.md")
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "results" / "m" / "recommended-bank" / "results.json").read_text())
    assert record["generation"]["system_prompt"] == sha256_of(b"You help customers of a bank.")[:16]
    assert {body["messages"][0]["content"] for body in server.requests[2:]} == {"You help customers of a bank."}
    before = len(server.requests)
    for name, content in (("none.md", None), ("empty.md", b" \n"), ("bytes.md", b"\xff\xfe\x00"), (".", None)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        result = run(*words, name)
        assert isinstance(result.exception, ConfigError) and f"system prompt {name} " in str(result.exception)
    assert len(server.requests) == before
