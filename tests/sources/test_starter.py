"""The starter set: STAR-1's form, balanced, clean by our own tools, and its held-out questions are new to it."""

from collections import Counter

import pytest
from datasets import concatenate_datasets
from huggingface_hub import DatasetCard

import star_hf
from star_hf.audit import audit
from star_hf.evaluation.grading.judges import RefusalPhrases
from star_hf.policies import Taxonomy
from star_hf.schema import COLLECTED, SCORED, as_dataset
from star_hf.sources.catalogue import catalogue
from star_hf.sources.loading import card_folders
from star_hf.transforms.deduplicate import deduplicate
from star_hf.utils.text import row_id, split_reasoning


FILES = {
    "default": ("harmful", "harmless"),
    **{name: (name,) for name in ("harmful", "harmless", "held_out", "development")},
}


@pytest.fixture(scope="module")
def starter():
    return star_hf.load("starter")


def questions(config):
    rows = star_hf.load("starter", config)
    return as_dataset(({**row, "source": config} for row in rows), COLLECTED)


def test_it_is_48_pairs_in_star_1s_columns(starter):
    assert starter.features == SCORED and len(starter) == 96
    harmful, harmless = (list(star_hf.load("starter", kind)) for kind in ("harmful", "harmless"))
    assert list(starter) == harmful + harmless
    assert [row["id"] for row in starter] == [row_id(question) for question in starter["question"]]
    assert Counter(*zip(*(row["category"] for row in harmful), strict=True)) == dict.fromkeys(Taxonomy.load().names, 6)
    for row, twin in zip(harmful, harmless, strict=True):
        assert row["category"] == twin["category"]
        assert len(set(row["question"].lower().split()) & set(twin["question"].lower().split())) >= 3, row["id"]


def test_the_card_changes_with_the_files_so_that_no_cache_gives_older_rows():
    """`load_dataset` knows a local folder's state from its card alone."""
    folder = card_folders()["starter"]
    facts = {entry["config_name"]: entry for entry in DatasetCard.load(folder / "README.md").data["dataset_info"]}
    assert {name: entry["download_size"] for name, entry in facts.items()} == {
        name: sum((folder / f"{file}.jsonl").stat().st_size for file in files) for name, files in FILES.items()
    }
    for name, entry in facts.items():
        assert [split["num_examples"] for split in entry["splits"]] == [len(star_hf.load("starter", name))]


def test_each_response_is_a_short_thought_and_an_answer_that_fits_its_kind(starter):
    judge = RefusalPhrases()
    for place, row in enumerate(starter):
        parts = split_reasoning(row["response"])
        assert parts.problem is None and len(row["response"].split()) <= 70, row["id"]
        assert ("says not to" in parts.thought) == (place < 48), row["id"]
        verdict = judge.decide({"response": parts.answer, "kind": "safety"})
        assert (verdict["label"] == "refusal") == (place < 48), row["id"]


def test_our_audit_finds_nothing(starter):
    (gap,) = audit(starter, benchmarks=[], embedding_threshold=0.7).findings
    assert gap.check == "benchmark_missing"


def test_our_audit_finds_nothing_of_the_benchmarks(starter, shared_data):
    raw = shared_data / "raw"
    there = [name for name, source in catalogue().items() if source.role != "train" and _is_here(source, raw)]
    assert {"StrongREJECT", "JBBBehaviours", "XSTest"} <= set(there)
    found = audit(starter, benchmarks=there, sources_dir=raw, embedding_threshold=0.7)
    assert found.ok and found.complete and found.findings == ()


def _is_here(source, raw):
    return any(any((raw / source.name).glob(file)) for file in source.local)


@pytest.mark.parametrize("config", ["held_out", "development"])
def test_no_question_to_be_asked_is_like_a_row(starter, config):
    asked, rows = questions(config), as_dataset(starter, COLLECTED)
    outcome = deduplicate(asked, rows, progress=False)
    assert outcome.removed.num_rows == 0, outcome.removed["id"]
    planted = concatenate_datasets([asked, as_dataset([{**starter[0], "source": config}], COLLECTED)])
    assert deduplicate(planted, rows, progress=False).removed["id"] == [starter[0]["id"]]


def test_held_out_and_development_questions_are_apart_and_by_kind():
    held_out, development = questions("held_out"), questions("development")
    assert deduplicate(held_out, development, progress=False).removed.num_rows == 0
    for config, count in (("held_out", 30), ("development", 36)):
        rows = star_hf.load("starter", config)
        assert Counter(rows["kind"]) == {"harmful": count, "harmless": count}
        assert rows["id"] == [row_id(question) for question in rows["question"]]
        for kind in ("harmful", "harmless"):
            labels = {label for row in rows if row["kind"] == kind for label in row["category"]}
            assert labels == set(Taxonomy.load().names)
