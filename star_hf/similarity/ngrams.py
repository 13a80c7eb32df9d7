"""Word n-grams as exact integer identities: no hash collisions, no n-gram strings in memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from .pairs import Matches, concatenate


__all__ = ["Ragged", "first_sharers", "greedy_sharers", "ngram_ids", "split_words"]

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

    def first_owners(self, eligible: np.ndarray | None = None) -> np.ndarray:
        """The first row that has each number (among the eligible rows, a boolean mask), or else the number of rows."""
        rows = self.owners()
        chosen = slice(None) if eligible is None else eligible[rows]
        first = np.full(self.ids.max(initial=-1) + 1, len(self))
        first[self.ids[chosen][::-1]] = rows[chosen][::-1]
        return first

    def take(self, rows: np.ndarray) -> "Ragged":
        """The lists of some rows, in the given order."""
        lengths = np.diff(self.indptr)[rows]
        indptr = np.r_[0, np.cumsum(lengths)]
        return Ragged(indptr, self.ids[np.arange(indptr[-1]) + np.repeat(self.indptr[rows] - indptr[:-1], lengths)])

    def beside(self, other: "Ragged") -> "Ragged":
        """The lists of both, row by row, with different numbers."""
        ids = np.r_[self.ids, other.ids + self.ids.max(initial=-1) + 1]
        order = np.argsort(np.r_[self.owners(), other.owners()], kind="stable")
        return Ragged(self.indptr + other.indptr, ids[order])

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


def first_sharers(grams: Ragged, references: np.ndarray | None = None, rows: np.ndarray | None = None) -> Matches:
    """For each row that shares an n-gram with an earlier reference: the first such reference.

    Args:
        grams ([`Ragged`]): N-grams of all texts.
        references (`np.ndarray` of bool, shape `(texts,)`, *optional*): Which texts are references; all by default.
        rows (`np.ndarray` of int64, *optional*): The texts in question, in ascending order; all by default.
    """
    first = grams.first_owners(references)
    rows, grams = (np.arange(len(grams)), grams) if rows is None else (rows, grams.take(rows))
    filled = np.flatnonzero(np.diff(grams.indptr))
    if not len(filled):
        return concatenate([])
    owner = np.minimum.reduceat(first[grams.ids], grams.indptr[:-1][filled])
    left = rows[filled]
    shared = owner < left
    return Matches(left[shared], owner[shared], np.ones(int(shared.sum())))


def greedy_sharers(grams: Ragged) -> Matches:
    """For each row that shares an n-gram with an earlier *kept* row: the first such row. All others are kept."""
    repeated = np.bincount(grams.ids)[grams.ids] > 1 if len(grams.ids) else np.empty(0, bool)
    lengths = np.bincount(grams.owners()[repeated], minlength=len(grams))
    stops = np.cumsum(lengths)
    ids = grams.ids[repeated].tolist()
    owner: dict[int, int] = {}
    found = []
    for row in np.flatnonzero(lengths).tolist():
        own = ids[stops[row] - lengths[row] : stops[row]]
        match = min((owner[gram] for gram in own if gram in owner), default=None)
        if match is None:
            owner.update((gram, row) for gram in own)
        else:
            found.append((row, match, 1.0))
    return Matches.of(found)
