"""A recipe may name any variable and any host: a key goes nowhere that its owner has not agreed to."""

import pytest

from model_server import ModelServer
from shouter import Shouter, shouted, some_rows
from star_hf.errors import ConfigError
from star_hf.llm import Endpoint, annotate, trust
from star_hf.llm.http.sdk import sync_client


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    for name in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, f"not-a-key-{name}")
    monkeypatch.setenv(trust.TRUSTED, "")
    monkeypatch.delenv("AZURE_OPENAI_ENDPOINT", raising=False)
    yield
    trust.ask_with(None)


OWN = [
    {"provider": "openai"},
    {"provider": "openai", "base_url": "https://API.OpenAI.com/v1"},
    {"provider": "openai", "api_key_env": "AWS_SECRET_ACCESS_KEY"},
    {"provider": "vllm", "base_url": "https://api.openai.com/v1", "api_key_env": "OPENAI_API_KEY"},
    {"provider": "hf"},
    {"provider": "azure", "base_url": "https://ours.openai.azure.com"},
    {"provider": "vllm", "base_url": "http://localhost:8000/v1", "api_key_env": "AWS_SECRET_ACCESS_KEY"},
    {"provider": "vllm", "base_url": "http://127.0.0.1:8000/v1", "api_key_env": "AWS_SECRET_ACCESS_KEY"},
    {"provider": "vllm", "base_url": "http://[::1]:8000/v1", "api_key_env": "AWS_SECRET_ACCESS_KEY"},
]
STRANGE = [
    {"provider": "vllm", "base_url": "https://strange.invalid/v1", "api_key_env": "AWS_SECRET_ACCESS_KEY"},
    {"provider": "openai", "base_url": "https://strange.invalid/v1"},
    {"provider": "openai", "base_url": "https://api.openai.com.strange.invalid/v1"},
    {"provider": "openai", "base_url": "https://strange.invalid/api.openai.com/v1"},
    {"provider": "openai", "base_url": "https://strangeapi.openai.com/v1"},
    {"provider": "openai", "base_url": "https://strange.invalid#api.openai.com"},
    {"provider": "hf", "base_url": "https://router.huggingface.co.strange.invalid/v1"},
    {"provider": "azure", "base_url": "https://openai.azure.com.strange.invalid"},
    {"provider": "azure", "base_url": "https://strangeopenai.azure.com"},
    {"provider": "openai", "base_url": "https://127.0.0.1.strange.invalid/v1"},
    {"provider": "openai", "pool": [{"base_url": "https://strange.invalid/v1"}], "name": "p"},
    {"provider": "openai", "pool": [{}, {"base_url": "https://strange.invalid/v1"}], "name": "p"},
    {"provider": "vllm", "base_url": "https://api.openai.com/v1", "api_key_env": "AWS_SECRET_ACCESS_KEY"},
]


@pytest.mark.parametrize("options", OWN, ids=str)
def test_a_key_goes_to_its_provider_and_to_this_machine(options):
    Endpoint(model="m", **options).check()


@pytest.mark.parametrize("options", STRANGE, ids=str)
def test_a_key_goes_to_no_strange_host(options):
    with pytest.raises(ConfigError, match="which is not its provider's") as caught:
        Endpoint(model="m", **options).check()
    assert "not-a-key" not in str(caught.value) and "--trust-host" in caught.value.remedy


def test_nothing_is_sent_without_consent_by_any_client(journal):
    endpoint = Endpoint(model="m", provider="openai", base_url="https://strange.invalid/v1")
    with pytest.raises(ConfigError, match="strange.invalid"):
        annotate(some_rows(1), Shouter(), endpoint, journal, progress=False)
    with pytest.raises(ConfigError, match="strange.invalid"):
        sync_client(endpoint)


def test_the_host_of_azures_own_variable_is_the_users(monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://gateway.ours.invalid")
    Endpoint(model="m", provider="azure").check()


@pytest.mark.parametrize(
    "entry", ["strange.invalid", "a.invalid, STRANGE.invalid", "https://strange.invalid", "http://strange.invalid"]
)
def test_the_user_may_trust_a_host(monkeypatch, entry):
    monkeypatch.setenv(trust.TRUSTED, entry)
    Endpoint(model="m", base_url="https://strange.invalid/v1").check()
    with pytest.raises(ConfigError):
        Endpoint(model="m", base_url="https://very.strange.invalid/v1").check()


PLAIN = Endpoint(model="m", base_url="http://10.0.0.5:8000/v1")


@pytest.mark.parametrize("entry", ["", "10.0.0.5", "https://10.0.0.5", "http://10.0.0.5:9000", "http://10.0.0.50"])
def test_over_plain_http_no_key_is_sent(monkeypatch, entry):
    monkeypatch.setenv(trust.TRUSTED, entry)
    trust.ask_with(lambda question: True)
    with pytest.raises(ConfigError, match="plain http") as caught:
        PLAIN.check()
    assert "--trust-host http://10.0.0.5:8000" in caught.value.remedy
    with pytest.raises(ConfigError, match="plain http"):
        Endpoint(model="m", base_url="http://api.openai.com/v1").check()


@pytest.mark.parametrize("entry", ["http://10.0.0.5", "http://10.0.0.5:8000"])
def test_the_option_allows_plain_http(monkeypatch, entry):
    monkeypatch.setenv(trust.TRUSTED, entry)
    PLAIN.check()
    Endpoint(model="m", provider="vllm", base_url="http://10.0.0.6/v1").check()  # no key, nothing to ask


def test_a_person_is_asked_once(monkeypatch):
    asked = []
    trust.ask_with(lambda question: bool(asked.append(question)) or len(asked) > 1)
    endpoint = Endpoint(model="m", base_url="https://strange.invalid/v1")
    with pytest.raises(ConfigError):
        endpoint.check()
    endpoint.check()
    endpoint.check()
    assert len(asked) == 2 and "OPENAI_API_KEY" in asked[0] and "strange.invalid" in asked[0]


def test_the_option_of_the_command_line_reaches_the_endpoint(tmp_path):
    from typer.testing import CliRunner

    from star_hf.cli import app

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("endpoints: {teacher: {provider: openai, model: m, base_url: 'http://10.255.255.1:9/v1'}}")
    command = ["endpoints", "check", "--config", str(recipe)]
    with ModelServer(shouted):
        found = CliRunner().invoke(app, command)
    assert "plain http" in found.output
