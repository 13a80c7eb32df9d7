import importlib.util
import json

import pytest

from star_hf.errors import ConfigError
from star_hf.llm import Endpoint, Request
from star_hf.llm.asking import provider_of
from star_hf.llm.embedded import model as embedded
from star_hf.llm.embedded.weights import MODEL, PACKAGED, RUNTIME
from star_hf.utils.text import split_reasoning


pytest.importorskip("gguf", reason="gguf is not installed")
pytest.importorskip(RUNTIME, reason=f"{RUNTIME} is not installed")
from small_gguf import TEMPLATE, WINDOW, small_gguf


def an_object(**properties: dict) -> dict:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


NUMBER = {"type": "integer", "enum": list(range(11))}
LABELS = {
    "type": "array",
    "items": {"enum": ["safe / 安全", "other"]},
    "minItems": 1,
    "maxItems": 2,
    "uniqueItems": True,
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return str(small_gguf(tmp_path_factory.mktemp("provider") / "small.gguf"))


def ask(question: str, **options) -> Request:
    return Request([{"role": "user", "content": question}], **options)


def answers(model, *requests, **options):
    """Completions in the order of the requests, whose keys are their numbers."""
    kept = {}
    endpoint = Endpoint(provider="local", model=model, **{"max_tokens": 24, **options})
    assert provider_of(endpoint).complete(((str(n), r) for n, r in enumerate(requests)), kept.__setitem__) == []
    return [kept[str(n)] for n in range(len(requests))]


def test_nothing_is_loaded_for_nothing():
    assert answers("no-such-model") == []


def test_schemas_are_kept_by_a_model_that_writes_noise(small):
    schemas = [
        an_object(category=LABELS),
        an_object(safety=NUMBER, accuracy=NUMBER),
        an_object(ok={"type": "boolean"}),
    ]
    requests = [ask(f"Grade {n}.", schema=schema) for n in range(3) for schema in schemas]
    found = answers(small, *requests, max_tokens=200, temperature=0.2)
    for n, completion in enumerate(found):
        assert (completion.outcome, completion.finish_reason) == ("ok", "stop")
        value = json.loads(completion.text)
        if n % 3 == 0:
            assert value["category"] and set(value["category"]) <= {"safe / 安全", "other"}
        if n % 3 == 1:
            assert set(value) == {"safety", "accuracy"} and set(value.values()) <= set(range(11))


def test_an_answer_that_the_limit_cuts_is_truncated_and_tokens_are_counted(small):
    (completion,) = answers(small, ask("tea"), max_tokens=7)
    assert (completion.outcome, completion.finish_reason, completion.completion_tokens) == ("truncated", "length", 7)
    assert completion.prompt_tokens == 6  # <|user|> t e a <|end|> <|assistant|>
    assert completion.model == "small.gguf" and completion.latency_s > 0


def test_reasoning_is_closed_by_force_and_an_answer_follows(small):
    thought, plain = answers(small, ask("Why?", reasoning=True), ask("Why?"))
    assert split_reasoning(thought.text).thought and thought.detail == "thought closed after 16 tokens"
    assert thought.completion_tokens == 24 and "<think>" not in plain.text
    assert thought.prompt_tokens == plain.prompt_tokens + len("<think>\n")


def test_a_thought_that_the_template_opens_is_not_opened_twice(tmp_path):
    opens = TEMPLATE.replace("{{ '<|assistant|>' }}", "{{ '<|assistant|><think>\n' }}")
    path = str(small_gguf(tmp_path / "opens.gguf", template=opens))
    thought, plain = answers(path, ask("Why?", reasoning=True), ask("Why?"))
    assert thought.text.count("<think>") == plain.text.count("<think>") == 1
    assert thought.prompt_tokens == plain.prompt_tokens


def test_a_stop_string_ends_an_answer(small):
    (free,) = answers(small, ask("tea"))
    (ended,) = answers(small, ask("tea"), extra_body={"stop_strings": [free.text[3]]})
    assert (ended.text, ended.outcome, ended.finish_reason) == (free.text[:3], "ok", "stop")


def test_a_prefilled_answer_is_gone_on_with(small):
    model = embedded.load(small)
    asked, opening = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Well"}
    assert model.prompt([asked, opening]) == model.prompt([asked]) + "Well"


def test_a_model_without_a_template_gets_plain_text(tmp_path):
    path = str(small_gguf(tmp_path / "plain.gguf", template=None))
    (completion,) = answers(path, ask("tea"), max_tokens=2)
    assert completion.prompt_tokens == 3


def test_a_prompt_that_fills_the_window_is_a_failure_with_a_name_and_its_neighbours_are_answered(small):
    long, short, near = answers(small, ask("x" * WINDOW), ask("tea"), ask("x" * (WINDOW - 8)))
    assert long.outcome == "invalid_request" and str(WINDOW) in long.detail and long.text == ""
    assert short.completion_tokens == 24
    assert (near.outcome, near.completion_tokens) == ("truncated", 5), "cut where the window ends"


def test_draws_differ_by_seed_sample_and_row_and_are_repeated(small):
    def drawn(*requests, **options):
        return [c.text for c in answers(small, *requests, temperature=1.0, **options)]

    first = drawn(ask("tea"))
    assert drawn(ask("tea")) == first
    assert drawn(ask("tea"), seed=1) != first
    assert drawn(ask("tea", sample=1)) != first
    assert len(set(drawn(*[ask("tea")] * 4))) == 4, "rows with one seed do not draw the same numbers"
    plain = answers(small, ask("tea"), ask("tea", sample=1))
    assert plain[0].text == plain[1].text, "at 0 nothing is drawn"


def test_requests_are_drawn_as_there_is_room_and_each_answer_is_kept_at_once(small):
    events = []

    def requests():
        for n in range(6):
            events.append(f"asked {n}")
            yield str(n), ask("tea" * n)

    endpoint = Endpoint(provider="local", model=small, max_tokens=4, concurrency=2)
    provider_of(endpoint).complete(requests(), lambda key, _: events.append(f"kept {key}"))
    in_flight = 0
    for event in events:
        in_flight += 1 if event.startswith("asked") else -1
        assert 0 <= in_flight <= 2
    assert len(events) == 12 and in_flight == 0


def test_what_ends_a_run_leaves_a_model_that_answers(small):
    def interrupt(key, completion):
        raise KeyboardInterrupt

    endpoint = Endpoint(provider="local", model=small, max_tokens=200)
    with pytest.raises(KeyboardInterrupt) as caught:
        provider_of(endpoint).complete(iter([("long", ask("tea")), ("none", ask("x" * WINDOW))]), interrupt)
    embedded.load(small).step()
    assert not embedded.load(small)._pipeline.has_non_finished_requests(), caught  # whose frames hold the batch
    assert answers(small, ask("tea"))[0].completion_tokens == 24


def test_a_schema_that_the_runtime_refuses_is_one_message_and_the_next_run_answers(small):
    with pytest.raises(ConfigError, match="Unsupported type") as caught:
        answers(small, ask("a"), ask("b", schema={"type": "nonsense"}))
    assert "json_schema_converter" not in str(caught.value)
    assert answers(small, ask("tea"))[0].completion_tokens == 24


@pytest.mark.parametrize("extra", [{"no_such_option": 1}, {"top_k": "many"}])
def test_an_unknown_or_wrong_option_is_refused(small, extra):
    with pytest.raises(ConfigError, match="refuses the options") as caught:
        answers(small, ask("tea"), extra_body=extra)
    assert "extra_body" in caught.value.remedy


def test_options_of_the_runtime_are_passed_on(small):
    plain, penalised = (answers(small, ask("aaaa"), extra_body=e)[0].text for e in ({}, {"repetition_penalty": 5.0}))
    assert plain != penalised


def test_what_does_not_fit_in_the_cache_is_asked_alone_and_then_named(small, monkeypatch):
    """The runtime gives up on all requests of a batch if one of them needs more than the whole cache."""
    import openvino_genai as runtime

    scheduler = runtime.SchedulerConfig
    monkeypatch.setattr(scheduler, "cache_size", property(lambda _: 0, lambda s, _: setattr(s, "num_kv_blocks", 4)))
    embedded._loaded.cache_clear()
    try:
        large, long, small_one = answers(small, ask("x" * 200), ask("y" * 80), ask("tea"), max_tokens=60)
    finally:
        embedded._loaded.cache_clear()
    assert large.outcome == "invalid_request" and "cache" in large.detail
    assert (small_one.completion_tokens, small_one.finish_reason) == (60, "length")
    assert long.outcome == "truncated" and "cache" in long.detail and long.text


def test_an_architecture_that_the_runtime_cannot_read_is_one_message(tmp_path):
    path = small_gguf(tmp_path / "other.gguf", architecture="mamba")
    with pytest.raises(ConfigError, match="mamba.* cannot be loaded") as caught:
        answers(str(path), ask("tea"))
    assert "Qwen3" in caught.value.remedy and "vLLM" in caught.value.remedy


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec(PACKAGED), reason=f"{PACKAGED} is not installed")
def test_the_packaged_model_answers_and_thinks():
    plain, thought = answers(MODEL, ask("What is the capital of France?"), ask("Why is it dark?", reasoning=True))
    assert "Paris" in plain.text and plain.outcome == "ok" and plain.model == MODEL
    assert split_reasoning(thought.text).thought and thought.completion_tokens <= 24
    assert embedded.load(MODEL).window == 8192
