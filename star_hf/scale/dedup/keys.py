"""Keys of texts, n-grams and terms, which find equal ones in different shards without comparing shards.

A key is 128 bits of BLAKE2b. Each shard writes its keys sorted, so a part of the key space is one slice of each file,
and each task handles one part for all shards. The chance that any two of n different texts, n-grams or terms have the
same key is n² / 2^129: 6e-19 for the 2e10 n-grams of a billion questions.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .work import load, save


__all__ = ["hashed", "part_of", "save_keys", "starts"]


def hashed(texts: Iterable[str]) -> np.ndarray:
    """The keys of texts, uint64 of shape `(2, texts)`."""
    digests = (hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts)
    return np.frombuffer(b"".join(digests), "<u8").reshape(-1, 2).T


def save_keys(path: Path, keys: np.ndarray, names: np.ndarray, *more: np.ndarray) -> None:
    """Write the keys of a shard, from [`hashed`], with the names of their rows or terms, sorted by key, then name.

    `more` are further columns with 8 bytes per value.
    """
    order = np.lexsort((names, keys[1], keys[0]))
    save(path, *(column[order] for column in (*keys, names, *more)))


def part_of(paths: list[Path], number: int, count: int) -> np.ndarray:
    """The `number`-th of `count` parts of the key space, from all files, sorted like [`save_keys`]."""
    found = []
    for path in paths:
        columns = load(path)
        edges = [(edge << 64) // count for edge in (number, number + 1)]
        start, stop = (
            columns.shape[1] if edge >> 64 else np.searchsorted(columns[0].view(np.uint64), np.uint64(edge))
            for edge in edges
        )
        found.append(np.asarray(columns[:, start:stop]))
    columns = np.concatenate(found, axis=1)
    return columns[:, np.lexsort((columns[2], columns[1].view(np.uint64), columns[0].view(np.uint64)))]


def starts(columns: np.ndarray) -> np.ndarray:
    """Mask of the entries with another key than the entry before."""
    return np.r_[True, (columns[:2, 1:] != columns[:2, :-1]).any(axis=0)][: columns.shape[1]]
