import hashlib
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_hf.errors import StarError
from star_hf.llm import Completion, Journal
from star_hf.llm.journal import exchange
from star_hf.llm.journal.exchange import SCHEMA, export_journal, import_answers
from star_hf.llm.journal.store import Entry, MergeResult
from star_hf.llm.types import OUTCOMES


def key(name):
    return hashlib.sha256(name.encode()).hexdigest()


def entry(name, text="hello", **completion):
    return Entry(key(name), "score", "http://x/v1", "v1", Completion(text, **completion), 0.5, 1_700_000_000.123456)


def filled(path, *entries):
    with Journal(path) as journal:
        journal.merge(entries)
    return path


def exported(tmp_path, *entries):
    with Journal(filled(tmp_path / "source.sqlite", *entries)) as journal:
        export_journal(journal, tmp_path / "answers.parquet")
    return tmp_path / "answers.parquet"


def import_into(path, source):
    with Journal(path) as journal:
        return import_answers(journal, source)


# Lone surrogates never reach a journal from the client and cannot stand in Parquet.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
completions = st.builds(
    Completion,
    text=texts,
    reasoning=st.none() | texts,
    outcome=st.sampled_from(sorted(OUTCOMES)),
    detail=texts,
    finish_reason=texts,
    prompt_tokens=st.integers(0, 10**9),
    completion_tokens=st.integers(0, 10**9),
    usage=texts,
    model=texts,
    provider_id=texts,
    latency_s=st.floats(0, 1e6),
)
entries = st.builds(
    Entry,
    key=texts.map(key),
    stage=texts,
    endpoint=texts,
    version=texts,
    completion=completions,
    cost_usd=st.none() | st.floats(0, 1e6),
    created_at=st.integers(0, 4 * 10**15).map(lambda microseconds: microseconds / 1e6),
)


@given(st.lists(entries, max_size=8, unique_by=lambda entry: entry.key))
def test_an_export_holds_everything_and_does_not_depend_on_the_order_of_the_answers(tmp_path_factory, some):
    tmp_path = tmp_path_factory.mktemp("exchange")
    answers = exported(tmp_path, *some)
    with Journal(tmp_path / "copy.sqlite") as copy:
        assert import_answers(copy, answers) == MergeResult(len(some), 0, 0)
        for put in some:
            got = copy.get(put.key)
            assert got == put and got.completion.latency_s == put.completion.latency_s
            assert got.created_at == put.created_at
    with Journal(filled(tmp_path / "reversed.sqlite", *reversed(some))) as journal:
        export_journal(journal, tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == answers.read_bytes()


@pytest.mark.parametrize("kind", ["parquet", "sqlite"])
def test_the_first_answer_stays_and_all_are_counted(tmp_path, kind):
    source = exported(tmp_path, entry("a"), entry("b", "theirs"), entry("c"))
    source = source if kind == "parquet" else tmp_path / "source.sqlite"
    ours = filled(tmp_path / "ours.sqlite", entry("a"), entry("b", "ours"))
    assert import_into(ours, source) == MergeResult(new=1, present=2, differing=1)
    assert import_into(ours, source) == MergeResult(new=0, present=3, differing=1)
    with Journal(ours) as journal:
        assert journal.get(key("b")).completion.text == "ours" and len(journal) == 3


def test_a_journal_can_be_merged_into_itself_without_a_change(tmp_path):
    ours = filled(tmp_path / "ours.sqlite", entry("a"))
    assert import_into(ours, ours) == MergeResult(new=0, present=1, differing=0)


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("key", "k", "key is not 64 hex digits but 'k'"),
        ("key", key("A").upper(), "key is not 64 hex digits"),
        ("key", None, "key is missing"),
        ("outcome", "fine", "outcome 'fine' is not one of content_filter"),
        ("text", None, "text is missing"),
        ("stage", None, "stage is missing"),
        ("prompt_tokens", -1, "prompt_tokens is -1"),
        ("latency_s", float("nan"), "latency_s is nan"),
        ("cost_usd", float("inf"), "cost_usd is inf"),
        ("created_at", None, "created_at is missing"),
    ],
)
def test_an_invalid_row_is_named_and_nothing_is_imported(tmp_path, column, value, problem):
    path = exported(tmp_path, *(entry(str(index)) for index in range(5)))
    rows = pq.read_table(path).to_pylist()
    rows[3][column] = value
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path)
    ours = filled(tmp_path / "ours.sqlite", entry("ours"))
    with pytest.raises(StarError, match=f"answers.parquet, row 4: {problem}"):
        import_into(ours, path)
    with Journal(ours) as journal:
        assert len(journal) == 1


@pytest.mark.parametrize(
    ("completion", "problem"),
    [
        ('{"text": "cut of', " is damaged: an answer in it is damaged. 0 answers in it can be read, 1 cannot"),
        ("[1, 2]", " is damaged: an answer"),
        (json.dumps({**vars(Completion("x")), "text": 5}), " is damaged: an answer"),
        (json.dumps({**vars(Completion("x")), "prompt_tokens": "3"}), " is damaged: an answer"),
        (json.dumps({**vars(Completion("x")), "prompt_tokens": True}), ", row 1: prompt_tokens is not a whole number"),
    ],
)
def test_a_damaged_row_of_a_journal_is_named_too(tmp_path, completion, problem):
    source = filled(tmp_path / "source.sqlite", entry("a"))
    with Journal(source) as journal:
        journal.execute("UPDATE responses SET completion = ?", [completion])
    with pytest.raises(StarError, match=f"source.sqlite{problem}"):
        import_into(tmp_path / "ours.sqlite", source)


def test_an_export_that_pandas_wrote_again_is_understood(tmp_path):
    path = exported(tmp_path, entry("a", reasoning=None), entry("b", reasoning="because"))
    pd.read_parquet(path).iloc[:, ::-1].to_parquet(path)
    with Journal(tmp_path / "ours.sqlite") as journal:
        assert import_answers(journal, path).new == 2
        assert journal.get(key("a")) == entry("a") and journal.get(key("b")).completion.reasoning == "because"
        assert journal.get(key("a")).created_at == entry("a").created_at


def test_an_export_from_before_finish_reasons_is_understood(tmp_path):
    path = exported(tmp_path, entry("a"))
    pq.write_table(pq.read_table(path).drop_columns(["finish_reason", "usage"]), path)
    with Journal(tmp_path / "ours.sqlite") as journal:
        assert import_answers(journal, path).new == 1 and journal.get(key("a")) == entry("a")


def test_what_is_no_export_is_refused(tmp_path):
    whole = exported(tmp_path, entry("a"))
    with pytest.raises(StarError, match="lacks the columns key, stage"):
        pq.write_table(pa.table({"question": ["how do I pick a lock?"]}), tmp_path / "other.parquet")
        import_into(tmp_path / "ours.sqlite", tmp_path / "other.parquet")
    (tmp_path / "half.parquet").write_bytes(whole.read_bytes()[:-100])
    (tmp_path / "notes.txt").write_text("my notes")
    for name, problem in {
        "half.parquet": "cannot be read",
        "notes.txt": "neither an export nor a journal",
        "nowhere.parquet": "No such file",
    }.items():
        with pytest.raises(StarError, match=problem):
            import_into(tmp_path / "ours.sqlite", tmp_path / name)
    assert (tmp_path / "notes.txt").read_text() == "my notes"


def test_a_column_of_the_wrong_type_is_refused(tmp_path):
    path = exported(tmp_path, entry("a"))
    table = pq.read_table(path).to_pylist()[0]
    pq.write_table(pa.Table.from_pylist([{**table, "prompt_tokens": "many"}]), path)
    with pytest.raises(StarError, match="cannot be read .*many"):
        import_into(tmp_path / "ours.sqlite", path)


def test_long_answers_do_not_pile_up_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(exchange, "BATCH_CHARACTERS", 1_000)
    path = exported(tmp_path, *(entry(str(index), "x" * 400) for index in range(9)))
    assert pq.ParquetFile(path).num_row_groups == 3
    assert import_into(tmp_path / "ours.sqlite", path).new == 9


def test_a_lone_surrogate_in_a_providers_words_does_not_stop_an_export(tmp_path):
    path = exported(tmp_path, entry("a", "", outcome="invalid_request", detail="bad \ud800 character"))
    assert pq.read_table(path)["detail"].to_pylist() == ["bad ? character"]


def test_an_export_that_fails_leaves_the_former_one(tmp_path, monkeypatch):
    path = exported(tmp_path, entry("a"))
    before = path.read_bytes()

    def full(row):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exchange, "_storable", full)
    with Journal(tmp_path / "source.sqlite") as journal, pytest.raises(StarError, match="No space left"):
        export_journal(journal, path)
    assert path.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["answers.parquet", "source.sqlite"]


def test_an_export_never_replaces_a_journal(tmp_path):
    ours = filled(tmp_path / "ours.sqlite", entry("a"))
    with Journal(ours) as journal, pytest.raises(StarError, match="does not end in .parquet"):
        export_journal(journal, ours)
    assert import_into(ours, ours).present == 1
