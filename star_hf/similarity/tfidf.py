"""TF-IDF cosine: terms are counted once, weights can be refitted, and the join never visits most pairs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.sparse as sp

from .ngrams import Ragged, split_words
from .pairs import Matches, OnProgress, join_blocks
from .scripts import SINGLE, split_by_script


__all__ = ["count_terms", "list_terms", "tfidf_join", "tfidf_weights"]

_BETWEEN_TERMS = re.compile(r"[^\w\n]+")
_SPANS = 8
"""Spans of rows in a self-join. Each is compared with itself and later rows only: 9/16 of the whole product."""

_SLACK = 1e-4
"""Room for float32 rounding in the bounds that skip pairs; the other pairs are summed again in float64."""


def count_terms(words: Ragged, vocabulary: Sequence[str], *, by_script: bool = False) -> sp.csr_matrix:
    """Count terms as scikit-learn's `CountVectorizer` does by default: lower-cased runs of 2 or more word characters.

    No term contains whitespace, so each distinct word of [`split_words`] is split into terms only once.

    Args:
        words ([`Ragged`]), vocabulary (`Sequence[str]`): As [`split_words`] returns them.
        by_script (`bool`, defaults to `False`): Whether words that are not ASCII are split as
            [`~star_hf.similarity.scripts.split_by_script`] does.

    Returns:
        `scipy.sparse.csr_matrix` of float64, shape `(texts, terms)`, sorted, without duplicates.
    """
    terms, names = _number_terms(vocabulary, by_script)
    lengths = np.diff(terms.indptr)[words.ids]
    indptr = np.r_[0, np.cumsum(lengths)][words.indptr]
    ids = terms.take(words.ids).ids
    counts = sp.csr_matrix((np.ones(len(ids)), ids, indptr), shape=(len(words), len(names)), dtype=np.float64)
    counts.sum_duplicates()
    return counts


def list_terms(vocabulary: Sequence[str], *, by_script: bool = False) -> list[str]:
    """The terms that [`count_terms`] counts, in the order of its columns."""
    return _number_terms(vocabulary, by_script)[1]


def tfidf_weights(
    counts: sp.csr_matrix, frequency: np.ndarray | None = None, total: int | None = None
) -> sp.csr_matrix:
    """Weigh and normalise counts as scikit-learn's `TfidfVectorizer` does by default, fitted on these rows.

    The weight of a term is `tf * (ln((1 + rows) / (1 + df)) + 1)`; then each row is scaled to length one.

    Args:
        counts (`scipy.sparse.csr_matrix`, shape `(rows, terms)`): Term counts. Passing a subset of rows refits.
        frequency (`np.ndarray` of int64, shape `(terms,)`, *optional*): Number of rows with each term, where weights
            are fitted on more rows than these.
        total (`int`, *optional*): Number of those rows.

    Returns:
        `scipy.sparse.csr_matrix` of float64, shape `(rows, terms)`.
    """
    frequency = np.bincount(counts.indices, minlength=counts.shape[1]) if frequency is None else frequency
    total = counts.shape[0] if total is None else total
    weights = counts.copy()
    weights.data *= np.log((1 + total) / (1 + frequency))[counts.indices] + 1
    norms = np.sqrt(_row_sums(weights, weights.data**2))
    weights.data /= np.repeat(norms, np.diff(weights.indptr))
    return weights


def tfidf_join(
    queries: sp.csr_matrix,
    references: sp.csr_matrix | None,
    threshold: float,
    *,
    num_threads: int | None = None,
    budget: int = 1_000_000,
    skip: float = 0.8,
    on_progress: OnProgress | None = None,
) -> Matches:
    """All pairs of a query and a reference with a cosine of at least `threshold`.

    Equals `np.argwhere((queries @ references.T).toarray() >= threshold - TOLERANCE)`. The product leaves out the most
    common terms of each row, up to a norm of `skip * threshold`. Those left out of a pair lie below the higher of both
    rows' cuts, so by Cauchy-Schwarz they add at most the product of both rows' norms over the terms below it. Pairs
    without another common term are therefore never visited, and few of the others are summed in full.

    Args:
        queries, references (`scipy.sparse.csr_matrix`): Rows of length one (or zero), non-negative, same columns.
            Without references, the pairs of a query (`left`) and an earlier query (`right`) are returned.
        threshold (`float`): Lowest cosine, above 0.
        num_threads (`int`, *optional*): Threads; all processors by default.
        budget (`int`, defaults to 1,000,000): Most multiply-adds per block. Bounds memory (about 20 bytes each).
        skip (`float`, defaults to 0.8): Norm of the terms left out as a share of the threshold, between 0 and 1.
            Changes the time, not the result.
        on_progress (`Callable`, *optional*): Called with the number of finished blocks and of all blocks.

    Returns:
        [`Matches`]: `left` numbers queries, `right` references.
    """
    own, rows = references is None, queries if references is None else references
    level = _levels(rows)
    left = _Trimmed.of(queries, level, skip * threshold)
    right = left if own else _Trimmed.of(references, level, skip * threshold)
    lowest = np.float32((1 - skip) * threshold - _SLACK)

    def block(start: int, stop: int, other: int, transposed: sp.csr_matrix) -> Matches:
        product = left.rare[start:stop] @ transposed
        near = np.flatnonzero(product.data >= lowest)
        query = np.repeat(np.arange(start, stop), np.diff(product.indptr))[near]
        reference = product.indices[near] + other
        cut = np.maximum(left.cut[query], right.cut[reference])
        most = product.data[near] + left.common[query, cut] * right.common[reference, cut]
        near = most >= threshold - _SLACK
        return _exact(left.rows, right.rows, query[near], reference[near], threshold)

    blocks = []
    bounds = np.linspace(0, rows.shape[0], _SPANS + 1 if own else 2).astype(int).tolist()
    for start, stop in pairwise(bounds):
        first = start if own else 0
        transposed = right.rare[start:stop].T.tocsr()
        rare = left.rare[first:]
        cost = np.cumsum(_row_sums(rare, np.diff(transposed.indptr)[rare.indices]))
        blocks += [(first + low, first + high, start, transposed) for low, high in _blocks(cost, budget)]
    matches = join_blocks(block, blocks, num_threads, on_progress)
    return matches.where(matches.right < matches.left) if own else matches


def _number_terms(vocabulary: Sequence[str], by_script: bool) -> tuple[Ragged, list[str]]:
    """The term numbers of each word, and the terms by number, in order of first occurrence.

    Strings of one character are not terms, except for `SINGLE` ones by script, but may have a number.
    """
    split = _BETWEEN_TERMS.sub(" ", "\n".join(vocabulary)).split("\n")
    if by_script:
        for number, word in enumerate(vocabulary):
            if not word.isascii():
                split[number] = " ".join(split_by_script(word))
    terms, names = split_words(split)
    counted = (len(name) > 1 or (by_script and SINGLE.match(name) is not None) for name in names)
    return terms.where(np.fromiter(counted, bool, len(names))[terms.ids]), names


@dataclass(frozen=True)
class _Trimmed:
    """Rows, and the same rows without their most common terms.

    Attributes:
        rows (`scipy.sparse.csr_matrix`): The rows in full.
        rare (`scipy.sparse.csr_matrix` of float32): Their terms above the cut.
        cut (`np.ndarray` of int64, shape `(rows,)`): The highest level that is left out.
        common (`np.ndarray` of float32, shape `(rows, levels + 1)`): Norm of each row's terms up to each level.
    """

    rows: sp.csr_matrix
    rare: sp.csr_matrix
    cut: np.ndarray
    common: np.ndarray

    @classmethod
    def of(cls, rows: sp.csr_matrix, level: np.ndarray, most: float) -> "_Trimmed":
        levels = level[rows.indices]
        shape = (rows.shape[0], level.max(initial=0) + 1)
        squares = sp.csr_matrix((rows.data.astype(np.float32) ** 2, levels, rows.indptr), shape)
        common = squares.toarray()
        np.sqrt(np.cumsum(common, axis=1, out=common), out=common)
        cut = np.count_nonzero(common <= most, axis=1) - 1
        stays = levels > np.repeat(cut, np.diff(rows.indptr))
        indptr = np.r_[0, np.cumsum(stays)][rows.indptr]
        rare = sp.csr_matrix((rows.data[stays].astype(np.float32), rows.indices[stays], indptr), shape=rows.shape)
        return cls(rows, rare, cut, common)


def _row_sums(matrix: sp.csr_matrix, values: np.ndarray) -> np.ndarray:
    """Sum, per row, one value for each stored entry."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return np.bincount(rows, values, matrix.shape[0])


def _levels(matrix: sp.csr_matrix) -> np.ndarray:
    """Level of each term: 1 for the most common, growing with the logarithm of the rank by frequency."""
    frequency = np.bincount(matrix.indices, minlength=matrix.shape[1])
    rank = np.empty(len(frequency))
    rank[np.argsort(-frequency, kind="stable")] = np.arange(len(frequency))
    return 1 + (3 * np.log2(rank + 1)).astype(np.int64)


def _blocks(cost: np.ndarray, budget: int) -> list[tuple[int, int]]:
    """Cut rows, given their cumulative cost, into runs of at most `budget` each (or of one row)."""
    bounds = [0]
    while bounds[-1] < len(cost):
        spent = cost[bounds[-1] - 1] if bounds[-1] else 0
        bounds.append(max(int(np.searchsorted(cost, spent + budget, side="right")), bounds[-1] + 1))
    return list(pairwise(bounds))


def _exact(
    queries: sp.csr_matrix, references: sp.csr_matrix, left: np.ndarray, right: np.ndarray, threshold: float
) -> Matches:
    """The pairs that reach the threshold when each is summed in float64."""
    similarity = np.asarray(queries[left].multiply(references[right]).sum(axis=1)).ravel()
    return Matches(left.astype(np.int64), right.astype(np.int64), similarity).reaching(threshold)
