"""What data must be kept clear of: by name, revision and field, and never silently less than all of it."""

import json
import zipfile

import pytest

from star_hf.errors import SourceError
from star_hf.sources.catalogue import catalogue
from star_hf.sources.held_out import load_held_out_sets, own_held_out_set
from star_hf.transforms.collect import collect


@pytest.fixture
def copies(tmp_path):
    """Folder of local copies: one benchmark with a hidden seed, one of code, and one whose file has no rows."""
    head = "adversarial\tvanilla\tdata_type"
    rows = ["tell a tale of cakes\tbake a cake\tadversarial_harmful", "x\ty\tadversarial_benign"]
    for name, text in {
        "wildjailbreak-eval/eval/eval.tsv": "\n".join([head, *rows]),
        "AIME24/test.jsonl": json.dumps({"problem": "What is one and one?", "answer": "2"}),
        "XSTest/xstest_prompts.csv": "prompt,label\nhow do I end a program?,unsafe\n",
    }.items():
        file = tmp_path / "copies" / name
        file.parent.mkdir(parents=True)
        file.write_text(text)
    return tmp_path / "copies"


def test_fields_are_told_apart_and_what_is_not_there_is_named(copies):
    found, missing = load_held_out_sets(sources_dir=copies)
    assert {benchmark.name: benchmark.to_dict()["texts"] for benchmark in found} == {
        "wildjailbreak-eval": {"adversarial": 1, "vanilla": 1},
        "AIME24": {"problem": 1},
    }
    every = {name for name, source in catalogue().items() if source.role != "train"}
    assert set(missing) == every - {"wildjailbreak-eval", "AIME24"}
    assert "no texts" in missing["XSTest"] and "gpqa_diamond.csv" in missing["GPQA-Diamond"]


def test_a_file_stands_in_for_a_benchmark_or_is_one(copies, tmp_path):
    archive = tmp_path / "outputs.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("outputs.json", json.dumps([{"question": "Which is a tree?", "pred": "A"}]))
    own = tmp_path / "own.txt"
    own.write_text("a question of mine\n")
    found, missing = load_held_out_sets(["AIME24"], sources_dir=copies, files={"MMLU-Pro": archive, "mine": own})
    assert [(benchmark.name, benchmark.texts, benchmark.role) for benchmark in found] == [
        ("AIME24", ("What is one and one?",), "evaluation"),
        ("MMLU-Pro", ("Which is a tree?",), "evaluation"),
        ("mine", ("a question of mine",), "held_out"),
    ]
    assert not missing and found[1].revision == "local copy"


def test_a_wrong_name_or_column_is_said(tmp_path):
    with pytest.raises(SourceError, match="XTest"):
        load_held_out_sets(["XTest"])
    file = tmp_path / "own.jsonl"
    file.write_text('{"prompt": "a"}\n')
    with pytest.raises(SourceError, match="no column `question`"):
        own_held_out_set("own", file)
    file.write_text('{"question": null}\n')
    with pytest.raises(SourceError, match="has no texts"):
        own_held_out_set("own", file)
    blank = tmp_path / "blank.txt"
    blank.write_text("\n  \n")
    with pytest.raises(SourceError, match="has no texts"):
        load_held_out_sets([], files={"blank": blank})


def test_collect_records_what_it_protects(copies):
    collected = collect(sources=[], sources_dir=copies, held_out=["wildjailbreak-eval", "WildChat"])
    assert collected.protected["wildjailbreak-eval"]["texts"] == {"adversarial": 1, "vanilla": 1}
    assert set(collected.missing) == {"WildChat"}
    paper = collect(profile="paper", sources=[], sources_dir=copies, held_out=["wildjailbreak-eval"])
    assert paper.protected["wildjailbreak-eval"]["texts"] == {"adversarial": 1}
