"""Joins of embeddings by cosine: blocked matrix products, made a few times narrower by an upper bound."""

import numpy as np
from threadpoolctl import threadpool_limits

from .pairs import Matches, OnProgress, concatenate, join_blocks


__all__ = ["embedding_join"]

_CHUNK = 4096
_SLACK = 1e-4
_SAMPLE = 1024
_PAIR = 50_000
"""Estimated cost of summing one pair in full (some microseconds), in multiply-adds of a block's product."""


def embedding_join(
    queries: np.ndarray,
    references: np.ndarray | None,
    threshold: float,
    *,
    block_rows: int = 1024,
    num_threads: int | None = None,
    on_progress: OnProgress | None = None,
) -> Matches:
    """All pairs of a query and a reference with a cosine of at least `threshold`.

    Equals `np.argwhere(queries @ references.T >= threshold - TOLERANCE)` in float64. Vectors are rotated to their
    principal axes, and the light axes are replaced by one number, their norm. By Cauchy-Schwarz the products of these
    shorter vectors are never below the cosines, so only pairs whose product reaches the threshold are summed in full.

    Args:
        queries, references (`np.ndarray` of float32, shape `(rows, dimensions)`): Vectors of length one. Without
            references, the pairs of a query (`left`) and an earlier query (`right`) are returned.
        threshold (`float`): Lowest cosine.
        block_rows (`int`, defaults to 1024): Rows per block. Each thread holds one product of `block_rows` squared.
            Changes memory, not the result.
        num_threads (`int`, *optional*): Threads; all processors by default.
        on_progress (`Callable`, *optional*): Called with the number of finished blocks and of all blocks.

    Returns:
        [`Matches`]: `left` numbers queries, `right` references.
    """
    own, references = references is None, queries if references is None else references
    if not queries.size or not references.size:  # no rows, or no dimensions since no text was encoded
        return concatenate([])
    axes, width = _axes(queries, references, threshold)
    left = _narrow(queries, axes, width)
    right = left if own else _narrow(references, axes, width)

    def block(start: int, other: int) -> Matches:
        product = left[start : start + block_rows] @ right[other : other + block_rows].T
        rows, columns = np.divmod(np.flatnonzero(product >= threshold - _SLACK), product.shape[1])
        return _exact(queries, references, rows + start, columns + other, threshold)

    blocks = [
        (start, other)
        for start in range(0, len(queries), block_rows)
        for other in range(0, start + 1 if own else len(references), block_rows)
    ]
    with threadpool_limits(1, "blas"):
        matches = join_blocks(block, blocks, num_threads, on_progress)
    return matches.where(matches.right < matches.left) if own else matches


def _axes(queries: np.ndarray, references: np.ndarray, threshold: float) -> tuple[np.ndarray, int]:
    """Principal axes, heaviest first, and how many to keep: all where the bound does not pay off.

    The axes are fitted on evenly spaced rows, and the cost is measured on other rows, which they fit less well.
    """
    sides = [(vectors, len(vectors) // _SAMPLE + 1) for vectors in (queries, references)]
    fitted = [vectors[::step].astype(np.float64) for vectors, step in sides]
    some = [vectors[step // 2 :: step].astype(np.float64) for vectors, step in sides]
    axes = np.linalg.eigh(sum(vectors.T @ vectors for vectors in fitted))[1][:, ::-1]
    dimensions = axes.shape[1]
    costs = {}
    for width in sorted({dimensions // part for part in (8, 6, 4, 3, 2, 1)} - {0}, reverse=True):
        bound = _narrow(some[0], axes, width) @ _narrow(some[1], axes, width).T
        costs[width] = width + _PAIR * float((bound >= threshold - _SLACK).mean())
    return axes, min(costs, key=costs.__getitem__)


def _narrow(vectors: np.ndarray, axes: np.ndarray, width: int) -> np.ndarray:
    """Coordinates along the first axes and the norm of the others, float32 of shape `(rows, width + 1)`."""
    if width == len(axes):
        return np.asarray(vectors, np.float32)
    narrow = np.empty((len(vectors), width + 1), np.float32)
    for start in range(0, len(vectors), _CHUNK):
        turned = vectors[start : start + _CHUNK] @ axes
        narrow[start : start + _CHUNK, :width] = turned[:, :width]
        narrow[start : start + _CHUNK, width] = np.linalg.norm(turned[:, width:], axis=1)
    return narrow


def _exact(
    queries: np.ndarray, references: np.ndarray, left: np.ndarray, right: np.ndarray, threshold: float
) -> Matches:
    """The pairs that reach the threshold when each is summed in float64."""
    similarity = np.empty(len(left))
    for first in range(0, len(left), _CHUNK):
        part = slice(first, first + _CHUNK)
        similarity[part] = (queries[left[part]].astype(np.float64) * references[right[part]]).sum(axis=1)
    return Matches(left, right, similarity).reaching(threshold)
