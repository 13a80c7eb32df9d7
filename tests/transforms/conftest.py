import pytest

from star_hf.llm import Endpoint


@pytest.fixture
def endpoint(monkeypatch):
    """Makes an endpoint of a `ModelServer`."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-real-key")

    def make(server, model="test-model"):
        return Endpoint(model=model, base_url=server.url, max_retries=0)

    return make
