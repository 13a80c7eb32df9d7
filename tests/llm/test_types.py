"""Request keys: what they must tell apart, and that they stay what they are."""

import pytest

from star_hf.llm import Endpoint, Request


REQUEST = Request([{"role": "user", "content": "hello"}], version="v1")
ENDPOINT = Endpoint(provider="vllm", model="m", name="ours")


@pytest.mark.parametrize(
    "change",
    [
        {"messages": [{"role": "system", "content": "hello"}]},
        {"schema": {"type": "object"}},
        {"reasoning": True},
        {"version": "v2"},
        {"sample": 1},
    ],
)
def test_all_of_a_request_is_in_its_key(change):
    changed = Request(**{**vars(REQUEST), **change})
    assert changed.key(ENDPOINT.identity()) != REQUEST.key(ENDPOINT.identity())


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"name": "theirs"},
        {"temperature": 0.0},
        {"top_p": 0.5},
        {"max_tokens": 7},
        {"seed": 0},
        {"structured": "prompt"},
        {"extra_body": {"top_k": 5}},
    ],
)
def test_all_of_an_endpoint_that_can_change_an_answer_is_in_the_key(change):
    changed = Endpoint(**{**ENDPOINT.model_dump(), **change})
    assert REQUEST.key(changed.identity()) != REQUEST.key(ENDPOINT.identity())


def test_answers_of_earlier_versions_are_found_again():
    """Another key for the same request would have every answer of an existing journal paid for anew."""
    endpoint = Endpoint(provider="openai", model="m", temperature=0.6, max_tokens=8_000, extra_body={"top_k": 5})
    request = Request([{"role": "user", "content": "Grüße"}], {"type": "object"}, True, "v1", 2)
    assert request.key(endpoint.identity()) == "38d1ca10f8f20f73c9e6fa0c262c44f8fab59431246172d00bdf40e96eafc1cf"
