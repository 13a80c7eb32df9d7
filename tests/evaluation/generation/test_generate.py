"""Answers of the model under evaluation: asked once, found again, through every kind of endpoint."""


from model_server import ModelServer
from star_hf.evaluation.generation.generate import generate
from star_hf.evaluation.generation.in_process import InProcess
from star_hf.evaluation.generation.models import Sampling, Served
from star_hf.evaluation.types import Item
from star_hf.llm import Endpoint, Request


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
