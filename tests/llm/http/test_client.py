"""What goes over the wire, for each kind of endpoint."""

import contextlib
import shutil
import ssl
import subprocess

import openai
import pytest

from model_server import ModelServer
from star_hf.errors import ConfigError
from star_hf.llm import PRESETS, Endpoint, Request
from star_hf.llm.http.pool import HttpProvider
from star_hf.llm.http.refusals import problem_of
from star_hf.llm.http.sdk import sync_client
from star_hf.llm.http.wire import address
from star_hf.pipeline.config import load_config


HELLO = [{"role": "user", "content": "hello"}]


SCHEMA = {
    "type": "object",
    "properties": {"names": {"type": "array", "items": {"type": "string"}, "uniqueItems": True}},
    "required": ["names"],
    "additionalProperties": False,
}


def complete(endpoint, request):
    """What was kept, and what failed."""
    kept = {}
    failures = HttpProvider(endpoint).complete(iter([("key", request)]), kept.__setitem__)
    return kept, failures


def ask(endpoint, request):
    kept, failures = complete(endpoint, request)
    assert failures == []
    return kept["key"]


def sent_to(server, **options):
    """The body that the server got for a request with a schema."""
    endpoint = Endpoint(provider="vllm", model="m", base_url=server.url, **options)
    ask(endpoint, Request(HELLO, schema=SCHEMA))
    return server.requests[-1]


@pytest.fixture
def server():
    with ModelServer(lambda body, before: "hi") as server:
        yield server


def test_a_schema_goes_as_strict_json_schema_without_what_strict_mode_refuses(server):
    form = sent_to(server, structured="json_schema")["response_format"]
    assert form["type"] == "json_schema" and form["json_schema"]["strict"] is True
    assert form["json_schema"]["schema"]["properties"] == {"names": {"type": "array", "items": {"type": "string"}}}
    assert SCHEMA["properties"]["names"]["uniqueItems"] is True, "the annotator's own schema is untouched"


@pytest.mark.parametrize(
    ("mode", "sent"),
    [
        ("structured_outputs", lambda body: body["structured_outputs"]["json"]),
        ("guided_json", lambda body: body["guided_json"]),
        ("json_schema", lambda body: body["response_format"]["json_schema"]["schema"]),
    ],
)
def test_each_way_sends_the_schema_without_what_decoders_refuse(server, mode, sent):
    names = {"names": {"type": "array", "items": {"type": "string"}}}
    assert sent(sent_to(server, structured=mode)) == {**SCHEMA, "properties": names}


def test_an_endpoint_without_schemas_gets_json_object_or_nothing(server):
    assert sent_to(server, structured="json_object")["response_format"] == {"type": "json_object"}
    assert "response_format" not in sent_to(server, structured="prompt")


def test_only_the_parameters_that_are_set_are_sent(server):
    assert set(sent_to(server, structured="prompt")) == {"model", "messages"}
    body = sent_to(server, temperature=0.0, top_p=0.7, max_tokens=5, seed=3, extra_body={"top_k": 2})
    assert {name: body[name] for name in ("temperature", "top_p", "max_tokens", "seed", "top_k")} == {
        "temperature": 0.0,
        "top_p": 0.7,
        "max_tokens": 5,
        "seed": 3,
        "top_k": 2,
    }


def test_each_sample_of_a_request_has_a_seed_of_its_own(server):
    endpoint = Endpoint(provider="vllm", model="m", base_url=server.url, seed=3)
    for sample in (0, 2):
        ask(endpoint, Request(HELLO, sample=sample))
    assert [body["seed"] for body in server.requests] == [3, 5]


def test_azure_is_asked_at_its_deployment_with_its_own_header(server, monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-not-a-key")
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.url.removesuffix("/v1"))
    endpoint = Endpoint(provider="azure", model="my-deployment", api_version="2024-10-21")
    assert ask(endpoint, Request(HELLO)).text == "hi"
    assert server.paths == {"/openai/deployments/my-deployment/chat/completions?api-version=2024-10-21"}
    assert server.keys == {"azure-not-a-key"}


@pytest.mark.parametrize("provider", ["openai", "azure"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_address_and_key_are_those_of_the_openai_client(server, monkeypatch, provider, slash):
    monkeypatch.setenv(PRESETS[provider].api_key_env, "not-a-key")
    endpoint = Endpoint(provider=provider, model="m", base_url=f"{server.url}{slash}")
    ask(endpoint, Request(HELLO))
    ours = server.paths.pop(), server.keys.pop()
    with sync_client(endpoint) as theirs:
        theirs.chat.completions.create(model="m", messages=HELLO)
        assert ours == (server.paths.pop(), server.keys.pop())
        with contextlib.suppress(openai.OpenAIError, ValueError):  # a chat completion is no embedding
            theirs.embeddings.create(model="m", input=["hello"])
    assert {address(endpoint, "embeddings")} == {server.url.removesuffix("/v1") + path for path in server.paths}, slash


def test_a_proxy_of_the_environment_is_asked_but_never_for_this_machine(server, monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/v1"))
    assert ask(Endpoint(provider="vllm", model="m", base_url="http://model.invalid/v1"), Request(HELLO)).text == "hi"
    assert server.paths == {"http://model.invalid/v1/chat/completions"}
    server.paths.clear()
    ask(Endpoint(provider="vllm", model="m", base_url=server.url), Request(HELLO))
    assert server.paths == {"/v1/chat/completions"}
    monkeypatch.setenv("no_proxy", "model.invalid")
    aside = Endpoint(provider="vllm", model="m", base_url="http://model.invalid/v1", max_retries=0)
    assert "model.invalid" in complete(aside, Request(HELLO))[1][0]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_a_certificate_must_be_one_that_this_machine_trusts(server, monkeypatch, tmp_path):
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    options = "-x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    command = ["openssl", "req", *options.split(), "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.wrap(context)
    url = server.url.replace("http://127.0.0.1", "https://localhost")
    endpoint = Endpoint(provider="vllm", model="m", base_url=url, max_retries=0)
    _, (problem,) = complete(endpoint, Request(HELLO))
    assert "certificate" in problem.lower()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert ask(endpoint, Request(HELLO)).text == "hi"


def test_a_key_with_a_line_break_around_it_is_taken_without_it_and_one_with_a_break_inside_is_refused(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", " not-a-key\n")
    assert Endpoint(model="m").api_key() == "not-a-key"
    monkeypatch.setenv("OPENAI_API_KEY", "not-a\nkey")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY has a line break") as caught:
        Endpoint(model="m").api_key()
    assert "not-a" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (b'{"error": {"message": "too  long", "code": "context_length"}}', "context_length", "too long"),
        (b'{"object": "error", "message": "too long", "code": 400}', "400", "too long"),  # vLLM before 0.11
        (b'{"error": "busy"}', None, "busy"),
        (b'{"error": {"type": "odd"}}', None, "{'type': 'odd'}"),
        (b'{"error": {"message": "sk-secret is wrong"}}', None, "[the key] is wrong"),
        (b"<html>Bad   Gateway</html>", None, "<html>Bad Gateway</html>"),
        (b"[" * 100_000, None, "[" * 300),
        (b"\xff\xfe", None, "\ufffd\ufffd"),
        (b"", None, "an empty body"),
    ],
)
def test_what_a_provider_says_of_a_failure_is_one_short_line_without_the_key(monkeypatch, content, code, said):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert Endpoint(model="m").api_key() == "sk-secret"
    assert problem_of(content)[:2] == (code, said)


def test_a_provider_without_an_address_says_where_to_give_one(monkeypatch):
    monkeypatch.delenv("AZURE_OPENAI_ENDPOINT", raising=False)
    with pytest.raises(ConfigError, match="AZURE_OPENAI_ENDPOINT"):
        _ = Endpoint(provider="azure", model="m").url


def test_the_hub_token_may_come_from_a_login(monkeypatch, tmp_path):
    import huggingface_hub

    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_from_login")
    assert Endpoint(provider="hf", model="m").api_key() == "hf_from_login"
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(ConfigError, match="hf auth login"):
        Endpoint(provider="hf", model="m").api_key()


def test_a_key_of_ones_own_name_is_read_from_the_environment(server, monkeypatch):
    monkeypatch.setenv("OUR_KEY", "ours")
    sent_to(server, api_key_env="OUR_KEY")
    assert server.keys == {"Bearer ours"}


@pytest.mark.parametrize("provider", sorted(PRESETS))
def test_every_preset_has_an_identity_without_secrets(provider, monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://example.invalid")
    for preset in PRESETS.values():
        monkeypatch.setenv(preset.api_key_env or "UNUSED", "sk-secret")
    model = "SmolLM2-135M-Instruct" if provider == "local" else "m"
    assert "sk-secret" not in str(Endpoint(provider=provider, model=model).identity())


def test_a_server_that_moved_is_the_same_endpoint_when_it_has_a_name():
    here, there = (Endpoint(provider="vllm", model="m", name="ours", base_url=f"http://{h}/v1") for h in "ab")
    assert here.identity() == there.identity()
    assert here.identity() != here.model_copy(update={"name": None}).identity()


@pytest.mark.parametrize("key", ["sk-proj-not-a-real-key", "hf_notarealkey"])
def test_a_key_in_place_of_its_variables_name_is_refused_and_not_shown(key):
    with pytest.raises(ConfigError, match="name of an environment variable") as caught:
        load_config(endpoints__teacher={"model": "m", "api_key_env": key})
    assert key not in str(caught.value)


@pytest.mark.parametrize("url", ["localhost:8000/v1", "host/v1", "ftp://host/v1"])
def test_a_url_without_http_is_refused_before_it_is_asked(url):
    with pytest.raises(ConfigError, match="must begin with http"):
        Endpoint(model="m", provider="vllm", pool=({"base_url": url},), name="ours")


def test_a_url_with_a_password_is_refused():
    for url in ("https://me:secret@host/v1", "https://host/v1?key=secret"):
        with pytest.raises(ConfigError, match="user name or password"):
            Endpoint(model="m", base_url=url)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"provider": "nobody"}, "Endpoint: `provider`: Input should be 'openai', .* (got 'nobody')"),
        ({"temprature": 1}, "`temprature` is not an option. Did you mean `temperature`?"),
        ({"temperature": "hot", "seed": "x"}, "`temperature`: .*\nEndpoint: `seed`"),
        ({"pool": [{"concurrency": 0}]}, "`pool.0.concurrency`"),
        ({"batch": {"at_least": 0}}, "`batch.at_least`"),
    ],
)
def test_wrong_options_in_python_are_explained_as_those_in_a_file(options, problem):
    with pytest.raises(ConfigError, match=problem.replace("(", r"\(").replace(")", r"\)").replace("?", r"\?")):
        Endpoint(model="m", **options)
