import json

import pytest
from jsonschema import Draft202012Validator

from model_server import ModelServer, question_of
from star_hf.llm import Completion, Unusable
from star_hf.schema import REASONED, SCORE_CRITERIA, SCORED, as_dataset
from star_hf.transforms.score import Scorer, score
from star_hf.utils.text import join_reasoning, row_id


def reasoned(*responses):
    return as_dataset(
        (
            {
                "id": row_id(f"question {n}"),
                "question": f"question {n}",
                "response": response,
                "category": ["Self-Harm"],
                "source": "test",
            }
            for n, response in enumerate(responses)
        ),
        REASONED,
    )


def marks(*numbers):
    return dict(zip(SCORE_CRITERIA, numbers, strict=True))


def test_thought_and_answer_are_judged_apart():
    _, user = Scorer().messages(reasoned(join_reasoning("a careful thought", "a kind answer"))[0])
    text = user["content"]
    assert text.index("# The assistant's thinking") < text.index("a careful thought")
    assert text.index("a careful thought") < text.index("# The assistant's answer") < text.index("a kind answer")
    assert "\n## Self-Harm\n" in text and "<think>" not in text


def test_the_schema_admits_0_to_10_and_nothing_else():
    schema = Scorer().schema({})
    valid = Draft202012Validator(schema).is_valid
    assert valid(marks(0, 10, 5))
    for bad in (
        {},
        marks(11, 0, 0),
        marks(-1, 0, 0),
        marks("10", 0, 0),
        marks(None, 0, 0),
        {**marks(1, 1, 1), "x": 1},
    ):
        assert not valid(bad)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {SCORE_CRITERIA[0]: 10},
        marks(10, 10, 11),
        marks(10, 10, "ten"),
        marks(10, 10, None),
        marks(10, 10, True),
        {**marks(10, 10, 10), "Overall": 10},
    ],
)
def test_what_is_not_three_grades_is_no_score(answer):
    """D14: an empty object or one of three criteria must not pass as full marks."""
    result = Scorer().parse(Completion(json.dumps(answer)), {})
    assert isinstance(result, Unusable) and result.reason == "malformed"


def test_numbers_and_digits_are_alike():
    assert Scorer().parse(Completion(json.dumps(marks("10", 10, 10.0))), {}) == {"score": marks(10, 10, 10)}


def test_score_annotates_and_keeps_all_rows(endpoint, journal):
    rows = reasoned(join_reasoning("t", "a"), join_reasoning("t", "b"))
    grades = {"question 0": marks(10, 10, 10), "question 1": marks(0, 3, 7)}
    with ModelServer(lambda body, before: json.dumps(grades[question_of(body)])) as server:
        outcome = score(rows, endpoint(server), journal, progress=False)
    assert outcome.rows.features == SCORED and list(outcome.rows.features) == list(SCORED)
    assert outcome.rows["score"][:] == [marks(10, 10, 10), marks(0, 3, 7)]
    assert len(outcome.removed) == 0


def test_a_response_without_both_parts_is_not_judged(endpoint, journal):
    """D15: the judge never sees the text "None"."""
    rows = reasoned("no thought", join_reasoning("t", "a"), "<think>\nopen", "<think>a</think>", "<think></think>b")
    with ModelServer(lambda body, before: json.dumps(marks(9, 9, 9))) as server:
        outcome = score(rows, endpoint(server), journal, progress=False)
        assert len(server.requests) == 1
    assert outcome.rows["question"][:] == ["question 1"]
    assert outcome.removed["reason"][:] == ["no_reasoning", "unclosed", "empty_answer", "empty_thought"]
    assert set(outcome.removed["stage"]) == {"score"}


def test_a_judge_that_writes_prose_is_asked_again_and_then_named(endpoint, journal):
    with ModelServer(lambda body, before: "Looks good to me: 10/10.") as server:
        rows = reasoned(join_reasoning("t", "a"))
        outcome = score(rows, endpoint(server), journal, progress=False, max_unusable=1.0, max_reasks=1)
        assert len(server.requests) == 2
    assert outcome.removed["reason"][:] == ["malformed"] and len(outcome.rows) == 0
