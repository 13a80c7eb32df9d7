"""Pairs of similar rows: each task compares one shard with about half of the others.

Together the tasks compare any two shards once, and each shard with itself and the held-out items.
"""

import json
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow.parquet as pq
import scipy.sparse as sp

from ...similarity.embeddings import embedding_join
from ...similarity.pairs import Matches
from ...similarity.readable import counts_as, sample_of, tells_apart
from ...similarity.tfidf import tfidf_join
from ...similarity.vectors import embed
from ...utils.files import read_json, write_json, write_text
from ...utils.folding import fold
from ...utils.language import UNCLEAR, language_or_script
from .index import load_weights, present
from .work import Work, at, load, place_of, save_array, save_pairs, shard_of, slice_of


__all__ = ["compare_vectors", "compare_words", "encode", "measure", "partners", "sample", "verify"]


def partners(shard: int, shards: int) -> Iterator[int]:
    """The shards that a shard's task compares it with, including itself and the held-out items (0)."""
    yield from (0, shard)
    for step in range(1, shards // 2 + 1):
        other = (shard - 1 - step) % shards + 1
        if 2 * step < shards or other < shard:
            yield other


def compare_words(work: Work, shard: int) -> None:
    """Pairs of a shard and its partners by TF-IDF cosine."""
    own, options = _Weights(work, shard), {"num_threads": work.threads}
    parts = []
    for other in partners(shard, work.shards):
        if other == shard:
            matches = tfidf_join(own.rows, None, work.tfidf_threshold, **options)
            parts.append(matches.renumbered(own.names, own.names))
        else:
            later, earlier = sorted((own, _Weights(work, other)), key=lambda weights: -weights.shard)
            queries, references = _aligned(later, earlier)
            matches = tfidf_join(queries, references, work.tfidf_threshold, **options)
            parts.append(matches.renumbered(later.names, earlier.names))
    save_pairs(work.part("tfidf", shard - 1), parts)


def verify(work: Work, shard: int) -> None:
    """The MinHash candidates of a shard's rows that reach the TF-IDF threshold."""
    own = _Weights(work, shard)
    candidates = [work.part("candidates", bucket) for bucket in range(work.banding.buckets)]
    left, right = np.unique(slice_of(candidates, shard), axis=1)
    parts = []
    for other in np.unique(shard_of(right)).tolist():
        chosen = shard_of(right) == other
        earlier = own if other == shard else _Weights(work, other)
        queries, references = _aligned(own, earlier)
        lefts, rights = (
            np.searchsorted(weights.names, names[chosen]) for weights, names in ((own, left), (earlier, right))
        )
        products = queries[lefts].multiply(references[rights])
        similarity = np.asarray(products.sum(axis=1), np.float64).ravel()
        parts.append(Matches(left[chosen], right[chosen], similarity).reaching(work.tfidf_threshold))
    save_pairs(work.part("tfidf", shard - 1), parts)


def sample(work: Work, shard: int) -> None:
    """The languages and scripts of a shard's remaining rows, with texts to measure of each."""
    members: dict[str, list[str]] = {}
    for text in _remaining(work, shard)[1]:
        members.setdefault(language_or_script(text), []).append(text)
    found = {group: {"texts": len(texts), "sample": sample_of(texts)} for group, texts in members.items()}
    write_text(work.shard(shard, "languages.json"), json.dumps(found))


def measure(work: Work, part: int = 0) -> None:
    """In which languages and scripts the encoder cannot tell texts apart, for all rows, in one task."""
    sizes: Counter[str] = Counter()
    samples: dict[str, list[str]] = {}
    for shard in range(work.shards + 1):
        for group, found in read_json(work.shard(shard, "languages.json")).items():
            sizes[group] += found["texts"]
            samples.setdefault(group, []).extend(found["sample"])
    usual = counts_as(sizes)
    if usual != UNCLEAR and UNCLEAR in sizes:
        sizes[usual] += sizes.pop(UNCLEAR)
        samples[usual] += samples.pop(UNCLEAR)
    threshold = work.embedding_threshold
    unread = {group for group, texts in samples.items() if not tells_apart(group, texts, work.encoder, threshold)}
    texts = {group: count for group, count in sizes.most_common() if group in unread}
    write_json(work.unread, {"texts": texts, "unclear": usual})


def encode(work: Work, shard: int) -> None:
    """Encode a shard's remaining rows, or the held-out items, in languages that the encoder can tell apart."""
    places, texts = _remaining(work, shard)
    found = read_json(work.unread)
    unread = {*found["texts"], *([UNCLEAR] if found["unclear"] in found["texts"] else [])}
    stays = np.array([not unread or language_or_script(text) not in unread for text in texts], bool)
    places, texts = places[stays], [text for text, stay in zip(texts, stays, strict=True) if stay]
    vectors = embed(texts, work.encoder)
    for name, values in (("places", places), ("vectors", vectors)):
        save_array(work.shard(shard, f"{name}.npy"), values)


def compare_vectors(work: Work, shard: int) -> None:
    """Pairs of a shard and its partners by the cosine of embeddings."""
    vectors, names = _vectors(work, shard)
    parts = []
    for other in partners(shard, work.shards):
        if other == shard:
            matches = embedding_join(vectors, None, work.embedding_threshold)
            parts.append(matches.renumbered(names, names))
            continue
        others, their_names = _vectors(work, other)
        if len(names) and len(their_names):  # without texts the vectors have no dimensions
            later, earlier = (vectors, others) if other < shard else (others, vectors)
            matches = embedding_join(later, earlier, work.embedding_threshold)
            parts.append(matches.renumbered(*((names, their_names) if other < shard else (their_names, names))))
    save_pairs(work.part("embedding", shard - 1), parts)


def _remaining(work: Work, shard: int) -> tuple[np.ndarray, list[str]]:
    """Places and folded texts of a shard's rows that the word measures left."""
    questions = pq.read_table(work.shard(shard, "rows.parquet"), columns=["question"])["question"].to_pylist()
    gone = place_of(slice_of([work.part("words", 0)], shard)[0])
    places = np.setdiff1d(np.arange(len(questions)), gone)
    return places, [fold(questions[place]) for place in places.tolist()]


class _Weights:
    """A shard's TF-IDF rows that do not repeat an earlier text, with their names."""

    def __init__(self, work: Work, shard: int):
        rows, self.terms = load_weights(work, shard)
        places = present(work, shard)
        self.shard, self.rows, self.names = shard, rows[places], at(shard, places)


def _aligned(one: _Weights, other: _Weights) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """The rows of two shards, with the same columns."""
    terms = np.union1d(one.terms, other.terms)
    return tuple(
        sp.csr_matrix(
            (weights.rows.data, np.searchsorted(terms, weights.terms)[weights.rows.indices], weights.rows.indptr),
            shape=(weights.rows.shape[0], len(terms)),
        )
        for weights in (one, other)
    )


def _vectors(work: Work, shard: int) -> tuple[np.ndarray, np.ndarray]:
    """The vectors of a shard, memory-mapped, and the names of their rows."""
    places = load(work.shard(shard, "places.npy"))
    return load(work.shard(shard, "vectors.npy")), at(shard, np.asarray(places))
