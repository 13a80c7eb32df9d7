"""Rows and conditions that a step cannot use: one message before anything is asked."""

import pandas as pd
import pytest
from datasets import Dataset

from star_hf.errors import ConfigError, PolicyError, SourceError
from star_hf.llm import Endpoint
from star_hf.policies import Taxonomy
from star_hf.schema import SCORE_CRITERIA
from star_hf.transforms.classify import Classifier, classify
from star_hf.transforms.collect import Questions
from star_hf.transforms.deduplicate import deduplicate
from star_hf.transforms.filters import FullMarks, Usable
from star_hf.transforms.reason import Teacher, reason
from star_hf.transforms.rewrite import benign_twins
from star_hf.transforms.score import score
from star_hf.transforms.select import select


ROW = {
    "id": "a",
    "question": "Who?",
    "source": "s",
    "category": ["Self-Harm"],
    "response": "<think>a</think>b",
    "score": dict.fromkeys(SCORE_CRITERIA, 10),
}
ENDPOINT = Endpoint(model="m", base_url="http://127.0.0.1:9/v1")


def without(*names, **changed):
    return Dataset.from_list([{name: value for name, value in {**ROW, **changed}.items() if name not in names}])


def steps(journal):
    asked = {"classify": classify, "reason": reason, "score": score}
    found = {name: lambda rows, step=step: step(rows, ENDPOINT, journal) for name, step in asked.items()}
    models = dict.fromkeys(("rewriter", "teacher", "scorer"), ENDPOINT)
    return found | {"select": select, "rewrite": lambda rows: benign_twins(rows, journal=journal, **models)}


@pytest.mark.parametrize(
    ("stage", "rows", "said"),
    [
        ("classify", without("id"), "no column `id`"),
        ("classify", without("question"), "no column `question`"),
        ("classify", without("source"), "no column `source`"),
        ("classify", [ROW], "The rows are a list, expected a `Dataset`"),
        ("classify", [], "The rows are a list"),
        ("classify", pd.DataFrame([ROW]), "The rows are a DataFrame"),
        ("reason", without("category"), "no column `category`"),
        ("reason", without(category="Self-Harm"), "holds single values"),
        ("score", without("response"), "no column `response`"),
        ("score", without("category"), "no column `category`"),
        ("select", without("score"), "no column `score`"),
        ("select", without("category"), "no column `category`"),
        ("select", without(category="Self-Harm"), "holds single values"),
        ("select", without(score=10), "A score is a int"),
        ("select", without(score=dict.fromkeys(SCORE_CRITERIA, "10")), "A score holds a str"),
        ("rewrite", without("id"), "no column `id`"),
        ("rewrite", without(category="Self-Harm"), "holds single values"),
    ],
)
def test_rows_are_checked_before_anything_is_asked(journal, stage, rows, said):
    with pytest.raises(ConfigError, match=said):
        steps(journal)[stage](rows)


def test_rows_to_compare_are_data_sets_and_none_may_be_an_empty_list():
    rows = without("category", "response", "score")
    assert len(deduplicate(rows, [], embedding_threshold=None, progress=False).rows) == 1
    with pytest.raises(SourceError, match="The rows are a list"):
        deduplicate(rows, [ROW], progress=False)
    with pytest.raises(SourceError, match="The rows are a dict"):
        deduplicate(ROW, rows, progress=False)


def test_one_text_is_no_list_of_categories():
    taxonomy = Taxonomy.load()
    for use in (taxonomy.pick, taxonomy.version_of, lambda names: taxonomy.check([names])):
        with pytest.raises(PolicyError, match="are one text, 'Self-Harm'"):
            use("Self-Harm")
    with pytest.raises(PolicyError, match="empty category list"):
        taxonomy.check([None])


@pytest.mark.parametrize("condition", [{"minimum": "10"}, {"minimum": None}, {"criteria": "harmless"}])
def test_a_condition_is_checked_when_it_is_made(condition):
    with pytest.raises(ConfigError, match="Invalid condition"):
        FullMarks(**condition)


@pytest.mark.parametrize("step", [Classifier(ENDPOINT, "journal.sqlite"), Questions("s"), Teacher()])
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("streamed", [True, False])
def test_a_step_that_adds_columns_is_no_condition(step, batched, streamed):
    rows = without().to_iterable_dataset() if streamed else without()
    with pytest.raises(ConfigError, match=f"{type(step).__name__} adds columns and is no condition of a filter"):
        list(rows.filter(step, batched=batched))


def test_questions_name_the_column_and_the_format():
    with pytest.raises(ConfigError, match="no column `prompt`; their columns are id"):
        without().map(Questions("mine", "prompt"), batched=True)
    with pytest.raises(ConfigError, match="table of another library"):
        without().with_format("pandas").map(Questions("mine"), batched=True)
    numbers = without().with_format("numpy").map(Questions("mine"), batched=True)
    assert numbers.with_format(None)["failure"][:] == [None] and len(numbers.filter(Usable())) == 1
