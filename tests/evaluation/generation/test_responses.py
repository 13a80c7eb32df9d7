import pytest

from star_hf.evaluation.generation.responses import read_completion, read_response
from star_hf.llm import Completion
from star_hf.llm.types import OUTCOMES


@pytest.mark.parametrize(
    ("text", "options", "answer", "reasoning", "failure"),
    [
        ("four", {}, "four", None, None),
        ("<think>two and two</think>\n\nfour", {}, "four", "two and two", None),
        ("two and two</think>four", {}, "four", "two and two", None),
        ("<think></think>four", {"expects_reasoning": True}, "four", None, None),
        (" four ", {"reasoning": "two and two"}, "four", "two and two", None),
        ("more</think>four", {"reasoning": "two"}, "four", "two\nmore", None),
        (None, {}, None, None, "unanswered"),
        ("", {}, None, None, "empty"),
        (" \n", {"expects_reasoning": True}, None, None, "empty"),
        ("", {"reasoning": "two and two"}, None, "two and two", "empty"),
        ("<think>two and two</think> ", {}, None, "two and two", "empty"),
        ("<think>two and", {}, None, "two and", "unclosed"),
        ("<think>two and", {"reasoning": "first"}, None, "first\ntwo and", "unclosed"),
        ("two and two is", {"expects_reasoning": True}, None, "two and two is", "unclosed"),
        ("two and two is", {"expects_reasoning": True, "truncated": True}, None, "two and two is", "truncated"),
        ("<think>so</think>It is fo", {"truncated": True}, None, "so", "truncated"),
        ("", {"reasoning": "two", "truncated": True}, None, "two", "truncated"),
        ("<think>a</think>b</think>c", {}, None, None, "unparseable"),
    ],
)
def test_a_reply_is_an_answer_or_a_named_failure(text, options, answer, reasoning, failure):
    read = read_response("i", text, **options)
    assert (read.answer, read.reasoning, read.failure) == (answer, reasoning, failure)


def test_sample_and_tokens_are_kept():
    read = read_response("i", "four", sample=3, tokens=7)
    assert (read.item_id, read.sample, read.tokens) == ("i", 3, 7)


@pytest.mark.parametrize(
    ("completion", "answer", "failure"),
    [
        (Completion("<think>so</think>four"), "four", None),
        (Completion("four", reasoning="so"), "four", None),
        (Completion("<think>so</think>fo", outcome="truncated"), None, "truncated"),
        (Completion("", outcome="refused", detail="I can't help with that."), "I can't help with that.", None),
        (Completion("half of a", outcome="content_filter"), None, "unanswered"),
        (Completion("", outcome="invalid_request", detail="too long"), None, "unanswered"),
        (Completion("so it goes"), None, "unclosed"),
    ],
)
def test_a_completion_is_read_by_its_outcome(completion, answer, failure):
    read = read_completion("i", completion, expects_reasoning=True)
    assert (read.answer, read.failure) == (answer, failure)


@pytest.mark.parametrize("outcome", sorted(OUTCOMES - {"ok", "truncated", "empty", "refused"}))
def test_a_completion_that_is_not_known_to_be_whole_is_no_answer(outcome):
    read = read_completion("i", Completion("Two and", outcome=outcome))
    assert (read.answer, read.failure) == (None, "unanswered")


def test_an_answer_without_text_is_empty():
    assert read_completion("i", Completion("", reasoning="Hm.", outcome="empty")).failure == "empty"
