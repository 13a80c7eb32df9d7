"""Pairs that are alike, shard by shard: a task has a shard of its own and compares it with about half of the others.

All tasks together compare each two shards once, and every shard with the held-out items and with itself.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow.parquet as pq
import scipy.sparse as sp

from ...similarity.embeddings import embedding_join, embedding_self_join
from ...similarity.pairs import TOLERANCE, Matches
from ...similarity.texts import to_nfkc
from ...similarity.tfidf import threshold_join, threshold_self_join
from ...similarity.vectors import embed
from .index import load_weights, present
from .work import Work, at, fresh, load, place_of, save_pairs, shard_of, slice_of


__all__ = ["compare_vectors", "compare_words", "encode", "partners", "verify"]


def partners(shard: int, shards: int) -> Iterator[int]:
    """The shards that a shard's task compares it with, itself and the held-out items (0) among them."""
    yield from (0, shard)
    for step in range(1, shards // 2 + 1):
        other = (shard - 1 - step) % shards + 1
        if 2 * step < shards or other < shard:
            yield other


def compare_words(work: Work, shard: int) -> None:
    """Pairs by TF-IDF cosine of a shard and its partners."""
    own, options = _Weights.of(work, shard), {"num_threads": work.threads}
    parts = []
    for other in partners(shard, work.shards):
        if other == shard:
            matches = threshold_self_join(own.rows, work.tfidf_threshold, **options)
            parts.append(matches.renumbered(own.names, own.names))
        else:
            later, earlier = sorted((own, _Weights.of(work, other)), key=lambda weights: -weights.shard)
            queries, references = _aligned(later, earlier)
            matches = threshold_join(queries, references, work.tfidf_threshold, **options)
            parts.append(matches.renumbered(later.names, earlier.names))
    save_pairs(work.part("tfidf", shard - 1), parts)


def verify(work: Work, shard: int) -> None:
    """Of the candidates that MinHash names for a shard's rows, those whose TF-IDF cosine reaches the threshold."""
    own = _Weights.of(work, shard)
    candidates = [work.part("candidates", bucket) for bucket in range(work.banding.buckets)]
    left, right = np.unique(slice_of(candidates, shard), axis=1)
    parts = []
    for other in np.unique(shard_of(right)).tolist():
        chosen = shard_of(right) == other
        earlier = own if other == shard else _Weights.of(work, other)
        queries, references = _aligned(own, earlier)
        lefts, rights = (
            np.searchsorted(weights.names, names[chosen]) for weights, names in ((own, left), (earlier, right))
        )
        products = queries[lefts].multiply(references[rights])
        similarity = np.asarray(products.sum(axis=1), np.float64).ravel()
        reached = similarity >= work.tfidf_threshold - TOLERANCE
        parts.append(Matches(left[chosen][reached], right[chosen][reached], similarity[reached]))
    save_pairs(work.part("tfidf", shard - 1), parts)


def encode(work: Work, shard: int) -> None:
    """Make and store the vectors of a shard's rows that are still in, and of the held-out items."""
    questions = pq.read_table(work.shard(shard, "rows.parquet"), columns=["question"])["question"].to_pylist()
    gone = place_of(slice_of([work.part("words", 0)], shard)[0])
    places = np.setdiff1d(np.arange(len(questions)), gone)
    vectors = embed(to_nfkc(questions[place] for place in places.tolist()), work.encoder)
    for name, values in (("places", places), ("vectors", vectors)):
        with fresh(work.shard(shard, f"{name}.npy")) as new, new.open("wb") as file:
            np.save(file, values)


def compare_vectors(work: Work, shard: int) -> None:
    """Pairs by the cosine of embeddings of a shard and its partners."""
    vectors, names = _vectors(work, shard)
    parts = []
    for other in partners(shard, work.shards):
        if other == shard:
            matches = embedding_self_join(vectors, work.embedding_threshold)
            parts.append(matches.renumbered(names, names))
            continue
        others, their_names = _vectors(work, other)
        if len(names) and len(their_names):  # no text, no dimensions
            later, earlier = (vectors, others) if other < shard else (others, vectors)
            matches = embedding_join(later, earlier, work.embedding_threshold)
            parts.append(matches.renumbered(*((names, their_names) if other < shard else (their_names, names))))
    save_pairs(work.part("embedding", shard - 1), parts)


class _Weights:
    """A shard's TF-IDF rows that repeat no earlier text, with their names."""

    def __init__(self, shard: int, rows: sp.csr_matrix, terms: np.ndarray, names: np.ndarray):
        self.shard, self.rows, self.terms, self.names = shard, rows, terms, names

    @classmethod
    def of(cls, work: Work, shard: int) -> "_Weights":
        rows, terms = load_weights(work, shard)
        places = present(work, shard)
        return cls(shard, rows[places], terms, at(shard, places))


def _aligned(one: _Weights, other: _Weights) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """The rows of two shards with the same columns, in the same order."""
    terms = np.union1d(one.terms, other.terms)
    return tuple(
        sp.csr_matrix(
            (weights.rows.data, np.searchsorted(terms, weights.terms)[weights.rows.indices], weights.rows.indptr),
            shape=(weights.rows.shape[0], len(terms)),
        )
        for weights in (one, other)
    )


def _vectors(work: Work, shard: int) -> tuple[np.ndarray, np.ndarray]:
    """The stored vectors of a shard, mapped into memory, and the names of their rows."""
    places = load(work.shard(shard, "places.npy"))
    return load(work.shard(shard, "vectors.npy")), at(shard, np.asarray(places))
