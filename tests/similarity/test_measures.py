"""Each measure against its naive quadratic definition, on corpora with ties, empty texts, repeats and Unicode."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from star_hf.similarity.embeddings import embedding_join
from star_hf.similarity.ngrams import (
    Ragged,
    first_sharers,
    greedy_sharers,
    ngram_ids,
    split_words,
)
from star_hf.similarity.pairs import TOLERANCE, Matches, best_per_left, greedy_keep
from star_hf.similarity.tfidf import count_terms, tfidf_join, tfidf_weights


WORDS = st.sampled_from(["how", "How", "lock", "a", "straße", "STRASSE", "水", "é", "e\u0301", "x-y", "the", "pick"])
TEXTS = st.one_of(
    st.lists(WORDS, max_size=9).map(" ".join),
    st.lists(WORDS, max_size=3).map("\t\n ".join),
    st.text(max_size=8),
)
CORPORA = st.lists(TEXTS, max_size=14).flatmap(lambda texts: st.permutations(texts + texts[:3]))


def windows(text, n):
    words = text.lower().split()
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def pairs(matches):
    return list(zip(matches.left.tolist(), matches.right.tolist(), strict=True))


@given(CORPORA, st.integers(1, 9))
def test_ngram_ids_are_equal_exactly_where_the_words_are(texts, n):
    grams = ngram_ids(split_words(texts)[0], n)
    split = [text.lower().split() for text in texts]
    expected = [tuple(words[i : i + n]) for words in split for i in range(len(words) - n + 1)]
    assert len(grams) == len(texts)
    assert np.diff(grams.indptr).tolist() == [max(len(words) - n + 1, 0) for words in split]
    assert (
        len(set(zip(expected, grams.ids.tolist(), strict=True))) == len(set(expected)) == len(set(grams.ids.tolist()))
    )


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("apart", [1, 1_000, 2**31, 2**58])
def test_ngrams_are_told_apart_whatever_the_numbers_of_their_words(n, apart):
    """Pairs that would not fit 64 bits are numbered anew: with words numbered far apart, and so at other widths."""
    draw = np.random.default_rng(n)
    lengths = draw.integers(0, 20, 60)
    ids = draw.integers(0, 4, lengths.sum())
    grams = ngram_ids(Ragged(np.r_[0, np.cumsum(lengths)], ids * apart), n)
    rows = np.split(ids, np.cumsum(lengths)[:-1])
    runs = [tuple(row[i : i + n]) for row in rows for i in range(len(row) - n + 1)]
    numbers = {run: number for number, run in enumerate(dict.fromkeys(runs))}
    assert grams.ids.tolist() == [numbers[run] for run in runs]
    assert np.diff(grams.indptr).tolist() == [max(len(row) - n + 1, 0) for row in rows]


@pytest.mark.slow
def test_words_are_those_of_python_at_every_character():
    texts = [f" A{chr(code)}b {chr(code)}" for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    words, vocabulary = split_words(texts)
    expected = [text.lower().split() for text in texts]
    assert np.diff(words.indptr).tolist() == list(map(len, expected))
    assert list(map(vocabulary.__getitem__, words.ids.tolist())) == [word for own in expected for word in own]


@given(CORPORA, st.integers(1, 4))
def test_first_and_greedy_sharers(texts, n):
    grams = ngram_ids(split_words(texts)[0], n)
    sets = [windows(text, n) for text in texts]
    first, greedy, kept = [], [], []
    for i, own in enumerate(sets):
        first += [(i, j) for j in range(i) if own & sets[j]][:1]
        match = [(i, j) for j in kept if own & sets[j]][:1]
        greedy += match
        kept += [] if match else [i]
    assert pairs(first_sharers(grams)) == first
    assert pairs(greedy_sharers(grams)) == greedy


@given(CORPORA, st.integers(1, 4), st.randoms(use_true_random=False))
def test_first_sharers_among_references(texts, n, random):
    references = np.array([random.random() < 0.5 for _ in texts], bool)
    rows = np.flatnonzero([random.random() < 0.7 for _ in texts])
    sets = [windows(text, n) for text in texts]
    naive = [next(((i, j) for j in range(i) if references[j] and sets[i] & sets[j]), None) for i in rows.tolist()]
    found = first_sharers(ngram_ids(split_words(texts)[0], n), references, rows)
    assert pairs(found) == [pair for pair in naive if pair]


@given(CORPORA, st.integers(0, 16))
def test_weights_are_those_of_scikit_learn_for_any_subset(texts, start):
    counts = count_terms(*split_words(texts))
    subset = texts[start:]
    try:
        expected = TfidfVectorizer().fit_transform(subset)
    except ValueError:  # an empty vocabulary
        assert counts[start:].nnz == 0
        return
    weights = tfidf_weights(counts[start:])
    np.testing.assert_allclose((weights @ weights.T).toarray(), (expected @ expected.T).toarray(), atol=1e-12)


@given(
    CORPORA,
    st.integers(0, 16),
    st.sampled_from([0.3, 0.5, 0.6, 0.9, 1.0]),
    st.sampled_from([1, 7, 4_000_000]),
    st.sampled_from([1, 2]),
    st.sampled_from([0.0, 0.5, 0.8, 0.95]),
)
def test_tfidf_joins(texts, start, threshold, budget, num_threads, skip):
    options = {"budget": budget, "num_threads": num_threads, "skip": skip}
    weights = tfidf_weights(count_terms(*split_words(texts)))
    cosine = (weights @ weights.T).toarray()
    found = tfidf_join(weights[:start], weights[start:], threshold, **options)
    naive = np.argwhere(cosine[:start, start:] >= threshold - TOLERANCE)
    assert pairs(found) == list(map(tuple, naive.tolist()))
    np.testing.assert_allclose(found.similarity, cosine[:start, start:][tuple(naive.T)], atol=1e-12)
    naive = np.argwhere(np.tril(cosine, -1) >= threshold - TOLERANCE)
    assert pairs(tfidf_join(weights, None, threshold, **options)) == list(map(tuple, naive.tolist()))


@given(st.integers(0, 2**32 - 1), st.integers(0, 20), st.integers(0, 20), st.sampled_from([0.5, 0.7, 1.0]))
def test_embedding_joins_whatever_the_block_size(seed, size, start, threshold):
    vectors = np.random.default_rng(seed).integers(-1, 2, (size, 4)).astype(np.float32)  # many ties
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1)
    cosine = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    join = np.argwhere(cosine[:start, start:] >= threshold - TOLERANCE)
    own = np.argwhere(np.tril(cosine, -1) >= threshold - TOLERANCE)
    for block_rows in (1, 3, 64):
        found = embedding_join(vectors[:start], vectors[start:], threshold, block_rows=block_rows)
        assert pairs(found) == list(map(tuple, join.tolist()))
        found = embedding_join(vectors, None, threshold, block_rows=block_rows)
        assert pairs(found) == list(map(tuple, own.tolist()))


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_embedding_joins_with_as_many_axes_as_pay(decay):
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(300, 48)) * np.arange(1, 49.0) ** -decay
    vectors = (centres[draw.integers(0, 300, 1500)] + draw.normal(size=(1500, 48)) * 0.03).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    for num_threads, block_rows in ((1, 1024), (2, 100)):
        options = {"num_threads": num_threads, "block_rows": block_rows}
        own = np.argwhere(np.tril(cosine, -1) >= 0.7 - TOLERANCE)
        assert pairs(embedding_join(vectors, None, 0.7, **options)) == list(map(tuple, own.tolist()))
        join = np.argwhere(cosine[:400, 400:] >= 0.7 - TOLERANCE)
        assert pairs(embedding_join(vectors[:400], vectors[400:], 0.7, **options)) == list(map(tuple, join.tolist()))


SYMMETRIC = st.integers(1, 12).flatmap(
    lambda n: st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=30).map(lambda p: (n, p))
)


@given(SYMMETRIC)
def test_greedy_keep(case):
    size, drawn = case
    chosen = sorted({(max(pair), min(pair)) for pair in drawn})
    left, right = (np.array([pair[side] for pair in chosen], np.int64) for side in (0, 1))
    keep = []
    for i in range(size):
        keep.append(not any(keep[j] for j in range(i) if (i, j) in chosen))
    assert greedy_keep(Matches(left, right, np.ones(len(left))), size).tolist() == keep


def test_best_per_left_takes_the_highest_then_the_smallest_among_the_eligible():
    left, right = np.array([3, 3, 3, 5, 5]), np.array([0, 1, 2, 1, 4])
    matches = Matches(left, right, np.array([0.7, 0.9, 0.9 + 1e-12, 0.8, 0.6]))
    assert pairs(best_per_left(matches)) == [(3, 1), (5, 1)]
    eligible = np.array([True, False, True, True, True])
    assert pairs(best_per_left(matches, eligible)) == [(3, 2), (5, 4)]


def test_joins_tell_how_far_they_are():
    texts = [f"a sieve for flour number {number}" for number in range(40)]
    weights = tfidf_weights(count_terms(*split_words(texts)))
    vectors = np.eye(40, dtype=np.float32)
    for join in (
        lambda told: tfidf_join(weights, None, 0.5, budget=100, on_progress=told),
        lambda told: tfidf_join(weights, weights, 0.5, budget=100, on_progress=told),
        lambda told: embedding_join(vectors, None, 0.5, block_rows=10, on_progress=told),
    ):
        seen = []
        join(lambda done, total, seen=seen: seen.append((done, total)))
        assert len(seen) > 5 and seen == [(done, len(seen)) for done in range(1, len(seen) + 1)]
