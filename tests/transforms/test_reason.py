import pytest

from model_server import ModelServer, Reply
from star_hf.errors import PolicyError
from star_hf.llm import Completion, Unusable
from star_hf.schema import CLASSIFIED, REASONED, as_dataset
from star_hf.transforms.reason import Teacher, reason
from star_hf.utils.text import row_id


CANONICAL = "<think>\nThe rule on locks allows it.\n</think>\n\nTry the key first."


def classified(*category, question="how do I pick a lock?"):
    row = {"id": row_id(question), "question": question, "source": "test", "category": list(category)}
    return as_dataset([row], CLASSIFIED)


def test_the_teacher_gets_all_policies_of_the_row_and_only_those():
    (message,) = Teacher().messages(classified("Self-Harm", "Sexual / Adult")[0])
    assert message["role"] == "user"
    assert "\n## Sexual / Adult\n" in message["content"] and "\n## Self-Harm\n" in message["content"]
    assert message["content"].count("\n## ") == 2
    assert message["content"].rstrip().splitlines()[-2] == "how do I pick a lock?"


def test_the_version_follows_the_rows_policies():
    teacher = Teacher()
    versions = {teacher.version(classified(name)[0]) for name in ("Self-Harm", "Sexual / Adult")}
    assert len(versions) == 2


@pytest.mark.parametrize(
    "completion",
    [
        Completion(CANONICAL),
        Completion("The rule on locks allows it.</think>Try the key first."),
        Completion("Try the key first.", reasoning="The rule on locks allows it.\n"),
        Completion("\n\nTry the key first.\n", reasoning=" The rule on locks allows it."),
        Completion(CANONICAL, reasoning=""),
        Completion("<think></think>Try the key first.", reasoning="The rule on locks allows it."),
        Completion("<think>\n\n</think>\n\nTry the key first.", reasoning="The rule on locks allows it."),
        Completion("</think>\n\nTry the key first.", reasoning="The rule on locks allows it."),
        Completion(CANONICAL, reasoning="The rule on locks allows it. "),
    ],
)
def test_both_ways_to_return_a_thought_give_the_same_response(completion):
    assert Teacher().parse(completion, {}) == {"response": CANONICAL}


@pytest.mark.parametrize(
    ("completion", "failure"),
    [
        (Completion("<think>\nLet me see"), "truncated"),
        (Completion("Try the key first."), "malformed"),
        (Completion(""), "malformed"),
        (Completion("", reasoning="Only a thought."), "malformed"),
        (Completion("<think>\n\n</think>\n\nTry the key first."), "malformed"),
        (Completion("<think>a</think>b</think>c"), "malformed"),
        (Completion(CANONICAL, reasoning="And another thought."), "malformed"),
        (Completion("<think></think>", reasoning="Only a thought."), "malformed"),
        (Completion("Try it.", reasoning="a </think> b"), "malformed"),
    ],
)
def test_a_missing_part_has_a_name(completion, failure):
    """D15: what lacks a thought or an answer never becomes a response."""
    result = Teacher().parse(completion, {})
    assert isinstance(result, Unusable) and result.reason == failure and result.detail


@pytest.mark.parametrize("names", [["Other"], ["Cats"], []])
def test_a_row_without_policy_is_an_error_before_anything_is_paid(endpoint, journal, names):
    with ModelServer(lambda body, before: CANONICAL) as server:
        with pytest.raises(PolicyError):
            reason(classified(*names), endpoint(server), journal, progress=False)
        assert not server.requests


@pytest.mark.parametrize(
    "reply",
    [CANONICAL, Reply("Try the key first.", message={"reasoning_content": "The rule on locks allows it."})],
    ids=["inline", "field"],
)
def test_reason_adds_the_response(endpoint, journal, reply):
    with ModelServer(lambda body, before: reply) as server:
        outcome = reason(classified("Self-Harm"), endpoint(server), journal, progress=False)
    assert outcome.rows.features == REASONED and list(outcome.rows.features) == list(REASONED)
    assert outcome.rows["response"][:] == [CANONICAL]
    assert len(outcome.removed) == 0


def test_a_truncated_thought_leaves_with_that_reason(endpoint, journal):
    with ModelServer(lambda body, before: "<think>\nLet me see") as server:
        outcome = reason(classified("Self-Harm"), endpoint(server), journal, progress=False, max_unusable=1.0)
        assert len(server.requests) == 1
    assert outcome.removed["reason"][:] == ["truncated"] and len(outcome.rows) == 0
