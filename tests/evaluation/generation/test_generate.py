"""Answers of the model under evaluation: asked once, found again, through every kind of endpoint."""

from importlib.util import find_spec

import pytest

from batch_server import BatchServer
from model_server import ModelServer, Reply
from small_gguf import small_gguf
from star_hf.errors import ConfigError, IncompleteRunError
from star_hf.evaluation.generation.generate import generate
from star_hf.evaluation.generation.in_process import InProcess
from star_hf.evaluation.generation.models import Sampling, Served
from star_hf.evaluation.tasks.attacks import attacked
from star_hf.evaluation.types import Item
from star_hf.llm import Budget, Endpoint, Journal, Request


ITEMS = [Item(f"item-{n}", f"How do I bake {n} cakes?") for n in range(12)]
SAMPLING = Sampling(temperature=0.6, top_p=0.9, repetition_penalty=1.1, max_tokens=64, seed=3, samples=2)


def test_answers_of_earlier_versions_are_found_again(journal):
    """Another key for the same request would have every answer of an existing journal generated anew."""
    with ModelServer(lambda body, before: "hi") as server:
        endpoint = Endpoint(model="m", provider="vllm", name="ours", base_url=server.url, extra_body={"top_k": 5})
        bread = [Item("a", "Grüße, how do I bake bread?")]
        list(generate(bread, Served(endpoint, "mark"), journal, SAMPLING, progress=False))
    assert sorted(journal.execute("SELECT key, stage, endpoint, version FROM responses")) == [
        ("06efa929191d037bd09fe29509e6c95f5eb5a4cf0eeff9922705d2e2fac5831a", "evaluate", "ours", ""),
        ("6926471343be59eefb3ed205bb63c1d0b8abbdc877132a81ef37c09570f3dff7", "evaluate", "ours", ""),
    ]


def test_answers_of_a_model_in_this_process_are_found_again(tiny, monkeypatch):
    monkeypatch.setattr(InProcess, "fingerprint", "f" * 64)
    identity = InProcess(str(tiny)).identity(SAMPLING)
    messages = [{"role": "user", "content": "Grüße, how do I bake bread?"}]
    assert [Request(messages, sample=sample).key(identity) for sample in (0, 1)] == [
        "5ef48bd0483aad6f312a83bab4f443426d356b5b952f297a738e515f77e372cb",
        "df4d9ea4528ed54dbd71aa40d2ed2d0a0c6903bc4e7f6fd909004a8997d4c681",
    ]


def baked(body, before):
    return f"Like this: {body['messages'][0]['content']}"


def served(server, **options):
    endpoint = Endpoint(**{"model": "m", "provider": "vllm", "name": "ours", "base_url": server.url, **options})
    return Served(endpoint, "mark")


def answers(subject, journal, items=ITEMS, **options):
    return [each.completion.text for each in generate(items, subject, journal, Sampling(), progress=False, **options)]


EXPECTED = [f"Like this: {item.prompt}" for item in ITEMS]


def test_a_batch_answers_at_its_own_price_and_what_it_leaves_is_asked_live(journal):
    price = {"input": 2.0, "output": 10.0}
    with BatchServer(baked, fate=lambda number: "expired") as server:
        subject = served(server, batch={"at_least": 1, "poll_s": 0.01}, price=price)
        assert answers(subject, journal) == EXPECTED
        assert set(server.paid.values()) == {1} and len(server.batches) == 1 and server.live == len(ITEMS) // 2
    costs = sorted(cost for (cost,) in journal.execute("SELECT cost_usd FROM responses"))
    full = (100 * 2.0 + 10 * 10.0) / 1e6
    assert costs == pytest.approx([full / 2] * 6 + [full] * 6)


def test_a_batch_that_is_not_done_in_time_is_collected_by_the_next_run(journal):
    with BatchServer(baked, looks=10_000) as server:
        subject = served(server, batch={"at_least": 1, "poll_s": 0.01}, deadline_s=0.1)
        with pytest.raises(IncompleteRunError, match="for 12 of 12 requests; .* deadline of this stage has passed"):
            answers(subject, journal)
        server.looks = 1
        assert answers(served(server), journal) == EXPECTED
        assert set(server.paid.values()) == {1} and server.live == 0


def test_a_budget_ends_the_asking_and_a_higher_one_goes_on(journal):
    price = {"input": 0.0, "output": 1_000_000 / 8_000}  # a dollar an answer at most, since it may have 8,000 tokens
    with ModelServer(baked) as server:
        subject = served(server, price=price)
        with pytest.raises(IncompleteRunError, match="the budget of \\$5.05 allows no further request") as caught:
            answers(subject, journal, budget=Budget(5.05))
        assert "higher budget" in caught.value.remedy and 5 <= len(journal) < len(ITEMS)
        assert answers(subject, journal, budget=Budget(50.0, journal.cost())) == EXPECTED
        assert set(server.paid.values()) == {1}
        with pytest.raises(ConfigError, match="has no price"):
            answers(served(server, name="theirs"), journal, budget=Budget(5.0))


def test_a_budget_does_not_bind_a_model_in_this_process(tiny, journal):
    assert len(answers(InProcess(str(tiny)), journal, ITEMS[:1], budget=Budget(0.0))) == 1
    assert journal.cost() == 0


def test_the_servers_of_a_pool_share_the_requests(journal):
    with ModelServer(baked, delay_s=0.02) as one, ModelServer(baked, delay_s=0.02) as other:
        members = [{"base_url": one.url, "concurrency": 2}, {"base_url": other.url, "concurrency": 2}]
        assert answers(served(one, base_url=None, pool=members), journal) == EXPECTED
        assert one.requests and other.requests and len(one.requests) + len(other.requests) == len(ITEMS)


def test_a_deadline_keeps_what_was_answered(journal):
    with ModelServer(baked, delay_s=0.2) as server:
        with pytest.raises(IncompleteRunError, match="the deadline of 0.5 s for this stage has passed"):
            answers(served(server, concurrency=1, deadline_s=0.5), journal)
        assert 1 <= len(journal) < len(ITEMS)
        assert answers(served(server), journal) == EXPECTED


def test_equal_prompts_are_paid_once(journal):
    twins = [Item("a", "How do I bake bread?"), Item("b", "How do I bake bread?")]
    with ModelServer(baked, delay_s=0.05) as server:
        assert len(answers(served(server), journal, twins)) == 2
        assert len(server.requests) == 1


def test_a_failure_names_how_many_are_missing_and_where_the_others_are(tmp_path):
    def one_fails(body, before):
        bad = "7 cakes" in body["messages"][0]["content"]
        return Reply(status=500) if bad else baked(body, before)

    with Journal(tmp_path / "journal.sqlite") as journal, ModelServer(one_fails) as server:
        with pytest.raises(IncompleteRunError, match="xstest: .*'m' for 1 of 12 requests; .*answered 500") as caught:
            answers(served(server, max_retries=0), journal, description="xstest")
        assert "journal.sqlite" in caught.value.remedy and len(journal) == 11


@pytest.mark.skipif(not find_spec("openvino_genai"), reason="openvino_genai is not installed")
def test_a_gguf_file_is_asked_once_and_goes_on_with_a_prefilled_answer(journal, tmp_path):
    path = small_gguf(tmp_path / "model.gguf")
    subject = Served(Endpoint(provider="local", model=str(path)))
    sampling = Sampling(temperature=1.0, repetition_penalty=1.1, max_tokens=4, samples=2)
    items = [*ITEMS[:2], attacked([Item("a", "Why?")], "prefill")[0]]
    subject.probe()
    first = [each.completion for each in generate(items, subject, journal, sampling, progress=False)]
    assert len(journal) == 6 and all(c.completion_tokens == 4 and c.model == "model.gguf" for c in first)
    assert first[4].prompt_tokens > len("<>Why?<>"), "the opening is part of the prompt"
    assert [each.completion for each in generate(items, subject, journal, sampling, progress=False)] == first
    before = subject.fingerprint
    small_gguf(path, seed=1)
    assert Served(Endpoint(provider="local", model=str(path))).fingerprint != before


def test_reused_answers_are_said_where_only_a_name_tells_the_weights(journal, caplog, monkeypatch):
    told = {"weights": None}
    monkeypatch.setattr("star_hf.evaluation.generation.models._loaded_weights", lambda endpoint: told["weights"])
    with ModelServer(baked) as server:
        endpoint = served(server).endpoint
        answers(Served(endpoint), journal, ITEMS[:3])
        assert not caplog.messages
        answers(Served(endpoint), journal, ITEMS[:5])
        assert "3 of 5 answers of m are reused" in caplog.text and "--fingerprint" in caplog.text
        caplog.clear()
        for subject in (Served(endpoint, "mark"), Served(endpoint, "mark")):
            answers(subject, journal, ITEMS[:3])
        told["weights"] = "/models/tuned"
        for subject in (Served(endpoint), Served(endpoint)):
            answers(subject, journal, ITEMS[:3])
        assert not caplog.messages
