"""Vectors over HTTP: many texts per request, the house's retries, nothing that came is lost or asked again."""

import json

import numpy as np
import pytest

from batch_server import BatchServer
from model_server import ModelServer, Reply
from star_hf.errors import ConfigError, IncompleteRunError
from star_hf.llm import Budget, Endpoint, Journal, embeddings
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


@pytest.mark.parametrize("odd", [10**19, -7, float("inf"), "many", None, [3]])
def test_odd_metadata_costs_no_vectors(tmp_path, odd):
    def strange(body, before):
        fields = {"model": odd, "usage": {"prompt_tokens": odd}}
        return Reply(raw=json.dumps({**json.loads(vectors(body).raw), **fields}).encode())

    with Journal(tmp_path / "journal.sqlite") as journal, ModelServer(strange) as server:
        budget = Budget(1.0)
        price = {"input": 1.0, "output": 0.0}
        assert encoder(server, journal=journal, budget=budget, price=price)(TEXTS).shape == (len(TEXTS), 3)
        assert 0 < journal.cost() < 0.001 and budget.spent_usd == pytest.approx(journal.cost())


def test_what_came_before_a_failure_is_stored_and_the_next_call_asks_for_the_rest_only(tmp_path):
    def refuses_long_ones(body, before):
        if max(map(len, body["input"])) > 32:
            return Reply(status=400, error={"message": "the input is longer than the model takes"})
        return vectors(body)

    with Journal(tmp_path / "journal.sqlite") as journal, ModelServer(refuses_long_ones) as server:
        with pytest.raises(IncompleteRunError, match="no vector .* texts; .*longer than the model takes") as raised:
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


def test_a_request_has_no_more_bytes_than_providers_take(monkeypatch):
    monkeypatch.setattr(embeddings, "REQUEST_BYTES", 100)
    texts = ["x" * 40, "y" * 40, "é" * 20, "z" * 300, "w" * 100]
    with ModelServer(vectors) as server:
        assert len(encoder(server, batch_size=10)(texts)) == 5
        asked = sorted(sum(len(text.encode()) for text in body["input"]) for body in server.requests)
    assert asked == [40, 80, 100, 300], "a text alone may have more"


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


def test_equal_requests_are_paid_once_and_each_text_has_its_vector(journal):
    with ModelServer(vectors, delay_s=0.05) as server:
        found = encoder(server, 1, journal)(["a", "b", "a"])
        assert len(server.requests) == 2
    assert found.shape == (3, 3) and (found[0] == found[2]).all()


def each_text_once(server):
    texts = [text for body in server.requests for text in body["input"]]
    return len(texts) == len(set(texts)) == len({text or " " for text in TEXTS})


def test_a_deadline_hands_over_what_came(journal, tmp_path):
    with ModelServer(vectors, delay_s=0.3) as server:
        asked = encoder(server, 4, journal, deadline_s=0.4)
        with pytest.raises(IncompleteRunError, match="the deadline of 0.4 s for this stage has passed"):
            embed(TEXTS, asked, tmp_path)
        first = len(server.requests)
        assert 1 <= first < 6
        embed(TEXTS, encoder(server, 4, journal), tmp_path)
        assert each_text_once(server)


def test_the_servers_of_a_pool_share_the_texts(journal):
    with ModelServer(vectors, delay_s=0.05) as one, ModelServer(vectors, delay_s=0.05) as other:
        members = [{"base_url": one.url, "concurrency": 1}, {"base_url": other.url, "concurrency": 1}]
        endpoint = Endpoint(model="m", provider="vllm", name="fleet", pool=members)
        assert EndpointEncoder(endpoint, 4, journal)(TEXTS).shape == (len(TEXTS), 3)
        assert one.requests and other.requests and len(one.requests) + len(other.requests) == 6


BATCH = {"at_least": 1, "poll_s": 0.01}


def test_a_batch_makes_the_same_vectors_at_its_own_price(journal, tmp_path):
    price = {"input": 2.0, "output": 0}
    with BatchServer(vectors, fate=lambda number: "expired") as server:
        found = embed(TEXTS, encoder(server, 4, journal, price=price, batch=BATCH), tmp_path / "batch")
        assert len(server.batches) == 1 and server.live == 3 and each_text_once(server)
        assert {batch["endpoint"] for batch in server.batches.values()} == {"/v1/embeddings"}
        costs = [cost for (cost,) in journal.execute("SELECT cost_usd FROM responses")]
        assert sum(costs) < 10 * len(TEXTS) * 2.0 / 1e6
        np.testing.assert_array_equal(embed(TEXTS, encoder(server, 4), tmp_path / "live"), found)


def test_a_batch_of_an_earlier_run_brings_its_vectors(journal, tmp_path):
    with BatchServer(vectors, looks=10_000) as server:
        with pytest.raises(IncompleteRunError, match="no vector from 'm' for 21 of 21 texts"):
            embed(TEXTS, encoder(server, 4, journal, batch=BATCH, deadline_s=0.1), tmp_path)
        server.looks = 1
        found = embed(TEXTS, encoder(server, 4, journal), tmp_path)
        assert server.live == 0 and each_text_once(server) and found.shape == (len(TEXTS), 3)


def test_vectors_that_are_lost_are_asked_for_again_although_they_were_paid(journal, tmp_path):
    with ModelServer(vectors) as server:
        embed(TEXTS, encoder(server, 4, journal), tmp_path / "one")
        embed(TEXTS, encoder(server, 4, journal), tmp_path / "two")
        assert len(server.requests) == 12
