"""Collecting from local copies, from cards, and from the user's own file; what is missing and what is broken."""

import json
import logging
import lzma
import os

import pandas as pd
import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from star_hf.errors import ConfigError, SourceError
from star_hf.schema import COLLECTED, PROVENANCE, REMOVED
from star_hf.sources import reading
from star_hf.sources.catalogue import catalogue
from star_hf.transforms.collect import Questions, collect
from star_hf.utils import network
from star_hf.utils.text import is_blank, row_id


NOT_AT_HAND = {"HExPHI", "UltraSafety", "SaladBench", "PKUSafeRLHF", "BeaverTails", "wildjailbreak"}


@pytest.fixture
def copies(tmp_path):
    """Writes local copies and returns their folder."""

    def write(files: dict[str, str | bytes]):
        for name, content in files.items():
            path = tmp_path / "copies" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / "copies"

    return write


def _own(path, **options):
    return collect(sources=[], held_out=[], questions=path, **options)


def test_paper_profile_reads_what_star1_read(shared_data):
    collected = collect(profile="paper", sources_dir=shared_data / "raw")
    truth = pd.read_parquet(shared_data / "as_read_by_star1.parquet")
    for dataset, role, count in ((collected.outcome.rows, "train", 21_708), (collected.held_out, "test", 2_105)):
        expected = truth[truth.role == role]
        assert dataset.features == COLLECTED and len(dataset) == len(expected) == count
        assert dataset["question"][:] == expected.question.tolist()
        assert dataset["source"][:] == expected.dataset.tolist()
        assert dataset["id"][:] == [row_id(question) for question in expected.question]
    assert set(collected.missing) == NOT_AT_HAND | {"wildjailbreak-eval"}
    assert set(collected.outcome.removed["reason"]) == {"contextual"} and len(collected.outcome.removed) == 100
    assert collected.outcome.removed.features == REMOVED and collected.outcome.provenance.features == PROVENANCE


def test_recommended_profile_reads_the_rows_that_the_cards_state(shared_data):
    collected = collect(sources_dir=shared_data / "raw")
    assert set(collected.missing) == NOT_AT_HAND | {"wildjailbreak-eval", "WildChat"}
    counts = pd.Series(collected.outcome.rows["source"][:] + collected.held_out["source"][:]).value_counts()
    asked = {name: source.rows for name, source in catalogue().items() if source.role != "evaluation"}
    assert counts.to_dict() == {name: rows for name, rows in asked.items() if name not in collected.missing}


def test_no_row_vanishes_and_benign_rows_are_kept_aside(copies):
    table = "vanilla\tdata_type\ncut a lock\tvanilla_harmful\nbake a cake\tvanilla_benign\n\tvanilla_harmful\n"
    folder = copies({"wildjailbreak/train/train.tsv": table})
    collected = collect(sources=["wildjailbreak"], held_out=[], sources_dir=folder)
    removed = [(row["stage"], row["reason"], row["question"], row["source"]) for row in collected.outcome.removed]
    assert collected.outcome.rows["question"][:] == ["cut a lock"]
    assert removed == [
        ("collect", "benign", "bake a cake", "wildjailbreak"),
        ("collect", "empty", "", "wildjailbreak"),
    ]
    leaky = collect(profile="paper", sources=["wildjailbreak"], held_out=[], sources_dir=folder)
    assert leaky.outcome.rows["question"][:] == ["cut a lock", "bake a cake"]


def test_benchmark_sample_is_the_shuffled_one(copies):
    lines = [f"attack {i}\tseed {i}\tadversarial_{'harmful' if i % 5 else 'benign'}" for i in range(400)]
    folder = copies({"wildjailbreak-eval/eval/eval.tsv": "\n".join(["adversarial\tvanilla\tdata_type", *lines])})
    harmful = Dataset.from_dict({"text": [f"attack {i}" for i in range(400) if i % 5]})
    expected = harmful.shuffle(seed=42).select(range(250))["text"][:]
    options = {"sources": [], "held_out": ["wildjailbreak-eval"], "sources_dir": folder}
    assert collect(profile="paper", **options).held_out["question"][:] == expected
    both = collect(**options).held_out["question"][:]
    assert both[::2] == expected and both[1::2] == [text.replace("attack", "seed") for text in expected]


def test_sources_come_in_catalogue_order_and_own_questions_last(copies, tmp_path):
    folder = copies({"GPTFuzz/question_list.csv": "index,text\n0,a\n", "HarmfulQ/toxic_outs.json": '["b", "c"]'})
    own = tmp_path / "mine.txt"
    own.write_text("d\n")
    collected = collect(sources=["HarmfulQ", "GPTFuzz"], held_out=[], sources_dir=folder, questions=own)
    assert collected.outcome.rows["source"][:] == ["GPTFuzz", "HarmfulQ", "HarmfulQ", "mine"]
    assert collected.outcome.rows["question"][:] == ["a", "b", "c", "d"] and not collected.missing


def test_edited_local_copy_is_read_again(copies):
    for text in ("first", "other"):
        folder = copies({"GPTFuzz/question_list.csv": f"index,text\n0,{text}\n"})
        os.utime(folder / "GPTFuzz" / "question_list.csv", (1, 1))
        collected = collect(sources=["GPTFuzz"], held_out=[], sources_dir=folder)
        assert collected.outcome.rows["question"][:] == [text]


def test_missing_source_is_named_and_the_run_goes_on(copies, caplog):
    folder = copies({"GPTFuzz/question_list.csv": "index,text\n0,a\n"})
    options = {"sources": ["GPTFuzz", "HExPHI"], "held_out": ["XSTest"], "sources_dir": folder}
    with caplog.at_level(logging.WARNING):
        collected = collect(**options)
    assert len(collected.outcome.rows) == 1 and set(collected.missing) == {"HExPHI", "XSTest"}
    assert str(folder / "HExPHI" / "category_1.csv") in collected.missing["HExPHI"]
    assert "HExPHI is left out" in caplog.text and "XSTest is not held out" in caplog.text
    with pytest.raises(SourceError, match=r"(?s)2 sources.*HExPHI.*XSTest"):
        collect(**options, require_all=True)


@pytest.mark.parametrize(
    ("name", "said"),
    [("GPTFuzz", "Check the network"), ("HExPHI", "Ask for access"), ("wildjailbreak", "Accept the conditions")],
)
def test_remedy_fits_the_gate(monkeypatch, name, said):
    def refuse(*_, **__):
        raise FileNotFoundError("no such file for you")

    monkeypatch.setattr(reading, "load_dataset", refuse)
    monkeypatch.setattr(network.socket, "getaddrinfo", lambda *_: [])
    with pytest.raises(SourceError) as raised:
        collect(sources=[name], held_out=[], require_all=True)
    reason = raised.value.message
    assert "no such file for you" in reason and said in reason and f"DIR/{name}/" in reason
    assert ("HF_TOKEN" in reason) == (name != "GPTFuzz")


def test_sources_dir_that_is_not_there(tmp_path):
    with pytest.raises(SourceError, match="nowhere"):
        collect(sources_dir=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"profile": "papr"}, "papr"),
        ({"sources": ["GPTFuz"]}, "GPTFuz"),
        ({"sources": ["XSTest"]}, "XSTest"),
        ({"profile": "paper", "sources": [], "held_out": ["WildChat"]}, "WildChat"),
    ],
)
def test_unknown_names(options, said):
    with pytest.raises(ConfigError, match=said):
        collect(**options)


def test_missing_column_of_a_source(copies):
    folder = copies({"BeaverTails/round0/330k/train.jsonl.xz": _xz('{"prompt": "a", "safe": false}\n')})
    copies({"BeaverTails/round0/330k/test.jsonl.xz": _xz('{"prompt": "b", "safe": false}\n')})
    with pytest.raises(SourceError, match=r"(?s)BeaverTails: .*'is_safe'.*prompt.*Expected prompt / is_safe"):
        collect(sources=["BeaverTails"], held_out=[], sources_dir=folder)


def test_no_file_of_questions(tmp_path):
    with pytest.raises(SourceError, match=r"no file .*absent.txt"):
        _own(tmp_path / "absent.txt")


def test_multibyte_character_across_the_read_boundary_is_fine(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("x" * ((1 << 20) - 1) + "é\nshort\n")
    collected = _own(path)
    assert collected.outcome.rows["question"][:] == ["short"]
    assert collected.outcome.removed["reason"][:] == ["too_long"]


@pytest.mark.parametrize("profile", ["paper", "recommended"])
def test_long_and_empty_questions_leave_with_their_reason(tmp_path, profile):
    path = tmp_path / "mine.jsonl"
    questions = ["ok", "  ", None, "x" * 20_000, "y" * 100_000]
    path.write_text("".join(json.dumps({"question": question}) + "\n" for question in questions))
    outcome = _own(path, profile=profile).outcome
    assert outcome.rows["question"][:] == ["ok", "x" * 20_000]
    assert outcome.removed["reason"][:] == ["empty", "empty", "too_long"]
    assert outcome.removed["question"][2] == "y" * 100_000


def test_own_questions_keep_their_source_and_words_like_null(tmp_path):
    path = tmp_path / "mine[1].csv"
    path.write_text("question,source\nnull,theirs\nhow do I pick a lock?,\n")
    rows = _own(path).outcome.rows
    assert rows["question"][:] == ["null", "how do I pick a lock?"] and rows["source"][:] == ["theirs", "mine[1]"]


def test_tab_separated_own_questions(tmp_path):
    path = tmp_path / "mine.tsv"
    path.write_text("question\tsource\nfirst, then second?\ttheirs\n")
    rows = _own(path).outcome.rows
    assert (rows["question"][:], rows["source"][:]) == (["first, then second?"], ["theirs"])


def test_parquet_of_own_questions(tmp_path):
    path = tmp_path / "mine.parquet"
    Dataset.from_dict({"question": ["how do I pick a lock?"], "extra": [1]}).to_parquet(path)
    assert _own(path).outcome.rows[0] == {
        "id": row_id("how do I pick a lock?"),
        "question": "how do I pick a lock?",
        "source": "mine",
    }


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), min_size=1, max_size=5))
def test_any_questions_end_in_rows_or_removed(tmp_path, questions):
    path = tmp_path / "any.jsonl"
    path.write_text("".join(json.dumps({"question": question}) + "\n" for question in questions))
    outcome = _own(path, max_chars=20).outcome
    assert outcome.rows["question"][:] == [text for text in questions if not is_blank(text) and len(text) <= 20]
    assert len(outcome.rows) + len(outcome.removed) == len(questions)


@pytest.mark.parametrize("text", ["\u200b", "\ufeff", " \u00ad\u200d ", "\u3164", "\u2800", "\0", ""])
def test_a_question_that_shows_nothing_is_empty(text):
    assert Questions("mine")({"question": [text, f"{text}a"]})["failure"] == ["empty", None]


def _xz(text: str) -> bytes:
    return lzma.compress(text.encode())


def test_a_benchmark_of_ones_own_is_held_out(tmp_path):
    file = tmp_path / "our-test-set.txt"
    file.write_text("How do I whistle?\nHow do I juggle?\n")
    collected = collect(sources=[], held_out=[], held_out_questions=file, max_chars=10)
    assert collected.held_out["question"][:] == ["How do I whistle?", "How do I juggle?"], "of any length"
    assert set(collected.held_out["source"]) == {"our-test-set"}
    assert len(collected.outcome.rows) == 0


@pytest.mark.parametrize("role", ["sources", "held_out"])
def test_one_name_is_not_read_as_a_list_of_letters(role):
    with pytest.raises(ConfigError, match="Give a list"):
        collect(**{role: "GPTFuzz"})
