"""`star-hf endpoints check` against servers that can more and less."""

import json
from importlib.util import find_spec

import pytest
from typer.testing import CliRunner

from model_server import Handler, ModelServer, Reply
from small_gguf import small_gguf
from star_hf.cli import app
from star_hf.llm import PRESETS, Endpoint
from star_hf.llm.http.probe import MODES, probe


KEY = "sk-not-a-real-key"


class ListingHandler(Handler):
    """Adds the list of models, and of batches where the server has them."""

    def do_GET(self) -> None:
        lists = {"/v1/models": [{"id": name, "object": "model"} for name in self.model_server.models]}
        if self.model_server.batches:
            lists["/v1/batches?limit=1"] = []
        found = self.path in lists
        data = json.dumps({"object": "list", "data": lists.get(self.path, []), "has_more": False}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class ListingServer(ModelServer):
    handler = ListingHandler

    def __init__(self, rule, models=("m",), batches=False):
        super().__init__(rule)
        self.models, self.batches = models, batches


def able(*modes, logprobs=False, **message):
    """A model that keeps to a schema in these modes, ignores or refuses the others, and likes prose best."""

    def rule(body, before):
        form = body.get("response_format", {}).get("type")
        if "logprobs" in body and not logprobs:
            return Reply(status=400, error={"message": "logprobs are not supported"})
        asked = form or next((mode for mode in ("structured_outputs", "guided_json") if mode in body), None)
        if asked == "guided_json" and asked not in modes:
            return Reply(status=400, error={"message": "unknown field"})
        keeps = asked in modes
        text = '{"answer": 1}' if keeps and asked == "json_object" else '{"hue": "teal"}' if keeps else "Blue."
        return Reply(text, message=message, headers={"x-ratelimit-limit-requests": "500"})

    return rule


def endpoint(server, **options):
    return Endpoint(model="m", provider="vllm", base_url=server.url, **options)


@pytest.mark.parametrize("modes", [(), ("json_object",), ("json_schema",), MODES, ("structured_outputs",)])
def test_the_ways_to_keep_a_schema_are_found_and_the_best_is_advised(modes):
    with ListingServer(able(*modes)) as server:
        finding = probe(endpoint(server, structured="json_schema"))
    assert finding.problem is None and [mode for mode, works in finding.modes.items() if works] == [
        mode for mode in MODES if mode in modes
    ]
    best = next((mode for mode in MODES if mode in modes), "prompt")
    assert finding.keeps_schema == ("json_schema" in modes)
    assert finding.advice == ([] if "json_schema" in modes else [f"structured: {best}"])


def test_an_answer_in_json_to_another_schema_is_no_structured_output():
    with ListingServer(lambda body, before: '{"hue": "pink"}') as server:
        assert not any(works for mode, works in probe(endpoint(server)).modes.items() if mode != "json_object")


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_the_field_of_a_thought_is_found(field):
    with ListingServer(able(**{field: "Hm."})) as server:
        assert probe(endpoint(server)).reasoning == field


def test_a_thought_in_the_text_is_found():
    with ListingServer(lambda body, before: "<think>\nHm.\n</think>\n\nready") as server:
        assert probe(endpoint(server)).reasoning == "inline <think>"


def test_limits_models_and_batches_are_found():
    with ListingServer(able(*MODES), models=("other",), batches=True) as server:
        finding = probe(endpoint(server))
    assert finding.limits == {"x-ratelimit-limit-requests": "500"} and finding.latency_s > 0
    assert finding.listed is False and finding.batches and not finding.logprobs
    assert finding.advice == ["batch: true"]


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (lambda body, before: Reply(status=401), "answered 401"),
        (lambda body, before: Reply(status=404), "usually ends in /v1"),
        (lambda body, before: Reply(status=500), "answered 500"),
        (lambda body, before: Reply(raw=b"<html>hello</html>"), "not with a chat completion"),
    ],
)
def test_what_is_wrong_is_told(rule, problem):
    with ListingServer(rule) as server:
        assert problem in probe(endpoint(server)).problem


def test_a_server_that_is_not_there_is_told():
    with ModelServer(able()) as server:
        pass
    assert f"{server.url} cannot be reached" in probe(endpoint(server)).problem


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def write(judge, teacher, **options):
        path = tmp_path / "recipe.yaml"
        one = {"model": "judge-model", "base_url": judge.url, **options}
        endpoints = {**dict.fromkeys(("classifier", "scorer", "rewriter"), one)}
        endpoints["teacher"] = {
            "provider": "vllm",
            "name": "t",
            "model": "thinker",
            "pool": [{"base_url": teacher.url}, {"base_url": teacher.url, "concurrency": 1}],
        }
        path.write_text(json.dumps({"endpoints": endpoints}))
        return ["endpoints", "check", "--config", str(path)]

    return write


def told(arguments):
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    return done.exit_code, done.output


def test_a_good_recipe_passes_and_each_endpoint_is_asked_once(recipe):
    with ListingServer(able(*MODES)) as judge, ListingServer(able(reasoning="Hm.")) as teacher:
        code, output = told(recipe(judge, teacher))
        assert code == 0 and len(judge.requests) == 2 + len(MODES)
        assert len(teacher.requests) == 2 * (2 + len(MODES)), "each member of a pool"
    assert "classifier, scorer" in output and "judge-model" in output and "thinker" in output
    assert "reasoning" in output and "500 requests" in output and KEY not in output


def test_a_judge_that_cannot_keep_its_schema_fails_the_check_and_a_teacher_need_not(recipe):
    with ListingServer(able("json_object")) as judge, ListingServer(able()) as teacher:
        code, output = told(recipe(judge, teacher))
        assert code == 1 and "`structured: json_schema` does not work here; structured: json_object" in output
        assert told(recipe(judge, teacher, structured="json_object"))[0] == 0


def test_a_broken_endpoint_fails_the_check(recipe):
    with ListingServer(able(*MODES)) as judge, ListingServer(lambda body, before: Reply(status=401)) as teacher:
        code, output = told(recipe(judge, teacher))
    assert code == 1 and "BROKEN" in output and "teacher" in output


def test_one_endpoint_can_be_checked_without_a_recipe():
    with ListingServer(able("json_schema")) as server:
        code, output = told(["endpoints", "check", "--base-url", server.url, "--model", "m"])
    assert code == 0 and "json_schema" in output


def test_without_keys_there_is_nothing_to_check(monkeypatch):
    import huggingface_hub

    for preset in PRESETS.values():
        monkeypatch.delenv(preset.api_key_env or "UNUSED", raising=False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    done = CliRunner().invoke(app, ["endpoints", "check"])
    assert "Nothing to check" in str(done.exception)


def test_the_presets_whose_keys_are_set_are_checked(monkeypatch):
    from star_hf.llm.http.probe import configured_presets

    for preset in PRESETS.values():
        monkeypatch.delenv(preset.api_key_env or "UNUSED", raising=False)
    monkeypatch.setenv("DEEPSEEK_API_KEY", KEY)
    monkeypatch.setenv("HF_TOKEN", KEY)
    assert {endpoint.provider for endpoint in configured_presets()} == {"deepseek", "hf"}


@pytest.mark.skipif(not find_spec("openvino_genai"), reason="openvino_genai is not installed")
def test_a_local_model_is_loaded_to_see_that_it_works(tmp_path):
    path = small_gguf(tmp_path / "model.gguf")
    assert probe(Endpoint(provider="local", model=str(path))).problem is None
    path.write_bytes(path.read_bytes()[:5000])
    assert "not a whole GGUF file" in probe(Endpoint(provider="local", model=str(path))).problem
