"""The rows of a recipe: mixtures, and the part of them that it asks for."""

import json

import pytest
import yaml
from datasets import Dataset, DatasetDict

import standins
from star_hf.errors import ConfigError, TrainingError
from star_hf.training.data import digest, load_columns, load_rows
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
    talk = [{"role": "user", "content": "1 and 1?"}, {"role": "assistant", "content": "2"}]
    parts = [{**talk[0], "content": [{"type": "text", "text": "1 and "}, {"type": "text", "text": "1?"}]}]
    thought = [{"type": "text", "text": "<think>\nAdd.\n</think>\n\n"}, {"type": "text", "text": "2"}]
    more = {
        "systems": [{"messages": [SYSTEM, *each["messages"]]} for each in TALKS],
        "fields": [{"messages": [talk[0], {**talk[1], "reasoning_content": "Add."}]}] * 2,
        "columns": [{"question": "1 and 1?", "thinking": "Add.", "response": "2"}] * 2,
        "parts": [{"messages": [*parts, {**talk[1], "content": thought}]}] * 2,
        "unanswered": [{"messages": talk}, {"messages": talk[:1]}],
        "unasked": [{"messages": talk[1:]}],
        "pictures": [{"messages": [{**talk[0], "content": [{"type": "image", "text": None}]}, talk[1]]}],
    }
    sets = (
        *more.items(),
        ("star", ROWS),
        ("talks", TALKS),
        ("asked", asked),
        ("unmarked", unmarked),
        ("turns", turns),
    )
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


SYSTEM = {"role": "system", "content": "Be brief."}


def test_each_turn_of_a_conversation_is_a_row_with_what_came_before(rows_of):
    rows = rows_of([{"path": "turns"}])
    first, last = TALKS[1]["messages"], TALKS[2]["messages"]
    assert rows["question"][:] == [first[0]["content"], last[0]["content"]]
    assert rows["response"][:] == [first[1]["content"], last[1]["content"]]
    assert rows["history"][:] == [[], [first[0], {"role": "assistant", "content": "2"}]]


def test_a_system_message_stays_before_its_question_and_counts_in_the_digest(rows_of):
    rows = rows_of([{"path": "systems"}])
    assert rows["history"][:] == [[SYSTEM]] * 8 and rows["question"][:] == [
        talk["messages"][0]["content"] for talk in TALKS
    ]
    assert digest(rows) != digest(rows_of([{"path": "talks"}]))


@pytest.mark.parametrize("name", ["fields", "columns", "parts"])
def test_a_thought_in_a_place_of_its_own_becomes_part_of_the_response(rows_of, name):
    assert rows_of([{"path": name}])["response"][:] == ["<think>\nAdd.\n</think>\n\n2"] * 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("unanswered", "The conversation of row 1 has no answer"),
        ("unasked", "The conversation of row 0 has an answer that follows no question"),
        ("pictures", "The conversation of row 0 has a message of the role user that is not text"),
    ],
)
def test_a_conversation_that_cannot_be_learnt_from_is_named(rows_of, name, words):
    with pytest.raises(TrainingError, match=words):
        rows_of([{"path": name}])


def test_preferences_refuse_messages_before_a_question(rows_of, tmp_path):
    rows_of([{"path": "turns"}])
    mixture = parse(["--config", str(tmp_path / "recipe.yaml")]).data
    with pytest.raises(TrainingError, match="messages before a question"):
        load_columns(mixture, "train", ("question",))


@pytest.mark.parametrize(
    "form", ["rows.jsonl", "rows.jsonl.gz", "rows.json", "rows.parquet", "rows.csv", "saved", "dict"]
)
def test_a_file_or_a_saved_data_set_is_read_like_a_data_set(rows_of, tmp_path, form):
    data, path = Dataset.from_list(standins.rows(6)), tmp_path / form
    if form == "saved":
        data.save_to_disk(path, num_shards=2)
    elif form == "dict":
        DatasetDict(train=data, test=data.select([0])).save_to_disk(path)
    elif "json" in form:
        data.to_json(path, lines="jsonl" in form, compression="gzip" if form.endswith("gz") else None)
    else:
        getattr(data, f"to_{path.suffix[1:]}")(path)
    rows = rows_of([{"path": form}])
    assert digest(rows) == digest(data) and len(rows_of([{"path": form, "split": "train[:2]"}])) == 2


@pytest.mark.parametrize("card", ["", "---\nconfigs:\n- config_name: default\n  data_files: train.jsonl\n---\n"])
def test_rows_that_were_edited_in_place_are_read_again(rows_of, tmp_path, card):
    if card:
        (tmp_path / "star" / "README.md").write_text(card)
    before, file = rows_of(), tmp_path / "star" / "train.jsonl"
    edited = file.read_text().replace(ROWS[0]["question"], ROWS[0]["question"].upper())
    file.write_text(edited)
    assert rows_of()["question"][0] == before["question"][0].upper() != before["question"][0]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"question": "a", ', "rows.jsonl, line 3: "),
        (b'{"question": "\\ud800", "response": "b"}', "rows.jsonl, line 3: .*surrogates not allowed"),
    ],
)
def test_the_broken_line_of_a_file_is_named(rows_of, tmp_path, line, words):
    good = json.dumps({"question": "a", "response": "b"}).encode()
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join([good, good, line, good]))
    with pytest.raises(ConfigError, match=words):
        rows_of([{"path": "rows.jsonl"}])


def test_one_source_is_a_whole_name(rows_of):
    assert places(rows_of(sources=["kitchen"])) == [1, 3, 5, 7, 9, 11]
    with pytest.raises(TrainingError, match="selects none"):
        rows_of(sources=["a kitchen garden"])


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
