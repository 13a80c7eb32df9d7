"""`star-hf deduplicate-shards` as people type it."""

import json
import sys

import pytest
from datasets import load_dataset

from star_hf import cli
from star_hf.schema import COLLECTED, as_dataset
from star_hf.utils.text import row_id


pytest.importorskip("datatrove")
RECIPE = """
collect: {held_out: [], held_out_questions: bench.jsonl}
deduplicate: {tfidf_threshold: 0.9, %s}
scale: {shards: 2, workers: 1}
"""


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Two files of questions: one is there twice, and one is a benchmark's."""
    texts = [f"How do I mend the lock number {n} of a blue door in the old town?" for n in range(0, 40, 10)]
    texts += [texts[0].upper(), "What is in a benchmark, and what should nobody train on, ever at all?"]
    rows = [{"id": row_id(text), "question": text, "source": f"set-{n % 2}"} for n, text in enumerate(texts)]
    for part in range(2):
        as_dataset(rows[part::2], COLLECTED).to_parquet(tmp_path / "corpus" / f"{part}.parquet")
    (tmp_path / "bench.jsonl").write_text(json.dumps({"question": texts[-1]}))
    monkeypatch.chdir(tmp_path)
    return texts


def star_hf(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["star-hf", *arguments])
    try:
        cli.main()
        code = 0
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    return code, " ".join("".join(capsys.readouterr()).split())


@pytest.mark.parametrize("options", [[], ["--minhash", "2"]])
def test_what_stays_and_what_goes(corpus, tmp_path, monkeypatch, capsys, options):
    (tmp_path / "recipe.yaml").write_text(RECIPE % "embedding_threshold: null")
    code, said = star_hf(
        monkeypatch, capsys, "deduplicate-shards", "corpus", "--out", "clean", "--config", "recipe.yaml", *options
    )
    assert code == 0, said
    kept = load_dataset("parquet", data_dir="clean/kept", split="train")["question"][:]
    gone = load_dataset("parquet", data_dir="clean/removed", split="train")["reason"][:]
    assert corpus[-1] not in kept and len(kept) + len(gone) == len(corpus)
    assert {"exact_contamination", "exact_duplicate"} <= set(gone)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("embedding_threshold: null, rule: one_per_group", "only the rule `first_wins`"),
        ("encoder: 'openai:text-embedding-3-small'", "OPENAI_API_KEY"),
    ],
)
def test_what_shards_cannot_do_is_said(corpus, tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "recipe.yaml").write_text(RECIPE % options)
    code, said = star_hf(
        monkeypatch, capsys, "deduplicate-shards", "corpus", "--out", "clean", "--config", "recipe.yaml"
    )
    assert code != 0 and words in said
