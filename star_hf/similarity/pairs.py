"""The one shape of answer of all measures, and the rules that choose among the pairs."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

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
    "told",
]

OnProgress = Callable[[int, int], None]
"""Called with how many parts of a join are done, and how many there are."""

TOLERANCE = 1e-9
"""A pair counts as at or above a threshold when its similarity, summed in float64, is at least `threshold -
TOLERANCE`: rounding in the last bits never decides."""


@dataclass(frozen=True)
class Matches:
    """Pairs of rows that are alike, ordered by `left`, then `right`.

    Attributes:
        left (`np.ndarray` of int64, shape `(pairs,)`): The row asked about.
        right (`np.ndarray` of int64, shape `(pairs,)`): The row that it is like.
        similarity (`np.ndarray` of float64, shape `(pairs,)`): How alike they are; 1.0 for a shared n-gram.
    """

    left: np.ndarray
    right: np.ndarray
    similarity: np.ndarray

    def __len__(self) -> int:
        return len(self.left)

    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`left`, `right` and `similarity`."""
        return self.left, self.right, self.similarity

    def where(self, chosen: np.ndarray | slice) -> "Matches":
        """The pairs that a boolean mask, an index array or a slice selects."""
        return Matches(self.left[chosen], self.right[chosen], self.similarity[chosen])

    def renumbered(self, left: np.ndarray, right: np.ndarray) -> "Matches":
        """The same pairs in the numbering of a larger collection: row `i` becomes `left[i]` or `right[i]`."""
        return Matches(left[self.left], right[self.right], self.similarity)


def check_thresholds(*thresholds: float | None) -> None:
    """Refuse what no cosine of the measures here can be held against.

    Raises:
        ConfigError: If a threshold is not above 0, or is above 1.
    """
    for threshold in thresholds:
        if threshold is not None and not 0 < threshold <= 1:
            raise ConfigError(
                f"{threshold} is no threshold of a cosine.", "Take one above 0 and up to 1, such as 0.6."
            )


def concatenate(parts: Iterable[Matches]) -> Matches:
    """Join matches end to end and order them by `left`, then `right`."""
    parts = list(parts)
    left = np.concatenate([np.empty(0, np.int64), *(part.left for part in parts)])
    right = np.concatenate([np.empty(0, np.int64), *(part.right for part in parts)])
    similarity = np.concatenate([np.empty(0), *(part.similarity for part in parts)])
    order = np.lexsort((right, left))
    return Matches(left[order], right[order], similarity[order])


def told(parts: Iterable[Matches], total: int, on_progress: OnProgress | None) -> Iterator[Matches]:
    """The parts as they come, each of them reported."""
    for done, part in enumerate(parts, 1):
        yield part
        if on_progress is not None:
            on_progress(done, total)


def best_per_left(matches: Matches, eligible: np.ndarray | None = None) -> Matches:
    """For each left row its best match: the highest similarity, and the smallest right row among equals.

    Similarities that differ by no more than `TOLERANCE` are equals.

    Args:
        matches (`Matches`): The pairs.
        eligible (`np.ndarray` of bool, *optional*): Right rows that may be named, by row number; all by default.
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
    """Keep, in row order, each row that is like no earlier kept row.

    Equals `for i: keep[i] = not any(keep[j] for j < i if like(i, j))`; pairs whose right row is not the earlier one
    are ignored.

    Args:
        matches (`Matches`): Pairs ordered by `left`.
        size (`int`): Number of rows.

    Returns:
        `np.ndarray` of bool, shape `(size,)`: Whether each row is kept.
    """
    keep = np.ones(size, bool)
    earlier = matches.where(matches.right < matches.left)
    rows, starts = np.unique(earlier.left, return_index=True)
    stops = np.append(starts, len(earlier))[1:]
    for row, start, stop in zip(rows.tolist(), starts.tolist(), stops.tolist(), strict=True):
        keep[row] = not keep[earlier.right[start:stop]].any()
    return keep
