"""Results from all pairs against the naive definition on whole texts, and what a result can be asked."""

import unicodedata
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_hf.deduplication.alike import find_alike
from star_hf.errors import ConfigError, StarError
from star_hf.schema import COLLECTED, as_dataset
from star_hf.similarity.texts import PreparedTexts
from star_hf.similarity.tfidf import tfidf_weights
from star_hf.transforms.deduplicate import deduplicate
from star_hf.utils.text import normalise, row_id


WORDS = st.sampled_from(["how", "lock", "PICK", "a", "straße", "ﬁsh", "fish", "水", "door"])
TEXTS = st.lists(WORDS, max_size=7).map(" ".join)
ROWS = st.lists(st.tuples(st.sampled_from("ABC"), TEXTS), max_size=12)
ITEMS = st.lists(st.tuples(st.just("bench"), TEXTS.filter(bool)), max_size=2)


class Letters:
    """An encoder that counts letters: deterministic, and alike texts get alike vectors."""

    identity = "letters"
    languages = ("*",)

    def __call__(self, texts):
        counts = np.array([[text.count(letter) for letter in "abcdefhiklow "] for text in texts], np.float32) + 0.01
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def collected(pairs):
    return as_dataset([{"id": row_id(text), "question": text, "source": source} for source, text in pairs], COLLECTED)


def find(rows, items, tfidf=0.6, embedding=0.9, distinct=False):
    options = {"ngram": 4, "tfidf_threshold": tfidf, "embedding_threshold": embedding, "num_threads": 1}
    options |= {"distinct": distinct, "progress": False}
    return find_alike(collected(rows), collected(items), encoder=Letters(), **options)


def naive(items, rows, tfidf, embedding):
    """The matrix of "alike by any measure", items first."""
    texts = [unicodedata.normalize("NFKC", text) for _, text in [*items, *rows]]
    if not texts:
        return np.zeros((0, 0), bool)
    words = [text.lower().split() for text in texts]
    windows = [{tuple(own[i : i + 4]) for i in range(len(own) - 3)} for own in words]
    weights = tfidf_weights(PreparedTexts.of(texts).counts()).toarray()
    vectors = Letters()(texts).astype(np.float64)
    alike = (weights @ weights.T >= tfidf - 1e-9) | (vectors @ vectors.T >= embedding - 1e-9)
    for i, text in enumerate(texts):
        for j, other in enumerate(texts):
            alike[i, j] |= normalise(text) == normalise(other) or bool(windows[i] & windows[j])
    return alike


def kept_naively(items, rows, tfidf, embedding):
    """By place: what the first rule keeps, and the connected groups of what is not contaminated."""
    alike = naive(items, rows, tfidf, embedding)
    start = len(items)
    clean = [i for i in range(len(rows)) if not alike[start + i, :start].any()]
    kept = []
    for i in clean:
        if not any(alike[start + i, start + j] for j in kept):
            kept.append(i)
    groups = []
    for i in clean:
        touched = [group for group in groups if any(alike[start + i, start + j] for j in group)]
        groups = [group for group in groups if group not in touched] + [sorted([i, *sum(touched, [])])]
    return kept, groups


def places(result):
    return [place for place in range(len(result.given)) if place not in result.removals]


@given(ROWS, ITEMS, st.sampled_from([(0.6, 0.9), (0.3, 0.97), (0.95, 1.0)]))
def test_both_rules_are_the_naive_ones(rows, items, thresholds):
    alike = find(rows, items, *thresholds)
    kept, groups = kept_naively(items, rows, *thresholds)
    assert places(alike.first_wins()) == kept
    for prefer in (("rarest", "longest"), ("longest",), ()):
        size = Counter(source for source, _ in rows)

        def key(place, prefer=prefer, size=size):
            source, text = rows[place]
            ranks = {"rarest": size[source], "longest": -len(text)}
            return (*(ranks[name] for name in prefer), row_id(text), text, source)

        found = places(alike.one_per_group(prefer))
        assert sorted(map(key, found)) == sorted(min(map(key, group)) for group in groups)
        assert len(found) == len(groups)


@given(ROWS, ITEMS, st.sampled_from([(0.6, 0.97), (0.8, 0.9), (0.95, None)]))
def test_another_threshold_gives_what_a_new_search_gives(rows, items, thresholds):
    alike, (tfidf, embedding) = find(rows, items), thresholds
    fresh = find(rows, items, tfidf, embedding or 0.9)
    for rule in ("first_wins", "one_per_group"):
        again = getattr(alike, rule)().rethreshold(tfidf, embedding)
        expected = getattr(fresh, rule)()
        assert again.removed.to_list() == expected.removed.to_list()
        assert again.rethreshold().removed.to_list() == getattr(alike, rule)().removed.to_list()


@given(ROWS, ITEMS, st.randoms(use_true_random=False))
def test_groups_do_not_depend_on_the_order_of_the_rows(rows, items, random):
    shuffled = random.sample(rows, len(rows))
    one, other = find(rows, items).one_per_group(), find(shuffled, items).one_per_group()
    columns = ("id", "source", "reason", "matched_id")
    assert Counter(zip(*(one.kept[name][:] for name in COLLECTED), strict=True)) == Counter(
        zip(*(other.kept[name][:] for name in COLLECTED), strict=True)
    )
    assert Counter(zip(*(one.removed[name][:] for name in columns), strict=True)) == Counter(
        zip(*(other.removed[name][:] for name in columns), strict=True)
    )


@given(ROWS, ITEMS, st.randoms(use_true_random=False))
def test_distinct_texts_are_enough_for_groups(rows, items, random):
    rows = random.sample([*rows, *rows[::2]], len(rows) + len(rows[::2]))
    whole, distinct = find(rows, items), find(rows, items, distinct=True)
    assert places(distinct.one_per_group()) == places(whole.one_per_group())
    assert all(len(distinct.among[name]) <= len(whole.among[name]) for name in whole.among)
    for name, pairs in whole.against.items():
        assert [column.tolist() for column in distinct.against[name].columns()] == [
            column.tolist() for column in pairs.columns()
        ]


def test_texts_that_repeat_make_no_pairs():
    alike = find([("A", "how a lock")] * 500 + [("B", "how a door")], [], distinct=True)
    assert len(alike.among["tfidf"]) <= 1 and len(alike.one_per_group().kept) <= 2
    with pytest.raises(ConfigError, match="distinct=True"):
        alike.first_wins()


@given(ROWS, ITEMS, st.sampled_from(["paper", "recommended", "first_wins", "one_per_group"]))
def test_a_result_accounts_for_every_row(rows, items, how):
    if how in ("paper", "recommended"):
        options = {"embedding_threshold": 0.95, "encoder": Letters(), "progress": False}
        result = deduplicate(collected(rows), collected(items), profile=how, **options)
    else:
        result = getattr(find(rows, items), how)()
    frame = result.to_pandas()
    assert list(zip(frame["source"], frame["question"], strict=True)) == rows
    assert frame["kept"].sum() == len(result.kept) and frame["reason"].notna().sum() == len(result.removed)
    assert (frame["kept"] == frame["reason"].isna()).all()
    kept, benchmark = set(result.kept["id"]), {row_id(text) for _, text in items}
    for row in frame.itertuples():
        assert row.kept_for in (kept if row.kept else kept | benchmark)
        stands = result.kept_for(row.id)
        assert stands["id"] in kept | benchmark
    members = [member for group in result.groups.values() for member in group]
    contaminated = (~frame["kept"]).sum() - len(members)
    assert set(result.groups) <= kept and (benchmark or not contaminated)


def chain():
    """Each row shares four words with the next one, and the first none with the last."""
    words = [f"word{number}" for number in range(16)]
    return [("A", " ".join(words[start : start + 8])) for start in (0, 4, 8)]


def test_a_chain_is_one_group_whose_links_are_named():
    result = find(chain(), [], tfidf=1.0, embedding=None).one_per_group(())
    (kept,) = result.kept["id"]
    assert sorted([kept, *result.groups[kept]]) == sorted(row_id(text) for _, text in chain())
    assert all(result.kept_for(row_id(text))["id"] == kept for _, text in chain())
    assert set(result.removed["reason"]) == {"ngram_duplicate"} and set(result.removed["detail"]) == {"n = 4"}
    assert len(find(chain(), [], tfidf=1.0, embedding=None).first_wins().kept) == 2, "the last is not like the first"


def test_of_rows_with_one_id_the_one_that_stayed_stands_for_it():
    texts = [("3", "How do locks work?"), ("1", "What is rain?"), ("3", "what is  RAIN?")]
    rows = as_dataset([{"id": name, "question": text, "source": "A"} for name, text in texts], COLLECTED)
    result = deduplicate(rows, collected([]), embedding_threshold=None, progress=False)
    assert len(result.kept) == 2 and result.kept_for("3")["question"] == "How do locks work?"


def test_a_row_does_not_leave_for_a_contaminated_one():
    rows = chain()[:2]
    result = find(rows, [("bench", "word0 word1 word2 word3")], tfidf=1.0, embedding=None).one_per_group()
    assert result.kept["question"][:] == [rows[1][1]] and result.groups == {}
    assert result.kept_for(row_id(rows[0][1]))["source"] == "bench"


def test_what_is_not_known_is_refused():
    rows = collected(chain())
    alike = find(chain(), [], embedding=None)
    with pytest.raises(ConfigError, match="the search used 0.6"):
        alike.first_wins().rethreshold(0.5)
    with pytest.raises(ConfigError, match="Invalid cosine threshold 1.5"):
        alike.first_wins().rethreshold(1.5)
    with pytest.raises(ConfigError, match="did not use this measure"):
        alike.one_per_group().rethreshold(embedding=0.9)
    with pytest.raises(ConfigError, match="'rares'"):
        alike.one_per_group(("rares",))
    result = deduplicate(rows, collected([]), embedding_threshold=None, progress=False)
    with pytest.raises(StarError, match="not all pairs are known"):
        result.rethreshold(0.8)
    with pytest.raises(StarError, match="'nobody'"):
        result.kept_for("nobody")
