"""Keys and weights of a shard, before it is compared with others."""

import numpy as np
import scipy.sparse as sp

from ...deduplication.evidence import ACROSS_NGRAM
from ...similarity.ngrams import ngram_ids
from ...similarity.texts import PreparedTexts
from ...similarity.tfidf import tfidf_weights
from ...utils.text import normalise
from .keys import hashed, part_of, save_keys, starts
from .order import gather
from .work import Work, at, load, place_of, save, save_array, slice_of


__all__ = ["index", "load_weights", "match", "present", "weigh"]

SHARED = ("exact", "ngrams", "within")
"""Keys that rows may share: of the whole text, of 8 words, and of the source's own number of words."""


def index(work: Work, shard: int) -> None:
    """Order a shard's rows, and write the keys of its texts, n-grams and terms."""
    table = gather(work, shard)
    prepared = PreparedTexts.of(table["question"].to_pylist())
    sources = np.asarray(table["source"].to_pylist(), object)
    names = at(shard, np.arange(len(prepared.texts)))
    save_keys(work.shard(shard, "exact.npy"), hashed(map(normalise, prepared.texts)), names)
    save_keys(work.shard(shard, "ngrams.npy"), *_ngrams(prepared, np.arange(len(names)), names, ACROSS_NGRAM))
    parts = [(np.empty((2, 0), np.uint64), np.empty(0, np.int64))]
    for source, n in work.ngram if shard else ():
        rows = np.flatnonzero(sources == source)
        if len(rows) and n != ACROSS_NGRAM:
            parts.append(_ngrams(prepared, rows, names, n, f"{source}\0"))
    save_keys(
        work.shard(shard, "within.npy"), *(np.concatenate(column, axis=-1) for column in zip(*parts, strict=True))
    )
    counts = prepared.counts()
    frequency = np.bincount(counts.indices, minlength=counts.shape[1])
    terms = at(shard, np.arange(counts.shape[1]))
    names_of_terms = hashed(prepared.terms())
    save_keys(work.shard(shard, "terms.npy"), names_of_terms, terms, frequency.astype(np.int64))
    _save_rows(work, shard, "counts", counts)


def match(work: Work, part: int) -> None:
    """For one part of the key space: which rows share a key, and how many texts contain each term."""
    for kind in SHARED:
        columns = part_of([work.shard(shard, f"{kind}.npy") for shard in range(work.shards + 1)], part, work.shards)
        first = starts(columns)
        group = np.cumsum(first) - 1
        shared = np.bincount(group)[group] > 1 if len(group) else first
        save(work.part(kind, part), columns[2, shared], np.unique(group[shared], return_inverse=True)[1])
        if kind == "exact":
            save(work.part("repeats", part), np.sort(columns[2, ~first & (columns[2] >= at(1, 0))]))
    terms = [work.shard(shard, "terms.npy") for shard in range(work.shards + 1)]
    columns = part_of(terms, part, work.shards)
    first = np.flatnonzero(starts(columns))
    group = np.cumsum(starts(columns)) - 1
    frequency = np.add.reduceat(columns[3], first) if len(first) else columns[3]
    order = np.argsort(columns[2])
    save(
        work.part("terms", part),
        *(column[order] for column in (columns[2], columns[2][first][group], frequency[group])),
    )


def weigh(work: Work, shard: int) -> None:
    """Weigh a shard's terms by their frequency in all texts.

    A term is named by its first occurrence. So terms are in the order in which one process would number them, and sums
    over them are equal to the last bit.
    """
    columns = slice_of(work.parts("terms"), shard)
    _, first, frequency = columns[:, np.argsort(columns[0])]
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    counts = _load_rows(work, shard, "counts", len(order))
    counts = sp.csr_matrix((counts.data.copy(), rank[counts.indices], counts.indptr), shape=counts.shape)
    counts.sort_indices()
    weights = tfidf_weights(counts, frequency[order], int(work.sizes().sum()))
    _save_rows(work, shard, "weights", weights)
    save(work.shard(shard, "vocabulary.npy"), first[order], frequency[order])


def load_weights(work: Work, shard: int) -> tuple[sp.csr_matrix, np.ndarray]:
    """A shard's TF-IDF rows, memory-mapped, and the names of their columns in ascending order."""
    terms = load(work.shard(shard, "vocabulary.npy"))[0]
    return _load_rows(work, shard, "weights", len(terms)), terms


def present(work: Work, shard: int) -> np.ndarray:
    """Places of a shard's rows that do not repeat an earlier text."""
    size = load(work.shard(shard, "counts-indptr.npy")).shape[1] - 1
    stays = np.ones(size, bool)
    stays[place_of(slice_of(work.parts("repeats"), shard)[0])] = False
    return np.flatnonzero(stays)


def _ngrams(
    prepared: PreparedTexts, rows: np.ndarray, names: np.ndarray, n: int, salt: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """Keys of the n-grams of some texts, each n-gram of a text once, and the name of the text."""
    parts = []
    for units in prepared.all_units:
        words, size = units.numbers.take(rows), n * units.per_word
        grams = ngram_ids(words, size)
        owners = grams.owners()
        ids, first = np.unique(grams.ids, return_index=True)
        begins = words.indptr[owners[first]] + first - grams.indptr[owners[first]]
        start = f"{salt}{units.per_word}\0" if units.per_word > 1 else salt
        keys = hashed(
            start + " ".join(units.names[word] for word in words.ids[begin : begin + size])
            for begin in begins.tolist()
        )
        held = np.unique(np.stack([grams.ids, owners]), axis=1)
        parts.append((keys[:, held[0]], names[rows][held[1]]))
    return tuple(np.concatenate(column, axis=-1) for column in zip(*parts, strict=True))


def _save_rows(work: Work, shard: int, name: str, matrix: sp.csr_matrix) -> None:
    save(work.shard(shard, f"{name}-indptr.npy"), matrix.indptr.astype(np.int64))
    for column in ("indices", "data"):
        save_array(work.shard(shard, f"{name}-{column}.npy"), getattr(matrix, column))


def _load_rows(work: Work, shard: int, name: str, width: int) -> sp.csr_matrix:
    indptr = load(work.shard(shard, f"{name}-indptr.npy"))[0]
    indices, data = (load(work.shard(shard, f"{name}-{column}.npy")) for column in ("indices", "data"))
    return sp.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, width), copy=False)
