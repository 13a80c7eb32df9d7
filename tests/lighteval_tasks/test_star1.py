"""The tasks, and the commands by which lighteval and inspect-ai run them, on a tiny model with judges on loopback."""

import configparser
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from forked import ForkServer
from model_server import ModelServer, Reply
from small_benchmarks import answer, tiny_model, write_benchmarks
from star_hf.errors import ConfigError
from star_hf.evaluation.tasks.benchmarks import BENCHMARKS
from star_hf.evaluation.types import Item


pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


def guard(body, before=0):
    asked, said = (message["content"] for message in body["messages"])
    return "unsafe\nS2" if "steal" in asked or "misuse" in asked and "First, look" in said else "safe"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working directory with a model and data."""
    folder = tmp_path_factory.mktemp("work")
    tiny_model(folder / "tiny")
    write_benchmarks(folder / "data")
    return folder


@pytest.fixture
def judge():
    with ModelServer(guard) as server:
        yield server


@pytest.fixture
def model():
    with ModelServer(answer) as server:
        yield server


PROGRAMS = {
    "star-hf": "from star_hf.cli import main; main()",
    "inspect": "from inspect_ai._cli.main import main; main()",
}
IMPORTS = """
from star_hf.evaluation.integrations import harness, lighteval_launcher
lighteval_launcher.no_download_at_import()
import inspect_ai._cli.main, lighteval.__main__, star_hf.cli
import litellm, lighteval.models.endpoints.litellm_model, lighteval.pipeline
import lighteval.models.transformers.transformers_model
"""


def environment(place, judge=None, model=None, path=(), **variables):
    """Of a user without a network."""
    judges = {"STAR_HF_JUDGE": f"llama-guard-3@{judge.url},refusal-phrases"} if judge else {}
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("STAR_HF_")},
        "PYTHONPATH": os.pathsep.join([*path, str(ROOT)]),
        "HF_HOME": str(place / "hf"),
        "HF_HUB_OFFLINE": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "STAR_HF_DATA_DIR": str(place / "data"),
        "COLUMNS": "200",
        **judges,
        **({"LOCAL_BASE_URL": model.url, "LOCAL_API_KEY": "none"} if model else {}),
        **variables,
    }


@pytest.fixture(scope="module")
def server(place):
    """Has imported lighteval and inspect-ai."""
    server = ForkServer(IMPORTS, environment(place))
    yield server
    server.close()


@pytest.fixture
def run(place, server):
    """Runs `star-hf ...` or `inspect ...` as a user would, in a fork that has imported lighteval."""

    def run(*words, **options):
        return server.run(PROGRAMS[words[0]], words, place, place, environment(place, **options))

    return run


def launch(place, *words, **options):
    """Run `star-hf ...` or `inspect ...` in a process of its own."""
    command = [sys.executable, "-c", PROGRAMS[words[0]], *words[1:]]
    env = environment(place, **options)
    return subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, timeout=200)


def adapter():
    """The file as lighteval loads it."""
    spec = importlib.util.spec_from_file_location("star1_tasks", ROOT / "lighteval_tasks" / "star1.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def results(folder):
    path = max(folder.glob("**/results_*.json"))
    return json.loads(path.read_text())["results"]


def logs(folder):
    from inspect_ai.log import list_eval_logs, read_eval_log

    return {log.eval.task.split("/")[-1]: log for log in map(read_eval_log, list_eval_logs(str(folder)))}


def rates(log):
    (score,) = log.results.scores
    return {name: metric.value for name, metric in score.metrics.items()}, score.unscored_samples


def test_the_table_holds_every_benchmark_and_reads_no_data(monkeypatch):
    monkeypatch.setenv("STAR_HF_DATA_DIR", "/nowhere")
    monkeypatch.delenv("STAR_HF_JUDGE", raising=False)
    tasks = adapter().TASKS_TABLE
    assert [task.name for task in tasks] == [f"star1:{name}" for name in BENCHMARKS]
    assert all(task.scorer and task.sample_fields and task.solver for task in tasks)
    from inspect_ai._util.registry import registry_find, registry_info

    known = {registry_info(found).name.split("/")[-1] for found in registry_find(lambda info: info.type == "task")}
    assert set(BENCHMARKS) <= known


def test_an_item_that_lighteval_cannot_send_is_refused(monkeypatch):
    monkeypatch.setenv("STAR_HF_JUDGE", "refusal-phrases")
    row = {**vars(Item("a", "Why?")), "facts": "{}", "turns": "[]"}
    assert adapter().prompt(row, "star1:jbb").query == "Why?"
    for more in ({"system": "Be brief."}, {"turns": '["Hi."]'}):
        with pytest.raises(ConfigError, match="item a has a system prompt or several turns"):
            adapter().prompt({**row, **more}, "star1:jbb")


def test_responses_say_whether_they_were_cut_unclosed_or_never_came():
    from lighteval.models.model_output import ModelResponse
    from lighteval.tasks.requests import Doc

    answers_of = adapter().answers_of
    doc = Doc(query="?", choices=[""], gold_index=0, generation_size=4, specific={"id": "a"})

    def failures(**response):
        return [answer.failure for answer in answers_of(doc, ModelResponse(**response))]

    assert failures(text=["", "Well."]) == ["unanswered", None]
    assert failures(input="?", text=["One two", "One", ""], output_tokens=[[1] * 4, [1], []]) == (
        ["truncated", None, "unanswered"]
    )
    assert failures(input="?", text=[""], output_tokens=[[1] * 4]) == ["truncated"], "special tokens to the end"
    assert failures(input="?<think>\n", text=["It is", "It is</think>Four."], output_tokens=[[1], [1]]) == (
        ["unclosed", None]
    )
    (thought,) = answers_of(doc, ModelResponse(text=["Four."], reasonings=["Two and two."]))
    assert (thought.answer, thought.reasoning) == ("Four.", "Two and two.")


def test_lighteval_accelerate(run, place, judge):
    arguments = "model_name=tiny,dtype=float32,batch_size=4,generation_parameters={temperature:1.0}"
    words = ["lighteval", "accelerate", arguments, "star1:strongreject,star1:math500"]
    words += ["--output-dir", "accelerate", "--save-details"]
    done = run("star-hf", *words, judge=judge, STAR_HF_MAX_TOKENS="150")
    found = results(place / "accelerate")
    safety = found["star1:strongreject|0"]
    assert safety["judged"] + safety["failed"] == 12 and 0 < safety["judged"] < 12, done.stderr
    assert (safety["score"], safety["thought_score"] == safety["thought_score"]) == (1.0, False)
    assert safety["score_low"] < 1 == safety["score_high"]
    assert done.returncode == 3 and "have no value" in done.stderr, "a model that babbles ends few of its answers"
    asked = len(judge.requests)
    again = run("star-hf", *words, judge=judge, STAR_HF_MAX_TOKENS="150", STAR_HF_MAX_FAILURES="1")
    assert again.returncode == 0 and len(judge.requests) == asked + 2, "a probe of two: answers and verdicts were kept"


def test_lighteval_eval(place, judge, model):
    words = ["lighteval", "eval", "openai-api/local/m", "star1:strongreject,star1:xstest,star1:math500"]
    words += ["--log-dir", "eval", "--temperature", "0.6", "--display", "plain"]
    done = launch(place, "star-hf", *words, judge=judge, model=model)
    assert done.returncode == 0, done.stderr
    found = {name: rates(log) for name, log in logs(place / "eval").items()}
    safety, unscored = found["star1:strongreject"]
    assert (round(safety["accuracy"], 3), unscored) == (0.667, 0)
    assert (round(safety["wilson_low"], 3), round(safety["wilson_high"], 3)) == (0.391, 0.862)
    assert found["star1:xstest"][0]["accuracy"] == 1.0 and found["star1:math500"][0]["accuracy"] == 0.75
    assert model.requests[0]["temperature"] == 0.6 and not (place / ".litellm_cache").exists()


def test_inspect_eval_by_the_name_of_the_installed_package(place, judge, model, tmp_path):
    package = tmp_path / "star_hf-0.dist-info"
    package.mkdir()
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: star_hf\nVersion: 0\n")
    (package / "entry_points.txt").write_text(f"[inspect_ai]{setup['options.entry_points']['inspect_ai']}\n")
    (package / "direct_url.json").write_text(json.dumps({"url": ROOT.as_uri(), "dir_info": {"editable": True}}))
    words = ["eval", "star_hf/strongreject", "--model", "openai-api/local/m", "--log-dir", "inspect"]
    done = launch(place, "inspect", *words, "--display", "plain", judge=judge, model=model, path=[str(tmp_path)])
    assert done.returncode == 0, done.stderr + done.stdout
    (log,) = logs(place / "inspect").values()
    assert round(rates(log)[0]["accuracy"], 3) == 0.667


def test_a_thought_cut_off_is_unscored_in_inspect(run, place, judge):
    def sloppy(body, before):
        cut = "ladder" in body["messages"][-1]["content"]
        return Reply("<think>\nI", finish_reason="length") if cut else answer(body)

    with ModelServer(sloppy) as model:
        file = f"{ROOT}/star_hf/evaluation/integrations/inspect_tasks.py@strongreject"
        words = ["eval", file, "--model", "openai-api/local/m", "--log-dir", "cut", "--display", "plain"]
        done = run("inspect", *words, judge=judge, model=model)
    assert done.returncode == 1, done.stderr + done.stdout
    assert "4 of 12 samples have no value" in done.stderr and "strongreject 33%" in done.stderr
    (log,) = logs(place / "cut").values()
    measured, unscored = rates(log)
    assert (measured["accuracy"], unscored) == (0.5, 4)


def test_a_dead_model_is_not_safe(run, place, judge):
    with ModelServer(answer) as server:
        url = server.url
    (place / "dead.yaml").write_text(
        f"model_parameters: {{model_name: openai/m, base_url: '{url}', api_key: none, api_max_retry: 1}}\n"
    )
    words = ["lighteval", "endpoint", "litellm", "dead.yaml", "star1:strongreject", "--output-dir", "dead"]
    done = run("star-hf", *words, judge=judge)
    assert done.returncode == 3 and "strongreject 100%" in done.stderr, done.stderr
    safety = results(place / "dead")["star1:strongreject|0"]
    assert safety["failed"] == 12 and safety["score"] != safety["score"]


def test_lighteval_endpoint_litellm(run, place, judge, model):
    (place / "model.yaml").write_text(
        f"model_parameters: {{model_name: openai/m, base_url: '{model.url}', api_key: none}}\n"
    )
    words = ["lighteval", "endpoint", "litellm", "model.yaml", "star1:strongreject", "--output-dir", "litellm"]
    done = run("star-hf", *words, judge=judge)
    assert done.returncode == 0, done.stderr
    assert round(results(place / "litellm")["star1:strongreject|0"]["score"], 3) == 0.667


@pytest.mark.parametrize("variables", [{}, {"STAR_HF_JUDGE": "llama-guard-3@http://127.0.0.1:9/v1"}])
def test_nothing_is_generated_without_a_judge_that_answers(variables, run, model):
    words = ["lighteval", "eval", "openai-api/local/m", "star1:strongreject", "--log-dir", "none"]
    done = run("star-hf", *words, model=model, **variables)
    assert done.returncode in (2, 3), done.stderr
    assert ("STAR_HF_JUDGE" if not variables else "not ready") in done.stderr
    assert not model.requests
