"""Word n-grams as exact integer identities: no hash collisions, no n-gram strings in memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from .pairs import Matches


__all__ = ["Ragged", "first_sharers", "first_sharers_among", "greedy_sharers", "ngram_ids", "split_words"]

_PAIRS_FIT = math.isqrt(2**63)
"""Pairs of this many distinct numbers fit 64 bits."""


@dataclass(frozen=True)
class Ragged:
    """One list of integers per row.

    Attributes:
        indptr (`np.ndarray` of int64, shape `(rows + 1,)`): Row `i` owns `ids[indptr[i] : indptr[i + 1]]`.
        ids (`np.ndarray` of int64): All lists, end to end.
    """

    indptr: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def owners(self) -> np.ndarray:
        """The row of each entry of `ids`."""
        return np.repeat(np.arange(len(self)), np.diff(self.indptr))

    def take(self, rows: np.ndarray) -> "Ragged":
        """The lists of some rows, in the given order."""
        lengths = np.diff(self.indptr)[rows]
        indptr = np.r_[0, np.cumsum(lengths)]
        return Ragged(indptr, self.ids[np.arange(indptr[-1]) + np.repeat(self.indptr[rows] - indptr[:-1], lengths)])

    def where(self, chosen: np.ndarray) -> "Ragged":
        """The same lists with only the entries that a boolean mask selects."""
        return Ragged(np.r_[0, np.cumsum(chosen)][self.indptr], self.ids[chosen])


def split_words(texts: Sequence[str]) -> tuple[Ragged, list[str]]:
    """Number the lower-cased words of each text, split at whitespace.

    Arrow splits at the same characters as `str.split`, but also yields an empty word where a text begins or ends with
    whitespace. The empty word is dropped from the texts, but may have a number.

    Returns:
        `tuple[Ragged, list[str]]`: The word numbers of each text, and the distinct words by number.
    """
    lists = pc.utf8_split_whitespace(pa.array([text.lower() for text in texts], pa.large_string()))
    words = lists.flatten().dictionary_encode()
    ids = words.indices.to_numpy().astype(np.int64)
    real = ids != words.dictionary.index("").as_py()
    return Ragged(lists.offsets.to_numpy(), ids).where(real), words.dictionary.to_pylist()


def ngram_ids(words: Ragged, n: int) -> Ragged:
    """Number all windows of `n` words: two windows have the same number exactly if they have the same words.

    Windows double in width. Each is a pair of halves (which overlap in the last step unless `n` is a power of two),
    written as one integer. This takes about log2(n) passes over the words, and no two windows can collide. Pairs are
    renumbered where the next ones would not fit 64 bits, and at the end.

    Args:
        words ([`Ragged`]): Word numbers per text.
        n (`int`): Words per window. Texts with fewer words have none.
    """
    indptr, ids, width = words.indptr, words.ids, 1
    below = int(ids.max(initial=-1)) + 1
    while width < n:
        if below > _PAIRS_FIT:
            ids, distinct = pd.factorize(ids)
            below = len(distinct)
        step = min(width, n - width)
        lengths = np.diff(indptr)
        starts = np.flatnonzero(np.repeat(indptr[1:], lengths) - np.arange(len(ids)) > step)
        ids = ids[starts] * below + ids[starts + step]
        below *= below
        indptr = np.r_[0, np.cumsum(np.maximum(lengths - step, 0))]
        width += step
    return Ragged(indptr, pd.factorize(ids)[0])


def first_sharers(grams: Ragged) -> Matches:
    """For each row that shares an n-gram with any earlier row: the first such row."""
    return _before(grams, _first_owner(grams, np.ones(len(grams), bool)))


def first_sharers_among(grams: Ragged, references: np.ndarray, rows: np.ndarray) -> Matches:
    """For each of `rows` that shares an n-gram with an earlier row of `references`: the first such row.

    Args:
        grams ([`Ragged`]): N-grams of all texts.
        references (`np.ndarray` of bool, shape `(texts,)`): Which texts are references.
        rows (`np.ndarray` of int64): The texts in question, in ascending order.
    """
    return _before(grams.take(rows), _first_owner(grams, references), rows)


def greedy_sharers(grams: Ragged) -> Matches:
    """For each row that shares an n-gram with an earlier *kept* row: the first such row. All others are kept."""
    repeated = np.bincount(grams.ids)[grams.ids] > 1 if len(grams.ids) else np.empty(0, bool)
    lengths = np.bincount(grams.owners()[repeated], minlength=len(grams))
    stops = np.cumsum(lengths)
    ids = grams.ids[repeated].tolist()
    owner: dict[int, int] = {}
    left, right = [], []
    for row in np.flatnonzero(lengths).tolist():
        own = ids[stops[row] - lengths[row] : stops[row]]
        match = min((owner[gram] for gram in own if gram in owner), default=None)
        if match is None:
            owner.update((gram, row) for gram in own)
        else:
            left.append(row)
            right.append(match)
    return Matches(np.asarray(left, np.int64), np.asarray(right, np.int64), np.ones(len(left)))


def _first_owner(grams: Ragged, eligible: np.ndarray) -> np.ndarray:
    """For each n-gram the first eligible row that has it, or the number of rows if none does."""
    first = np.full(grams.ids.max(initial=-1) + 1, len(grams))
    rows = grams.owners()
    chosen = eligible[rows]
    first[grams.ids[chosen][::-1]] = rows[chosen][::-1]
    return first


def _before(grams: Ragged, first: np.ndarray, rows: np.ndarray | None = None) -> Matches:
    """Match each row with the smallest first owner of its n-grams, if that comes before the row itself."""
    rows = np.arange(len(grams)) if rows is None else rows
    filled = np.flatnonzero(np.diff(grams.indptr))
    if not len(filled):
        return Matches(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    owner = np.minimum.reduceat(first[grams.ids], grams.indptr[:-1][filled])
    left = rows[filled]
    shared = owner < left
    return Matches(left[shared], owner[shared], np.ones(int(shared.sum())))
