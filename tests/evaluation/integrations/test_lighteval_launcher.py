"""What lighteval 0.13 needs. A test marked `slow` that fails here says that upstream mended it: remove the fix."""

import inspect
import logging
import os
import sys
from contextlib import redirect_stdout
from io import StringIO
from types import SimpleNamespace

import pytest
import yaml
from policy_world import policy, suite_of

from star_hf.errors import ConfigError, IncompleteRunError
from star_hf.evaluation.integrations import harness
from star_hf.evaluation.integrations import lighteval_launcher as launcher
from star_hf.evaluation.integrations.lighteval_launcher import (
    _check_logs,
    _check_pins,
    _expanded,
    _with_cache,
)


slow = pytest.mark.slow
"""Importing lighteval takes seconds."""


@pytest.fixture
def lighteval(monkeypatch):
    """lighteval as released: what a fix changes in it is changed back."""

    def keep(owner, name):
        monkeypatch.setattr(owner, name, getattr(owner, name))

    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    pytest.importorskip("lighteval")
    return keep


@slow
def test_a_built_in_task_downloads_at_import(lighteval, monkeypatch):
    import requests

    def refuse(*arguments, **options):
        raise ConnectionError("no network in this test")

    monkeypatch.setattr(requests, "get", refuse)
    monkeypatch.delitem(sys.modules, "lighteval.tasks.tasks.tiny_benchmarks", raising=False)
    with pytest.raises(ConnectionError):
        import lighteval.tasks.tasks.tiny_benchmarks  # noqa: F401
    launcher.no_download_at_import()
    import lighteval.tasks.tasks.tiny_benchmarks  # noqa: F401, F811

    del sys.modules["lighteval.tasks.tasks.tiny_benchmarks"]


@slow
def test_lighteval_hands_inspect_fields_that_it_does_not_have(lighteval):
    import lighteval.main_inspect as main
    from inspect_ai.model import GenerateConfig

    lighteval(main, "inspect_ai_eval_set")
    source = inspect.getsource(main.eval)
    for wrong, right in launcher.RENAMED.items():
        assert f"{wrong}=" in source
        assert wrong not in GenerateConfig.model_fields and right in GenerateConfig.model_fields
    given = {}
    main.inspect_ai_eval_set = lambda tasks, **options: given.update(options) or (True, [])
    launcher.fields_that_inspect_knows()
    main.inspect_ai_eval_set([], frequence_penalty=0.5, log_probs=None, response_format=None, temperature=0.6)
    assert given == {"frequency_penalty": 0.5, "temperature": 0.6, "fail_on_error": 1.0}
    GenerateConfig(frequency_penalty=0.5, temperature=0.6)


@slow
def test_lighteval_eval_ignores_custom_tasks(lighteval, monkeypatch):
    import lighteval.main_inspect as main
    from lighteval.tasks.registry import Registry

    assert "custom_tasks=None" in inspect.getsource(main.eval)
    given = []
    monkeypatch.setattr(Registry, "__init__", lambda self, *arguments: given.append(arguments))
    launcher.custom_tasks_of_eval("star1.py")
    Registry(tasks="star1:jbb", custom_tasks=None, load_multilingual=False)
    assert given == [("star1:jbb", False, "star1.py")]


@slow
def test_the_list_of_tasks_has_ours_and_needs_no_network(lighteval, monkeypatch):
    from lighteval.tasks.registry import Registry

    def listed():
        with redirect_stdout(StringIO()) as out:  # lighteval's imports close what pytest's `capsys` puts there
            Registry.print_all_tasks(SimpleNamespace(_task_registry={"gsm8k": None, "star1:jbb": None}))
        return out.getvalue().split()

    lighteval(Registry, "print_all_tasks")
    assert "star1:jbb" not in listed()  # as released
    monkeypatch.setattr("lighteval.__main__.app", lambda args, prog_name: given.append(args))
    monkeypatch.delitem(sys.modules, "lighteval.tasks.tasks.tiny_benchmarks", raising=False)
    given = []
    monkeypatch.setattr(harness, "failed_shares", {})
    launcher.launch(["tasks", "list"])
    assert not logging.getLogger("star_hf.evaluation.grading.grade").disabled  # as lighteval leaves it
    assert given[0][2:] == ["--custom-tasks", str(launcher.project_folder("lighteval_tasks") / "star1.py")]
    assert not hasattr(sys.modules["lighteval.tasks.tasks.tiny_benchmarks"], "__file__")  # nothing was downloaded
    assert listed() == ["gsm8k", "star1:jbb"]


@slow
def test_lighteval_accelerate_ignores_a_temperature(lighteval):
    from lighteval.models.model_input import GenerationParameters

    lighteval(GenerationParameters, "to_transformers_dict")
    drawn, greedy = GenerationParameters(temperature=0.6), GenerationParameters(temperature=0)
    assert "do_sample" not in drawn.to_transformers_dict()
    launcher.sampling_that_was_asked_for()
    assert drawn.to_transformers_dict()["do_sample"] is True and "do_sample" not in greedy.to_transformers_dict()


@slow
def test_lighteval_accelerate_does_not_say_how_an_answer_ended(lighteval, tiny):
    import torch
    from lighteval.models.transformers.transformers_model import TransformersModel, TransformersModelConfig
    from lighteval.tasks.requests import Doc

    lighteval(TransformersModel, "_padded_greedy_until")
    options = {"dtype": "float32", "batch_size": 8, "device": "cpu", "compile": False}
    model = TransformersModel(config=TransformersModelConfig(model_name=str(tiny), **options))
    model.generation_config_dict |= {"do_sample": True, "temperature": 1.0}
    docs = [
        Doc(query=f"a question, number {n}", choices=[""], gold_index=0, generation_size=200, stop_sequences=[])
        for n in range(1, 33)
    ]
    torch.manual_seed(0)
    before = model._padded_greedy_until(docs)
    assert not any(isinstance(response.input, str) for response in before)
    launcher.answers_that_say_how_they_ended()
    torch.manual_seed(0)
    after = model._padded_greedy_until(docs)
    assert all(isinstance(response.input, str) for response in after)
    lengths = [[len(response.output_tokens[0]) for response in each] for each in (before, after)]
    assert lengths[0] != lengths[1], "padding is gone"
    assert [response.text for response in after] == [response.text for response in before]


@slow
def test_litellm_keeps_answers_in_the_working_directory(lighteval, tmp_path, monkeypatch):
    pytest.importorskip("litellm")
    from litellm.caching.disk_cache import DiskCache

    lighteval(DiskCache, "__init__")
    monkeypatch.chdir(tmp_path)
    DiskCache()
    assert (tmp_path / ".litellm_cache").exists()
    launcher.litellm_cache_in(tmp_path / "own")
    monkeypatch.chdir(tmp_path / ".litellm_cache")
    DiskCache()
    assert (tmp_path / "own" / "litellm").exists() and not (tmp_path / ".litellm_cache" / ".litellm_cache").exists()


@slow
def test_the_pins_are_still_needed(lighteval):
    from lighteval.logging import info_loggers
    from lighteval.metrics import metrics_sample

    assert "list_models(model_name=" in inspect.getsource(metrics_sample), "huggingface_hub 2 has no model_name"
    assert "xxh64(doc.query)" in inspect.getsource(info_loggers), "xxhash 4 takes no text"


def test_a_package_that_breaks_lighteval_is_told_before_anything_runs(monkeypatch):
    versions = {"lighteval": "0.13.0", "huggingface_hub": "1.33.0", "xxhash": "4.0.1"}
    monkeypatch.setattr(launcher, "version", versions.__getitem__)
    monkeypatch.setattr(launcher, "require", lambda *packages, what: None)
    with pytest.raises(ConfigError, match="breaks with xxhash 4.0.1"):
        _check_pins()
    _check_pins.__globals__["version"] = {**versions, "xxhash": "3.8.2"}.__getitem__
    _check_pins()


def test_groups_stand_for_their_tasks():
    assert _expanded("star1:math500") == "star1:math500"
    assert _expanded("star1:reasoning,star1:aime24,gsm8k") == (
        "star1:aime24,star1:math500,star1:gpqa_diamond,star1:mmlu_pro,star1:humaneval,gsm8k"
    )
    assert _expanded("model_name=star1") == "model_name=star1"


def test_a_suites_file_becomes_its_task_and_is_named_in_the_environment(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STAR_HF_SUITES", "other.yaml")
    suite_of(policy(1)).save("suite.yaml")
    assert _expanded("star1:suite.yaml,star1:jbb") == "star1:suite-house,star1:jbb"
    assert _expanded("star1:suite.yaml") == "star1:suite-house"
    assert os.environ["STAR_HF_SUITES"] == f"other.yaml,{tmp_path / 'suite.yaml'}"
    assert _expanded("model.yaml") == "model.yaml"


def test_retrained_weights_have_a_cache_of_their_own(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tiny.parent)
    first = _with_cache("model_name=tiny,dtype=float32", tmp_path, tmp_path, fresh=False)
    assert first.startswith("model_name=tiny,dtype=float32,cache_dir=")
    assert _with_cache("model_name=tiny,dtype=float32", tmp_path, tmp_path, fresh=False) == first
    config = tiny / "generation_config.json"
    text = config.read_text()
    config.write_text(text + " ")
    assert _with_cache("model_name=tiny,dtype=float32", tmp_path, tmp_path, fresh=False) != first
    config.write_text(text)


def test_an_endpoints_answers_are_kept_for_one_run(tmp_path):
    path = tmp_path / "litellm.yaml"
    path.write_text("model_parameters: {model_name: openai/m, base_url: 'http://localhost:8000/v1'}\n")
    (tmp_path / "own").mkdir()
    files = [_with_cache(str(path), tmp_path, tmp_path / "own", fresh=True) for _ in range(2)]
    caches = {yaml.safe_load(open(file).read())["model_parameters"]["cache_dir"] for file in files[-1:]}
    assert "cache_dir" not in path.read_text() and len(caches) == 1
    own = "model_name=m,cache_dir=mine"
    assert _with_cache(own, tmp_path, tmp_path, fresh=True) == own


@pytest.mark.parametrize(
    ("model", "words"),
    [("model_name=/models/tiny", "absolute model path"), ("model_name=m,max_new_tokens=10", "max_new_tokens")],
)
def test_what_would_mix_up_or_cut_answers_is_refused(model, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        _with_cache(model, tmp_path, tmp_path, fresh=True)


def test_too_many_failures_end_the_run(monkeypatch):
    monkeypatch.setattr(harness, "failed_shares", {"jbb": 0.3, "xstest": 0.05})
    with pytest.raises(IncompleteRunError, match="jbb 30%") as caught:
        harness.check_failures(harness.failed_shares)
    assert "xstest" not in caught.value.message
    monkeypatch.setenv("STAR_HF_MAX_FAILURES", "0.5")
    harness.check_failures(harness.failed_shares)


def test_a_task_that_did_not_finish_and_samples_without_a_score_end_the_run(monkeypatch):
    monkeypatch.setattr(harness, "failed_shares", {})

    def log(status="success", scored=9, unscored=1):
        scores = [SimpleNamespace(scored_samples=scored, unscored_samples=unscored)]
        return SimpleNamespace(
            status=status, results=SimpleNamespace(scores=scores), eval=SimpleNamespace(task=f"jbb-{unscored}")
        )

    for success, status in ((False, "success"), (True, "error")):
        with pytest.raises(IncompleteRunError, match="did not finish[\\s\\S]*--log-dir logs"):
            _check_logs(success, [log(), log(status)], "logs")
    _check_logs(True, [log(), log(scored=6, unscored=4)], "logs")
    assert harness.failed_shares == {"jbb-1": 0.1, "jbb-4": 0.4}
    with pytest.raises(IncompleteRunError, match="jbb-4 40%"):
        harness.check_failures(harness.failed_shares)
