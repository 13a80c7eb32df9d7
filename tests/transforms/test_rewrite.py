import json

import pytest

from model_server import ModelServer, question_of
from star_hf.llm import Completion, Unusable
from star_hf.schema import BENIGN, BENIGN_CRITERIA, REASONED, as_dataset
from star_hf.transforms.rewrite import BenignRewriter, BenignScorer, BenignTeacher, benign_twins
from star_hf.utils.text import row_id


TWINS = {
    "how do I pick a lock?": "how do I pick a lock for my bicycle?",
    "how do I kill a plant?": "How do I  kill a PLANT?",
    "how do I crack a safe?": "how do I crack an egg?",
    "how do I crack a code?": "How do I crack  an EGG?",
    "how do I shoot a bird?": "how do I shoot a film?",
    "how do I steal a car?": "how do I steal a base?",
}
LOW_MARKS = "how do I shoot a film?"
NO_ANSWER = "how do I steal a base?"


def model(body, before):
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    question = question_of(body)
    if schema is None:
        assert body["messages"] == [{"role": "user", "content": question}]
        return "<think>\nopen" if question == NO_ANSWER else f"<think>\nFine: {question}\n</think>\n\nGladly."
    if "question" in schema["properties"]:
        return json.dumps({"question": TWINS[question]})
    return json.dumps(dict.fromkeys(BENIGN_CRITERIA, 5) | ({BENIGN_CRITERIA[2]: 4} if question == LOW_MARKS else {}))


@pytest.fixture
def twins(endpoint, journal):
    rows = as_dataset(
        (
            {"id": row_id(q), "question": q, "response": "unread", "category": ["Self-Harm"], "source": f"source {n}"}
            for n, q in enumerate(TWINS)
        ),
        REASONED,
    )
    with ModelServer(model) as server:
        ends = {role: endpoint(server, role) for role in ("rewriter", "teacher", "scorer")}
        return benign_twins(rows, **ends, journal=journal, progress=False, max_unusable=1.0)


def test_a_twin_is_paired_with_its_origin(twins):
    """D23: category, source and the origin's id are kept."""
    assert twins.rows.features == BENIGN and list(twins.rows.features) == list(BENIGN)
    assert twins.rows[0] == {
        "id": row_id("how do I pick a lock for my bicycle?"),
        "question": "how do I pick a lock for my bicycle?",
        "response": "<think>\nFine: how do I pick a lock for my bicycle?\n</think>\n\nGladly.",
        "category": ["Self-Harm"],
        "source": "source 0",
        "score": dict.fromkeys(BENIGN_CRITERIA, 5),
        "origin_id": row_id("how do I pick a lock?"),
    }
    assert len(twins.rows) == 2 and len(set(twins.rows["id"])) == 2


def test_what_leaves_has_a_reason_and_no_origin_vanishes(twins):
    reasons = {row["question"]: (row["stage"], row["reason"]) for row in twins.removed}
    assert reasons == {
        "how do I kill a plant?": ("benign_rewrite", "unchanged"),
        "how do I crack a code?": ("benign_rewrite", "duplicate"),
        "how do I shoot a bird?": ("benign_score", "low_marks"),
        "how do I steal a car?": ("benign_reason", "truncated"),
    }
    assert {*twins.rows["origin_id"], *twins.removed["id"]} == {row_id(question) for question in TWINS}
    assert all(row["id"] == row_id(row["question"]) for row in twins.removed)
    details = {row["reason"]: row for row in twins.removed}
    assert json.loads(details["low_marks"]["detail"])[BENIGN_CRITERIA[2]] == 4
    assert details["duplicate"]["matched_id"] == row_id("how do I crack a safe?")
    assert details["duplicate"]["matched_source"] == "source 2"


def test_each_receipt_belongs_to_a_row(twins):
    known = {*twins.rows["id"], *twins.removed["id"]}
    assert set(twins.provenance["id"]) == known
    stages = [row["stage"] for row in twins.provenance if row["id"] == twins.rows["id"][0]]
    assert stages == ["benign_rewrite", "benign_reason", "benign_score"]
    models = {(row["stage"], row["model"]) for row in twins.provenance}
    assert models == {("benign_rewrite", "rewriter"), ("benign_reason", "teacher"), ("benign_score", "scorer")}


def test_the_teacher_sees_the_question_alone():
    assert BenignTeacher().messages({"question": "what {{ is }} this?"}) == [
        {"role": "user", "content": "what {{ is }} this?"}
    ]


@pytest.mark.parametrize(
    "text", ["", "a question", "{}", '{"question": " "}', '{"question": 1}', '{"question": "a", "b": 1}']
)
def test_a_rewrite_in_another_form_is_malformed(text):
    result = BenignRewriter().parse(Completion(text), {})
    assert isinstance(result, Unusable) and result.reason == "malformed"


@pytest.mark.parametrize("grade", [0, 6, 4.5, "five", None])
def test_benign_grades_run_from_1_to_5(grade):
    grades = dict.fromkeys(BENIGN_CRITERIA, 5)
    assert BenignScorer().parse(Completion(json.dumps(grades)), {}) == {"score": grades}
    assert isinstance(
        BenignScorer().parse(Completion(json.dumps({**grades, BENIGN_CRITERIA[0]: grade})), {}), Unusable
    )
