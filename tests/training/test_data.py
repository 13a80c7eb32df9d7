"""The rows of a recipe: mixtures, and the part of them that it asks for."""

import json

import pytest
import yaml
from datasets import Dataset

import standins
from star_hf.errors import ConfigError, TrainingError
from star_hf.training.data import digest, load_rows
from star_hf.training.recipe import read_options
from star_hf.training.trainers.sft import parse


ROWS = [
    {**row, "score": {"safety": 10 if number < 6 else number - 6, "relevancy": 10}}
    for number, row in enumerate(standins.rows(12))
]
TALKS = [
    {
        "messages": [
            {"role": "user", "content": f"What is {number} and {number}?"},
            {"role": "assistant", "content": f"<think>\nAdd.\n</think>\n\n{2 * number}"},
        ],
        "num_tokens": 9,
    }
    for number in range(8)
]


@pytest.fixture
def rows_of(tmp_path):
    """The rows that these lines of a recipe ask for, of data sets `star` and `talks`."""
    asked = [{"question": TALKS[0]["messages"][:1], "response": "<think>\nAdd.\n</think>\n\n2"}]
    unmarked = [{**ROWS[0], "score": {"safety": None, "relevancy": 10}}, {**ROWS[1], "score": None}, ROWS[2]]
    turns = [{"messages": [*TALKS[1]["messages"], *TALKS[2]["messages"]]}]
    sets = (("star", ROWS), ("talks", TALKS), ("asked", asked), ("unmarked", unmarked), ("turns", turns))
    for name, rows in sets:
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")

    def load(datasets=({"path": "star"},), **options):
        sets = [{**entry, "path": str(tmp_path / entry["path"])} for entry in datasets]
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({"output_dir": str(tmp_path), "bf16": False, "datasets": sets, **options}))
        return load_rows(parse(["--config", str(path)]))

    return load


def places(rows):
    return [[row["question"] for row in ROWS].index(question) for question in rows["question"]]


def test_rows_are_chosen_by_their_lowest_mark_and_their_source(rows_of):
    assert places(rows_of(min_score=10)) == [0, 1, 2, 3, 4, 5]
    assert places(rows_of(max_score=4, min_score=2)) == [8, 9, 10]
    assert places(rows_of(sources=["garden"], min_score=10)) == [0, 2, 4]


@pytest.mark.parametrize("bound", [{"min_score": 0}, {"max_score": 10}])
def test_a_missing_mark_is_neither_high_nor_low(rows_of, bound):
    assert places(rows_of([{"path": "unmarked"}], **bound)) == [2]


def test_few_rows_are_the_first_or_any(rows_of):
    assert places(rows_of(max_rows=3)) == [0, 1, 2]
    drawn = places(rows_of(max_rows=3, sample_seed=1))
    assert drawn != [0, 1, 2] and drawn == places(rows_of(max_rows=3, sample_seed=1))
    assert len(rows_of(max_rows=99)) == 12


def test_conversations_are_mixed_with_rows_by_share(rows_of):
    columns = {"columns": ["question", "response"]}
    mixed = rows_of([{"path": "star", "fraction": 0.75, **columns}, {"path": "talks", "fraction": 0.25}])
    assert len(mixed) == 16 and mixed[12]["question"] == "What is 0 and 0?"
    assert mixed[15]["response"] == TALKS[3]["messages"][1]["content"]
    assert mixed[0]["response"] == ROWS[0]["response"]


def test_a_conversation_gives_its_first_question_and_its_last_answer(rows_of):
    (row,) = rows_of([{"path": "turns"}])
    assert row == {"question": "What is 1 and 1?", "response": TALKS[2]["messages"][1]["content"]}


def test_with_a_primer_responses_may_be_missing_from_one_data_set_or_all(rows_of):
    bare, primer = {"path": "star", "columns": ["question"]}, "Let us see."
    mixed = rows_of([bare, {"path": "talks"}], primer=primer)
    assert mixed["response"][:12] == [None] * 12 and mixed["response"][12] == TALKS[0]["messages"][1]["content"]
    alone = rows_of([bare], primer=primer)
    assert alone["response"][:] == [None] * 12 and digest(alone) != digest(rows_of())
    with pytest.raises(TrainingError, match="no column response"):
        rows_of([bare])


def test_a_slice_takes_the_first_rows_of_one_data_set(rows_of):
    assert len(rows_of([{"path": "star"}, {"path": "talks", "split": "train[:2]"}])) == 14


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"min_score": 11}, "The recipe selects none of 12 rows"),
        ({"datasets": [{"path": "talks"}], "sources": ["garden"]}, "sets `sources`, but the data have no column"),
        ({"datasets": [{"path": "asked"}]}, "The column question is not text"),
        ({"train_split": "validation"}, "no split 'validation', only train"),
    ],
)
def test_what_is_not_there_is_said(rows_of, options, words):
    with pytest.raises(TrainingError, match=words):
        rows_of(**options)


def test_a_data_set_that_is_not_there_is_named(rows_of):
    with pytest.raises(ConfigError, match="The data sets of the recipe cannot be loaded: .*nowhere"):
        rows_of([{"path": "nowhere"}])


def test_a_share_for_one_data_set_only_is_refused(rows_of):
    with pytest.raises(ConfigError, match="`fraction` must be set for either all"):
        rows_of([{"path": "star", "fraction": 0.5}, {"path": "talks"}])


def test_the_digest_is_of_texts_and_their_order(rows_of):
    rows = rows_of()
    assert digest(rows) == digest(rows_of(datasets=[{"path": "star", "columns": ["question", "response"]}]))
    assert digest(rows) != digest(rows.select(reversed(range(12))))


def test_the_digest_knows_where_a_text_ends():
    one, other = ({"question": [a], "response": [b]} for a, b in (("ab", "c"), ("a", "bc")))
    assert digest(Dataset.from_dict(one)) != digest(Dataset.from_dict(other))


def test_a_recipe_replaces_lines_of_its_base(tmp_path):
    (tmp_path / "base.yaml").write_text("learning_rate: 1.0\nseed: 3\n")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "one.yaml").write_text("base: ../base.yaml\nseed: 4\n")
    assert read_options(tmp_path / "deeper" / "one.yaml") == {"learning_rate": 1.0, "seed": 4}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("base: other.yaml", "other.yaml: No such file"),
        ("base: one.yaml", "its own base"),
        ("- a list", "holds a list, expected"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_a_base_that_is_none_is_named(tmp_path, text, words):
    (tmp_path / "one.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_options(tmp_path / "one.yaml")
