"""A system prompt and several turns in a sample: what the model is sent, and what becomes of a turn that fails."""

import json

import pytest

from model_server import ModelServer, Reply, payload
from star_hf.errors import ConfigError, IncompleteRunError
from star_hf.evaluation.generation.generate import generate
from star_hf.evaluation.generation.in_process import InProcess
from star_hf.evaluation.generation.models import Sampling, Served
from star_hf.evaluation.tasks.attacks import attacked
from star_hf.evaluation.types import Item
from star_hf.llm import Completion, Endpoint, Request


TALK = Item("talk", "And the icing?", turns=("How do I bake a cake?", "With nuts?"))
PLAIN = Item("plain", "How do I bake bread?")


def bakes(body, before=0):
    return f"<think>\nEasy.\n</think>\n\nReply {len(body['messages'])}."


def served(server, **options):
    options = {"model": "m", "provider": "vllm", "name": "ours", "base_url": server.url, **options}
    return Served(Endpoint(**options), "mark")


def drawn(items, model, journal, sampling=None, **options):
    return list(generate(items, model, journal, sampling or Sampling(), progress=False, **options))


def contents(messages):
    return [(message["role"][0], message["content"]) for message in messages]


def test_turns_are_asked_one_after_the_other_with_the_models_own_answers_between(journal):
    with ModelServer(bakes) as server:
        plain, talk = drawn([PLAIN, TALK], served(server), journal)
        longest = max((body["messages"] for body in server.requests), key=len)
    assert contents(longest) == [
        ("u", "How do I bake a cake?"),
        ("a", "Reply 1."),
        ("u", "With nuts?"),
        ("a", "Reply 3."),
        ("u", "And the icing?"),
    ]
    assert talk.history == longest[:-1] and talk.completion.text.endswith("Reply 5.")
    assert plain.history == [] and len(server.requests) == 4


def test_a_system_prompt_stands_first_and_an_items_own_replaces_it(journal):
    own = Item("own", "Why?", system="Be brief.")
    with ModelServer(bakes) as server:
        found = drawn([PLAIN, own, TALK], served(server), journal, system="You bake.")
        firsts = {contents(body["messages"])[0] for body in server.requests}
    assert firsts == {("s", "You bake."), ("s", "Be brief.")}
    assert [each.history[0]["content"] for each in found] == ["You bake.", "Be brief.", "You bake."]


def test_a_prompt_has_other_keys_than_none(journal):
    with ModelServer(bakes) as server:
        for system in (None, "You bake.", "You cook.", None, "You bake."):
            drawn([PLAIN], served(server), journal, system=system)
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("reply", "failure"),
    [
        (Reply("<think>\nwell", finish_reason="length"), "truncated"),
        (Reply("<think>\nwell"), "unclosed"),
        (Reply(""), "empty"),
        (Reply("I may not", finish_reason="content_filter"), "unanswered"),
        (Reply(status=400), "unanswered"),
    ],
)
def test_a_failure_in_an_earlier_turn_ends_the_sample_with_its_name(journal, reply, failure):
    with ModelServer(
        lambda body, before: reply if "nuts" in body["messages"][-1]["content"] else bakes(body)
    ) as server:
        plain, talk = drawn([PLAIN, TALK], served(server), journal)
        assert not any("icing" in body["messages"][-1]["content"] for body in server.requests)
    assert (plain.failure, talk.failure) == (None, failure)
    assert contents(talk.history) == [("u", "How do I bake a cake?"), ("a", "Reply 1.")]


def test_every_sample_is_a_conversation_of_its_own(journal):
    def by_seed(body, before):
        return f"seed {body['seed']}, {len(body['messages'])}"

    with ModelServer(by_seed) as server:
        found = drawn([TALK], served(server), journal, Sampling(temperature=1.0, samples=3))
    said = [[message["content"] for message in each.history if message["role"] == "assistant"] for each in found]
    assert said == [[f"seed {n}, 1", f"seed {n}, 3"] for n in range(3)]


@pytest.mark.parametrize("last", [3, 5, *(pytest.param(n, marks=pytest.mark.long) for n in (1, 2, 4, 6))])
def test_a_run_that_was_stopped_at_any_request_goes_on_and_pays_nothing_twice(journal, last):
    items, asked = [PLAIN, TALK, Item("short", "Hm?", turns=("Who bakes?",))], []

    def stops(body, before):
        asked.append(1)
        return Reply(status=500) if len(asked) == last else bakes(body)

    with ModelServer(stops) as server:
        subject = served(server, max_retries=0, concurrency=1)
        with pytest.raises(IncompleteRunError, match="no answer"):
            drawn(items, subject, journal)
        found = drawn(items, subject, journal)
        assert set(server.paid.values()) == {1} and len(server.paid) == 6
    assert [each.completion.text[-8:] for each in found] == ["Reply 1.", "Reply 5.", "Reply 3."]


def test_an_attack_changes_the_last_turn_alone(journal):
    with ModelServer(bakes) as server:
        (talk,) = drawn(attacked([TALK], "prefill"), served(server), journal)
        sent = [body["messages"] for body in server.requests]
    assert [messages[-1]["role"] for messages in sent] == ["user", "user", "assistant"]
    assert [body.get("continue_final_message") for body in server.requests] == [None, None, True]
    assert talk.item.asked == "And the icing?"


def by_words(body, reply):
    """As a server counts: the tokens of all messages."""
    answer = payload(body, reply)
    answer["usage"]["prompt_tokens"] = sum(len(each["content"].split()) for each in body["messages"])
    return answer


def probing(change):
    """A server that changes messages as its chat template does."""

    def answer(body, before):
        body = {**body, "messages": change(body["messages"])}
        return Reply(raw=json.dumps(by_words(body, Reply("OK"))).encode())

    return ModelServer(answer)


def test_a_server_that_takes_a_system_prompt_is_ready():
    with probing(lambda messages: messages) as server:
        served(server).probe("You bake.")
        served(server).probe()
        assert len(server.requests) == 3


def test_a_server_that_leaves_the_system_prompt_out_is_told():
    with probing(lambda messages: [m for m in messages if m["role"] != "system"]) as server:
        served(server).probe()
        with pytest.raises(ConfigError, match="leaves the system prompt out: it counts 2") as caught:
            served(server).probe("You bake.")
    assert "chat-template" in caught.value.remedy


def test_a_server_that_refuses_a_system_prompt_is_told():
    def refuses(body, before):
        return Reply(status=400) if body["messages"][0]["role"] == "system" else "OK"

    with ModelServer(refuses) as server:
        with pytest.raises(ConfigError, match="refuses the system prompt") as caught:
            served(server).probe("You bake.")
    assert "no place for a system prompt" in caught.value.remedy


def test_a_model_in_this_process_reads_system_prompt_and_turns(tiny, journal, monkeypatch):
    subject, read = InProcess(str(tiny), batch_size=4), []

    def answer(batch, sampling):
        read.extend(subject._tokenizer.decode(prompt) for _, prompt in batch)
        return [Completion("Yes.") for _ in batch]

    monkeypatch.setattr(subject, "_answer", answer)
    subject.probe("You bake.")
    drawn([PLAIN, TALK], subject, journal, system="You bake.")
    said = "<|assistant|>Yes.<|end|>"
    turns = [f"<|user|>{text}<|end|>" for text in (*TALK.turns, TALK.prompt)]
    assert max(read, key=len) == f"<|system|>You bake.<|end|>{said.join(turns)}<|assistant|>"
    drawn([PLAIN, TALK], subject, journal, system="You bake.")
    assert len(read) == 4


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('System role not supported') }}", "cannot be used: System role not supported"),
        ("", "leaves the system prompt out"),
    ],
)
def test_a_template_without_a_place_for_a_system_prompt_is_told_before_anything(tiny, template, message):
    subject = InProcess(str(tiny))
    on_system = f"{{% if message['role'] == 'system' %}}{template}{{% else %}}"
    written = "<|{{ message['role'] }}|>{{ message['content'] }}{% endif %}"
    subject._tokenizer.chat_template = f"{{% for message in messages %}}{on_system}{written}{{% endfor %}}"
    subject.probe()
    with pytest.raises(ConfigError, match=message) as caught:
        subject.probe("You bake.")
    assert "no place for a system prompt" in caught.value.remedy


def test_a_model_without_a_template_is_given_plain_text(tiny):
    subject = InProcess(str(tiny))
    subject._tokenizer.chat_template = None
    messages = [{"role": "system", "content": "You bake."}, {"role": "user", "content": "Why?"}]
    assert subject._text(messages) == "You bake.\n\nWhy?"
    assert subject._prompt(Request(messages))
