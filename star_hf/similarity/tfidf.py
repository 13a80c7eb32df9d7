"""TF-IDF cosine: terms are counted once, weights refitted at will, and the join never visits most pairs."""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, count
from typing import Any

import numpy as np
import scipy.sparse as sp

from .ngrams import Ragged, split_words
from .pairs import TOLERANCE, Matches, concatenate


__all__ = ["count_terms", "term_counts", "threshold_join", "threshold_self_join", "tfidf_weights"]

_TERM = re.compile(r"(?u)\b\w\w+\b")
_SLACK = 1e-4
"""Room for float32 rounding in the bounds that skip pairs; what they let through is summed again in float64."""


def term_counts(texts: Sequence[str]) -> sp.csr_matrix:
    """Count terms as scikit-learn's `CountVectorizer` does by default: lower-cased runs of 2 or more word characters.

    Returns:
        `scipy.sparse.csr_matrix` of float64, shape `(texts, terms)`, sorted, without duplicates.
    """
    return count_terms(*split_words(texts))


def count_terms(words: Ragged, vocabulary: Sequence[str]) -> sp.csr_matrix:
    """[`term_counts`] of texts whose words are numbered already.

    No term spans whitespace, so each distinct word is taken apart once, however often it stands.

    Args:
        words (`Ragged`): Word numbers per text, of [`split_words`].
        vocabulary (`Sequence[str]`): The words by number.
    """
    known: defaultdict[str, int] = defaultdict(count().__next__)
    lists = [[known[term] for term in _TERM.findall(word)] for word in vocabulary]
    terms = Ragged(np.cumsum([0, *map(len, lists)], dtype=np.int64), np.asarray(list(chain.from_iterable(lists)), int))
    lengths = np.diff(terms.indptr)[words.ids]
    indptr = np.r_[0, np.cumsum(lengths)][words.indptr]
    ids = terms.take(words.ids).ids
    counts = sp.csr_matrix((np.ones(len(ids)), ids, indptr), shape=(len(words), len(known)), dtype=np.float64)
    counts.sum_duplicates()
    return counts


def tfidf_weights(counts: sp.csr_matrix) -> sp.csr_matrix:
    """Weigh and normalise counts as scikit-learn's `TfidfVectorizer` does by default, fitted on these very rows.

    The weight of a term is `tf * (ln((1 + rows) / (1 + df)) + 1)`; each row is then scaled to length one.

    Args:
        counts (`scipy.sparse.csr_matrix`, shape `(rows, terms)`): Term counts; a subset of rows is a refit.
    """
    frequency = np.bincount(counts.indices, minlength=counts.shape[1])
    weights = counts.copy()
    weights.data *= np.log((1 + counts.shape[0]) / (1 + frequency))[counts.indices] + 1
    norms = np.sqrt(_row_sums(weights, weights.data**2))
    weights.data /= np.repeat(norms, np.diff(weights.indptr))
    return weights


def threshold_join(
    queries: sp.csr_matrix,
    references: sp.csr_matrix,
    threshold: float,
    *,
    num_threads: int | None = None,
    budget: int = 4_000_000,
    skip: float = 0.8,
) -> Matches:
    """All pairs of a query and a reference whose cosine is at least `threshold`.

    Equals `np.argwhere((queries @ references.T).toarray() >= threshold - TOLERANCE)`. Of each query the most common
    terms are left out of the product, as many as weigh less than `skip * threshold` together. By Cauchy-Schwarz they
    add at most the product of both rows' norms over those terms, so few pairs are left to be summed in full.

    Args:
        queries, references (`scipy.sparse.csr_matrix`): Rows of length one (or zero), non-negative, same columns.
        threshold (`float`): Lowest cosine, above 0.
        num_threads (`int`, *optional*): Threads; the number of processors by default.
        budget (`int`, defaults to 4,000,000): Most multiply-adds per block, which bounds memory (some 20 bytes each).
        skip (`float`, defaults to 0.8): Share of the threshold that the left-out terms may carry, between 0 and 1.
            Changes the time, not the result.

    Returns:
        `Matches`: `left` numbers queries, `right` references.
    """
    frequency = np.bincount(references.indices, minlength=references.shape[1])
    level = _levels(frequency)
    common, rest = _common_norms(queries, level), _common_norms(references, level)
    cut = (common <= skip * threshold).sum(axis=1) - 1
    trimmed = _without_common(queries, level, cut)
    weight = common[np.arange(len(cut)), cut]
    transposed = references.T.tocsr().astype(np.float32)

    def block(bounds: tuple[int, int]) -> Matches:
        start, stop = bounds
        product = trimmed[start:stop] @ transposed
        lengths = np.diff(product.indptr)
        near = np.flatnonzero(product.data >= np.repeat(threshold - _SLACK - weight[start:stop], lengths))
        left = start + np.searchsorted(product.indptr, near, side="right") - 1
        right = product.indices[near]
        near = product.data[near] + weight[left] * rest[right, cut[left]] >= threshold - _SLACK
        return _exact(queries, references, left[near], right[near], threshold)

    cost = np.cumsum(_row_sums(trimmed, frequency[trimmed.indices]))
    with ThreadPoolExecutor(num_threads or os.cpu_count()) as pool:
        return concatenate(pool.map(block, _blocks(cost, budget)))


def threshold_self_join(weights: sp.csr_matrix, threshold: float, **options: Any) -> Matches:
    """All pairs of a row (`left`) and an earlier row (`right`) whose cosine is at least `threshold`.

    Args:
        weights (`scipy.sparse.csr_matrix`): Rows of length one (or zero).
        threshold (`float`): Lowest cosine, above 0.
        **options: As for [`threshold_join`].
    """
    matches = threshold_join(weights, weights, threshold, **options)
    return matches.where(matches.right < matches.left)


def _row_sums(matrix: sp.csr_matrix, values: np.ndarray) -> np.ndarray:
    """Sum, per row, one value for each stored entry."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return np.bincount(rows, values, matrix.shape[0])


def _levels(frequency: np.ndarray) -> np.ndarray:
    """Level of each term by its rank in frequency, 1 for the most common, growing with the logarithm of the rank."""
    rank = np.empty(len(frequency))
    rank[np.argsort(-frequency, kind="stable")] = np.arange(len(frequency))
    return 1 + (3 * np.log2(rank + 1)).astype(np.int64)


def _common_norms(matrix: sp.csr_matrix, level: np.ndarray) -> np.ndarray:
    """Norm of each row over its terms up to each level, shape `(rows, levels + 1)`; zero at level 0."""
    width = level.max(initial=0) + 1
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    squares = np.zeros((matrix.shape[0], width), np.float32)
    np.add.at(squares, (rows, level[matrix.indices]), (matrix.data**2).astype(np.float32))
    return np.sqrt(np.cumsum(squares, axis=1))


def _without_common(matrix: sp.csr_matrix, level: np.ndarray, cut: np.ndarray) -> sp.csr_matrix:
    """The rows without their terms up to level `cut`, in float32."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    stays = level[matrix.indices] > cut[rows]
    indptr = np.r_[0, np.cumsum(np.bincount(rows[stays], minlength=matrix.shape[0]))]
    return sp.csr_matrix((matrix.data[stays].astype(np.float32), matrix.indices[stays], indptr), shape=matrix.shape)


def _blocks(cost: np.ndarray, budget: int) -> list[tuple[int, int]]:
    """Cut rows, given their cumulated cost, into runs that each cost at most `budget` (or are one row)."""
    bounds = [0]
    while bounds[-1] < len(cost):
        spent = cost[bounds[-1] - 1] if bounds[-1] else 0
        bounds.append(max(int(np.searchsorted(cost, spent + budget, side="right")), bounds[-1] + 1))
    return list(zip(bounds[:-1], bounds[1:], strict=True))


def _exact(
    queries: sp.csr_matrix, references: sp.csr_matrix, left: np.ndarray, right: np.ndarray, threshold: float
) -> Matches:
    """Keep the candidate pairs whose cosine, summed in float64 term by term, reaches the threshold."""
    similarity = np.asarray(queries[left].multiply(references[right]).sum(axis=1)).ravel()
    reached = similarity >= threshold - TOLERANCE
    return Matches(left[reached].astype(np.int64), right[reached].astype(np.int64), similarity[reached])
