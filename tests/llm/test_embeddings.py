"""Vectors over HTTP: many texts per request, the house's retries, nothing that came is lost or asked again."""

import json

import numpy as np
import pytest

from model_server import ModelServer, Reply
from star_hf.errors import ConfigError, IncompleteRunError
from star_hf.llm import Budget, Endpoint, Journal
from star_hf.llm.embeddings import EndpointEncoder
from star_hf.similarity.options import make_encoder
from star_hf.similarity.vectors import embed


TEXTS = [f"question number {'x' * i}" for i in range(20)] + ["", "question number "]


def vector(text):
    return [len(text), text.count("x") + 1, 3.0]


def vectors(body, before=0):
    """As the embeddings API answers, the last text first."""
    data = [{"object": "embedding", "index": i, "embedding": vector(text)} for i, text in enumerate(body["input"])]
    usage = {"prompt_tokens": 10 * len(data), "total_tokens": 10 * len(data)}
    raw = {"object": "list", "model": body["model"], "data": data[::-1], "usage": usage}
    return Reply(raw=json.dumps(raw).encode())


def encoder(server, batch_size=4, journal=None, budget=None, **options):
    endpoint = Endpoint(model="m", provider="vllm", base_url=server.url, concurrency=2, **options)
    return EndpointEncoder(endpoint, batch_size, journal, budget)


def test_texts_go_in_batches_and_vectors_come_back_in_order_with_length_one(tmp_path):
    with ModelServer(vectors) as server:
        found = embed(TEXTS, encoder(server), tmp_path)
        assert server.paths == {"/v1/embeddings"}
        assert sorted(len(body["input"]) for body in server.requests) == [1, 4, 4, 4, 4, 4], "each text once"
        np.testing.assert_array_equal(embed(TEXTS, encoder(server), tmp_path), found)
        assert len(server.requests) == 6, "all were stored"
        embed(TEXTS, encoder(server, extra_body={"dimensions": 3}), tmp_path)
        assert len(server.requests) == 12 and server.requests[-1]["dimensions"] == 3, "another kind of vectors"
    expected = np.array([vector(text or " ") for text in TEXTS], np.float32)
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-6)


def test_a_busy_server_is_asked_again_and_half_answers_are_no_answers():
    def shaky(body, before):
        if before == 0:
            return Reply(status=503, headers={"Retry-After-Ms": "1"})
        short = json.loads(vectors(body).raw)
        return Reply(raw=json.dumps({**short, "data": short["data"][1:]}).encode()) if before == 1 else vectors(body)

    with ModelServer(shaky) as server:
        found = encoder(server, batch_size=8)(TEXTS)
        assert len(server.requests) == 9
    assert found.shape == (len(TEXTS), 3)


def test_what_came_before_a_failure_is_stored_and_the_next_call_asks_for_the_rest_only(tmp_path):
    def refuses_long_ones(body, before):
        if max(map(len, body["input"])) > 32:
            return Reply(status=400, error={"message": "the input is longer than the model takes"})
        return vectors(body)

    with Journal(tmp_path / "journal.sqlite") as journal, ModelServer(refuses_long_ones) as server:
        with pytest.raises(IncompleteRunError, match="stayed without a vector.*longer than the model takes") as raised:
            embed(TEXTS, encoder(server, journal=journal), tmp_path / "vectors")
        assert "max_chars" in raised.value.remedy
        asked = {text for body in server.requests for text in body["input"] if len(text) <= 32}
        server.rule, server.requests = vectors, []
        embed(TEXTS, encoder(server, journal=journal), tmp_path / "vectors")
        again = {text for body in server.requests for text in body["input"]}
        assert again and not {text for text in again & asked if len(text) < 29}, "whole batches that came are kept"


def test_costs_are_journaled_and_a_budget_ends_the_asking(tmp_path):
    price = {"input": 1_000_000, "output": 0}  # a dollar a token
    with Journal(tmp_path / "journal.sqlite") as journal, ModelServer(vectors) as server:
        encoder(server, journal=journal, price=price)(TEXTS)
        assert journal.cost() == 10 * len(TEXTS)
        budget = Budget(100.0)
        with pytest.raises(IncompleteRunError, match=r"the budget of \$100 allows no further request"):
            embed(TEXTS, encoder(server, journal=journal, budget=budget, price=price), tmp_path / "vectors")
        assert 0 < budget.spent_usd <= 120
        with pytest.raises(ConfigError, match="has no price"):
            encoder(server, budget=Budget(1.0))(TEXTS)


def test_a_wrong_key_is_said_at_once(monkeypatch):
    monkeypatch.setenv("OUR_KEY", "sk-wrong")
    with ModelServer(lambda body, before: Reply(status=401, error={"message": "no such key"})) as server:
        with pytest.raises(ConfigError, match="401") as raised:
            encoder(server, api_key_env="OUR_KEY")(TEXTS)
        assert "OUR_KEY" in raised.value.remedy and "sk-wrong" not in str(raised.value)


def test_an_encoder_is_named_as_in_a_recipe():
    assert make_encoder("openai:text-embedding-3-small").identity == "text-embedding-3-small@https://api.openai.com/v1"
    assert make_encoder("BAAI/bge-small-en-v1.5").identity == "BAAI/bge-small-en-v1.5@default"
    with pytest.raises(ConfigError, match="makes no vectors"):
        make_encoder("local:x")
    assert make_encoder("onnx:BAAI/bge-small-en-v1.5").identity == "BAAI/bge-small-en-v1.5@default:onnx/model.onnx"
    with pytest.raises(ConfigError, match="makes no vectors"):
        EndpointEncoder(Endpoint(provider="local", model="SmolLM2-135M-Instruct"))


def test_requests_of_earlier_versions_keep_their_keys(journal):
    with ModelServer(vectors) as server:
        encoder(server, 2, journal, name="ours", extra_body={"dimensions": 3})(["Grüße", "", "c"])
    assert sorted(journal.execute("SELECT key, stage, endpoint FROM responses")) == [
        ("233d3fd9e2eab9c569f31c1f30814a96d1ebf666be4917a1e1793059568050ec", "embed", "ours"),
        ("fb6a6a75d8dedd1a4dbeec67715bae02e1bdd2519d72fb1bcc6c0d77f3c29be3", "embed", "ours"),
    ]
