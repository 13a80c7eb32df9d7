import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_hf.utils.text import (
    counted,
    encodable,
    encodable_values,
    is_blank,
    join_reasoning,
    join_surrogates,
    normalise,
    row_id,
    split_reasoning,
)


@pytest.mark.parametrize(
    ("text", "thought", "answer", "problem"),
    [
        ("<think>\nwhy\n</think>\n\nanswer", "why", "answer", None),
        ("why\n</think>\n\nanswer", "why", "answer", None),
        ("  <think>why</think>answer", "why", "answer", None),
        ("<think>why", "why", None, "unclosed"),
        ("just an answer", None, "just an answer", "no_reasoning"),
        ("<think>why</think>", "why", "", "empty_answer"),
        ("<think>\n</think>answer", "", "answer", "empty_thought"),
        ("<think>a</think>b</think>c", None, None, "ambiguous"),
        ("<think>a<think>b</think>c", None, None, "ambiguous"),
        ("<think>a</think>b<think>", None, None, "ambiguous"),
        ("", None, "", "no_reasoning"),
        ("The tag </think> closes.", None, "The tag </think> closes.", "no_reasoning"),
        ("It ends with </think>. So", None, "It ends with </think>. So", "no_reasoning"),
        ("Write `</think>` at the end.", None, "Write `</think>` at the end.", "no_reasoning"),
        ("The tags <think> and </think>, in short.", None, "The tags <think> and </think>, in short.", "no_reasoning"),
        ("The tag </think> closes.\n</think>\n\nYes.", None, None, "ambiguous"),
        ("<think>\nThe tag </think> closes.\n</think>\n\nYes.", None, None, "ambiguous"),
        ("<think> so I think </think> Yes.", "so I think", "Yes.", None),
        ("I thought about it. </think> Yes.", "I thought about it.", "Yes.", None),
        ("[THINK]why[/THINK]answer", "why", "answer", None),
        ("\n[THINK]why", "why", None, "unclosed"),
        ("<thinking>\nwhy\n</thinking>\n\nanswer", "why", "answer", None),
        ("<thought>why</thought>answer", "why", "answer", None),
        ("<seed:think>why</seed:think>\nanswer", "why", "answer", None),
        ("<|channel>thought\nwhy\n<channel|>answer", "why", "answer", None),
        (
            "<|channel|>analysis<|message|>why<|end|><|start|>assistant<|channel|>final<|message|>answer<|return|>",
            *("why", "answer", None),
        ),
        ("analysiswhyassistantfinalanswer", "why", "answer", None),
        ("analysis shows that it rains", None, "analysis shows that it rains", "no_reasoning"),
        ("<thinking>why</thinking>", "why", "", "empty_answer"),
        ("<think>why</think>\u200b\u2060", "why", "\u200b\u2060", "empty_answer"),
        ("<think>\ufeff</think>answer", "\ufeff", "answer", "empty_thought"),
        ("An answer. <thinking>no</thinking>", None, "An answer. <thinking>no</thinking>", "no_reasoning"),
    ],
)
def test_split(text, thought, answer, problem):
    found = split_reasoning(text)
    assert (found.thought, found.answer, found.problem) == (thought, answer, problem)


words = st.text(st.characters(exclude_characters="<>", exclude_categories=("Cs",)), min_size=1)
words = words.filter(lambda text: not is_blank(text))


@given(words, words)
def test_join_then_split_gives_both_back(thought, answer):
    found = split_reasoning(join_reasoning(thought, answer))
    assert (found.thought, found.answer, found.problem) == (thought.strip(), answer.strip(), None)


@given(st.text())
def test_split_never_calls_an_open_thought_an_answer(text):
    found = split_reasoning("<think>" + text)
    assert found.answer is None or "</think>" in text


def test_ids_fold_what_does_not_change_a_question_and_nothing_else():
    assert (
        row_id("How do I\tpick  a lock?") == row_id(" how do i pick a LOCK? ") == row_id("How do I pick a ｌｏｃｋ?")
    )
    assert row_id("How do I pick a lock?") != row_id("How do I pick a rock?")
    assert row_id("How do I pick a lock?") == "35a04174b9e7e9ac", "published ids must never change"
    assert len(row_id("\ud800")) == 16


@given(st.text())
def test_normalised_text_has_single_inner_spaces_and_encodable_always_encodes(text):
    assert normalise(text) == " ".join(normalise(text).split())
    assert encodable(text + "\ud800").encode().endswith(b"?")


def test_surrogates_are_joined_or_replaced():
    assert join_surrogates("a\ud83d\ude00b\ud800") == "a😀b\ufffd"
    assert encodable_values({"a": "x\ud800", "b": 1}) == {"a": "x?", "b": 1}


def test_a_count_has_its_noun():
    assert [counted(n, "row") for n in (0, 1, 2_000)] == ["0 rows", "1 row", "2,000 rows"]
