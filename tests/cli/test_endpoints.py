"""`star-hf endpoints check` against servers that can more and less."""

import json
from importlib.util import find_spec

import pytest
from typer.testing import CliRunner

from model_server import Handler, ModelServer, Reply
from small_gguf import small_gguf
from star_hf.cli import app
from star_hf.cli.endpoints import _schemas
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


def schema_of(body):
    """The properties that an answer is bound to, in whichever field they are sent."""
    form = body.get("response_format", {}).get("json_schema", {}).get("schema")
    schema = form or body.get("structured_outputs", {}).get("json") or body.get("guided_json") or {}
    return schema.get("properties", {})


def able(*modes, logprobs=False, refuses=None, **message):
    """A model that keeps to a schema in these modes, ignores or refuses the others, and likes prose best."""

    def rule(body, before):
        form = body.get("response_format", {}).get("type")
        if "logprobs" in body and not logprobs:
            return Reply(status=400, error={"message": "logprobs are not supported"})
        asked = form or next((mode for mode in ("structured_outputs", "guided_json") if mode in body), None)
        if asked == "guided_json" and asked not in modes:
            return Reply(status=400, error={"message": "unknown field"})
        keeps = asked in modes
        if keeps and '"uniqueItems"' in json.dumps(body):  # as vLLM answers
            return Reply(status=400, error={"message": 'Unimplemented keys: ["uniqueItems"]'})
        if keeps and refuses and refuses in schema_of(body):
            return Reply(status=400, error={"message": f"{refuses} is not for this server"})
        text = '{"answer": 1}' if asked == "json_object" else json.dumps(dict.fromkeys(schema_of(body), "teal"))
        text = text if keeps else "Blue."
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


STAGES = _schemas(None)[None]


def test_the_stages_own_schemas_are_asked_for_in_each_way():
    with ListingServer(able(*MODES)) as server:
        finding = probe(endpoint(server), STAGES)
    assert all(finding.modes.values()) and len(finding.modes) == len(MODES) and not finding.refused
    for way in (lambda body: body.get("structured_outputs", {}).get("json"), lambda body: body.get("guided_json")):
        asked = [way(body) for body in server.requests if way(body)]
        assert [list(schema["properties"]) for schema in asked[1:]] == [list(each["properties"]) for each in STAGES]


@pytest.mark.parametrize("mode", ["json_schema", "structured_outputs", "guided_json"])
def test_a_way_that_refuses_a_stages_schema_does_not_work(mode):
    with ListingServer(able(mode, "json_object", refuses="category")) as server:
        assert probe(endpoint(server, structured=mode)).keeps_schema, "the plain one passes"
        finding = probe(endpoint(server, structured=mode), STAGES)
    assert not finding.keeps_schema and finding.advice == ["structured: json_object"]
    assert finding.refused == {mode: "400: category is not for this server"}


@pytest.mark.parametrize(
    ("reply", "works"),
    [
        ("Blue.", False),
        ('{"colour": "blue"}', False),
        (Reply('{"question": "blue and', finish_reason="length"), True),
        ('{"question": "blue"}', True),
    ],
)
def test_an_answer_outside_a_stages_schema_does_not_bind(reply, works):
    def rule(body, before):
        return reply if "question" in schema_of(body) else able(*MODES)(body, before)

    with ListingServer(rule) as server:
        assert probe(endpoint(server), STAGES).modes["json_schema"] == works


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
        # the judge's two plain requests, the probing ones, and its stages' four schemas in each way that sends one
        assert code == 0 and len(judge.requests) == 2 + len(MODES) + 4 * (len(MODES) - 1)
        assert len(teacher.requests) == 2 * (2 + len(MODES)), "each member of a pool"
    assert "classifier, scorer" in output and "judge-model" in output and "thinker" in output
    assert "reasoning" in output and "500 requests" in output and KEY not in output


def test_a_judge_that_cannot_keep_its_schema_fails_the_check_and_a_teacher_need_not(recipe):
    with ListingServer(able("json_object")) as judge, ListingServer(able()) as teacher:
        code, output = told(recipe(judge, teacher))
        assert code == 1 and "`structured: json_schema` does not work here; structured: json_object" in output
        assert told(recipe(judge, teacher, structured="json_object"))[0] == 0


def test_what_the_server_said_to_a_stages_schema_is_told(recipe):
    with (
        ListingServer(able("structured_outputs", "json_object", refuses="category")) as judge,
        ListingServer(able()) as teacher,
    ):
        code, output = told(recipe(judge, teacher, provider="vllm", structured="structured_outputs"))
    told_in_one_line = " ".join(output.split())
    assert code == 1 and "does not work here (400: category is not for this server)" in told_in_one_line


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
