"""Sentence embeddings compared by blocked matrix products."""

import numpy as np

from .pairs import TOLERANCE, Matches, concatenate


__all__ = ["embedding_join", "embedding_self_join"]

_CHUNK = 4096
_SLACK = 1e-4


def embedding_join(
    queries: np.ndarray, references: np.ndarray, threshold: float, *, block_rows: int = 1024
) -> Matches:
    """All pairs of a query and a reference whose cosine is at least `threshold`.

    Equals `np.argwhere(queries @ references.T >= threshold - TOLERANCE)` in float64. At most `block_rows` by
    `block_rows` products exist at a time; the matrix product uses all of numpy's threads.

    Args:
        queries, references (`np.ndarray` of float32, shape `(rows, dimensions)`): Vectors of length one.
        threshold (`float`): Lowest cosine.
        block_rows (`int`, defaults to 1024): Rows per block. Changes memory, not the result.
    """
    return concatenate(
        _exact(queries, references, start, other, block_rows, threshold)
        for start in range(0, len(queries), block_rows)
        for other in range(0, len(references), block_rows)
    )


def embedding_self_join(vectors: np.ndarray, threshold: float, *, block_rows: int = 1024) -> Matches:
    """All pairs of a row (`left`) and an earlier row (`right`) whose cosine is at least `threshold`."""
    matches = concatenate(
        _exact(vectors, vectors, start, other, block_rows, threshold)
        for start in range(0, len(vectors), block_rows)
        for other in range(0, start + 1, block_rows)
    )
    return matches.where(matches.right < matches.left)


def _exact(
    queries: np.ndarray, references: np.ndarray, start: int, other: int, block_rows: int, threshold: float
) -> Matches:
    """Pairs of one block: chosen in float32 with room for rounding, then summed in float64 pair by pair."""
    product = queries[start : start + block_rows] @ references[other : other + block_rows].T
    left, right = np.nonzero(product >= threshold - _SLACK)
    left, right = left + start, right + other
    similarity = np.empty(len(left))
    for first in range(0, len(left), _CHUNK):
        part = slice(first, first + _CHUNK)
        similarity[part] = (queries[left[part]].astype(np.float64) * references[right[part]]).sum(axis=1)
    reached = similarity >= threshold - TOLERANCE
    return Matches(left[reached], right[reached], similarity[reached])
