import json

import pytest

from model_server import ModelServer, question_of
from star_hf.llm import Completion, Unusable
from star_hf.policies import Taxonomy
from star_hf.schema import CLASSIFIED, COLLECTED, as_dataset
from star_hf.transforms.classify import Classifier, classify
from star_hf.utils.text import row_id


LABELS = {
    "how do I pick a lock?": ["Illicit / Criminal Behavior"],
    "what is the capital of France?": ["Other"],
    "how do I find my neighbour's diary?": ["Privacy / Personal Data", "Illicit / Criminal Behavior"],
}


@pytest.fixture(scope="module")
def classifier():
    return Classifier()


def reply(names):
    return Completion(json.dumps({"category": names}))


def collected(questions):
    return as_dataset(({"id": row_id(q), "question": q, "source": "test"} for q in questions), COLLECTED)


def test_the_model_sees_each_definition_and_the_fenced_question(classifier):
    system, user = classifier.messages({"question": "how do I pick a lock?"})
    for category in classifier.taxonomy.categories:
        assert f"- {category.name}: {category.definition}" in user["content"]
        assert category.rules[0] not in user["content"]
    assert "- Other: " in user["content"] and "pick a lock" not in system["content"]


def test_the_schema_allows_exactly_the_labels(classifier):
    schema = classifier.schema({})
    names = schema["properties"]["category"]
    assert names["items"]["enum"] == [*Taxonomy.load().names, "Other"] and names["minItems"] == 1
    assert schema["required"] == ["category"] and schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["Self-Harm"], ["Self-Harm"]),
        (["Self-Harm", "Sexual / Adult", "Self-Harm"], ["Sexual / Adult", "Self-Harm"]),
        (["Other"], ["Other"]),
        (["Other", "Self-Harm"], ["Self-Harm"]),
    ],
)
def test_labels_come_in_the_taxonomys_order(classifier, names, expected):
    assert classifier.parse(reply(names), {}) == {"category": expected}


@pytest.mark.parametrize(
    "names", [[], "Self-Harm", None, [None], [["Self-Harm"]], ["self-harm"], ["Self-Harm", "Cats"]]
)
def test_unknown_labels_are_malformed(classifier, names):
    """D3 (c): a label that the policies lack never gets further."""
    result = classifier.parse(reply(names), {})
    assert isinstance(result, Unusable) and result.reason == "malformed" and "\n" not in result.detail


@pytest.mark.parametrize(
    "text", ["Self-Harm", '{"categories": ["Self-Harm"]}', '{"category": ["Self-Harm"], "why": ""}']
)
def test_another_form_is_malformed(classifier, text):
    assert isinstance(classifier.parse(Completion(text), {}), Unusable)


def test_only_what_the_classifier_sees_is_in_its_version(classifier, tmp_path):
    from star_hf.policies.taxonomy import STAR_8

    text = STAR_8.read_text(encoding="utf-8")

    def version(old, new):
        assert old in text
        path = tmp_path / "edited.yaml"
        path.write_text(text.replace(old, new), encoding="utf-8")
        return Classifier(taxonomy=Taxonomy.load(path)).version({})

    assert version("Treat signs of risk as real.", "Take signs of risk seriously.") == classifier.version({})
    assert version("Suicide, self-injury", "Self-injury, suicide") != classifier.version({})


def test_other_leaves_and_no_row_vanishes(endpoint, journal):
    with ModelServer(lambda body, before: json.dumps({"category": LABELS[question_of(body)]})) as server:
        outcome = classify(collected(LABELS), endpoint(server), journal, progress=False)
    assert outcome.rows.features == CLASSIFIED and list(outcome.rows.features) == list(CLASSIFIED)
    assert {row["question"]: row["category"] for row in outcome.rows} == {
        "how do I pick a lock?": ["Illicit / Criminal Behavior"],
        "how do I find my neighbour's diary?": ["Illicit / Criminal Behavior", "Privacy / Personal Data"],
    }
    (left,) = outcome.removed
    assert (left["question"], left["stage"], left["reason"]) == (
        "what is the capital of France?",
        "classify",
        "other_category",
    )
    assert len(outcome.provenance) == 3


def test_rows_that_all_leave(endpoint, journal):
    with ModelServer(lambda body, before: '{"category": ["Other"]}') as server:
        outcome = classify(collected(LABELS), endpoint(server), journal, progress=False)
    assert len(outcome.rows) == 0 and len(outcome.removed) == 3 and outcome.rows.features == CLASSIFIED


def test_no_rows(endpoint, journal):
    with ModelServer(lambda body, before: "") as server:
        outcome = classify(collected([]), endpoint(server), journal, progress=False)
    assert len(outcome.rows) == len(outcome.removed) == 0 and outcome.rows.features == CLASSIFIED
