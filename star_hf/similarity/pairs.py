"""Pairs of similar rows, as every measure returns them, and the rules that choose among them."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ConfigError


__all__ = [
    "TOLERANCE",
    "Matches",
    "OnProgress",
    "best_per_left",
    "check_thresholds",
    "concatenate",
    "greedy_keep",
    "join_blocks",
]

OnProgress = Callable[[int, int], None]
"""Called with the number of finished parts and the number of all parts."""

TOLERANCE = 1e-9
"""A pair reaches a threshold if its similarity, summed in float64, is at least `threshold - TOLERANCE`, so rounding in
the last bits never decides."""


@dataclass(frozen=True)
class Matches:
    """Pairs of similar rows, ordered by `left`, then `right`. Iterating yields `(left, right, similarity)`.

    Attributes:
        left (`np.ndarray` of int64, shape `(pairs,)`): The row in question.
        right (`np.ndarray` of int64, shape `(pairs,)`): The row that it is similar to.
        similarity (`np.ndarray` of float64, shape `(pairs,)`): The cosine; 1.0 for a shared n-gram.
    """

    left: np.ndarray
    right: np.ndarray
    similarity: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[tuple[int, int, float]]) -> "Matches":
        """The matches of a sequence of `(left, right, similarity)`."""
        left, right, similarity = zip(*rows, strict=True) if rows else ((), (), ())
        return cls(np.asarray(left, np.int64), np.asarray(right, np.int64), np.asarray(similarity, np.float64))

    def __len__(self) -> int:
        return len(self.left)

    def __iter__(self) -> Iterator[tuple[int, int, float]]:
        return zip(*(column.tolist() for column in self.columns()), strict=True)

    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`left`, `right` and `similarity`."""
        return self.left, self.right, self.similarity

    def where(self, chosen: np.ndarray | slice) -> "Matches":
        """The pairs that a boolean mask, an index array or a slice selects."""
        return Matches(self.left[chosen], self.right[chosen], self.similarity[chosen])

    def reaching(self, threshold: float) -> "Matches":
        """The pairs that reach a threshold."""
        return self.where(self.similarity >= threshold - TOLERANCE)

    def renumbered(self, left: np.ndarray, right: np.ndarray) -> "Matches":
        """The same pairs with row `i` as `left[i]` or `right[i]`."""
        return Matches(left[self.left], right[self.right], self.similarity)


def check_thresholds(*thresholds: float | None) -> None:
    """Check cosine thresholds; `None` is fine.

    Raises:
        [`ConfigError`]: If a threshold is not in (0, 1].
    """
    for threshold in thresholds:
        if threshold is not None and not 0 < threshold <= 1:
            raise ConfigError(f"Invalid cosine threshold {threshold}: must be in (0, 1].", "Try 0.6, the paper's.")


def concatenate(parts: Iterable[Matches]) -> Matches:
    """Join matches end to end and order them by `left`, then `right`."""
    parts = list(parts)
    left = np.concatenate([np.empty(0, np.int64), *(part.left for part in parts)])
    right = np.concatenate([np.empty(0, np.int64), *(part.right for part in parts)])
    similarity = np.concatenate([np.empty(0), *(part.similarity for part in parts)])
    order = np.lexsort((right, left))
    return Matches(left[order], right[order], similarity[order])


def join_blocks(
    block: Callable[..., Matches],
    blocks: Sequence[tuple[Any, ...]],
    num_threads: int | None,
    on_progress: OnProgress | None,
) -> Matches:
    """Call `block(*arguments)` for each element of `blocks`, in threads, and concatenate the matches."""
    parts = []
    with ThreadPoolExecutor(num_threads or os.cpu_count()) as pool:
        for part in pool.map(lambda arguments: block(*arguments), blocks):
            parts.append(part)
            if on_progress is not None:
                on_progress(len(parts), len(blocks))
    return concatenate(parts)


def best_per_left(matches: Matches, eligible: np.ndarray | None = None) -> Matches:
    """The best match of each left row: the highest similarity, then the smallest right row among the eligible ones.

    Similarities that differ by at most `TOLERANCE` are equal.
    """
    if eligible is not None:
        matches = matches.where(eligible[matches.right])
    if not len(matches):
        return matches
    starts = np.flatnonzero(np.r_[True, matches.left[1:] != matches.left[:-1]])
    highest = np.repeat(np.maximum.reduceat(matches.similarity, starts), np.diff(np.r_[starts, len(matches)]))
    top = matches.where(matches.similarity >= highest - TOLERANCE)
    return top.where(np.r_[True, top.left[1:] != top.left[:-1]])


def greedy_keep(matches: Matches, size: int) -> np.ndarray:
    """Keep, in row order, each of `size` rows that is not similar to an earlier kept row.

    Equals `for i: keep[i] = not any(keep[j] for j < i if similar(i, j))`; pairs with `right >= left` are ignored.
    """
    keep = np.ones(size, bool)
    earlier = matches.where(matches.right < matches.left)
    rows, starts = np.unique(earlier.left, return_index=True)
    stops = np.append(starts, len(earlier))[1:]
    for row, start, stop in zip(rows.tolist(), starts.tolist(), stops.tolist(), strict=True):
        keep[row] = not keep[earlier.right[start:stop]].any()
    return keep
