"""Two rules for which of several similar rows to keep: the first one, or one row of each connected group.

Similarity comes in two forms: `Ragged` lists, where rows that share an entry are similar, and `Matches`. In both rules
the row number is the order of preference: 0 comes first.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import breadth_first_order, connected_components

from .ngrams import Ragged
from .pairs import TOLERANCE, Matches, concatenate


__all__ = ["first_wins", "group_trees"]


def first_wins(shares: Sequence[Ragged], alike: Sequence[Matches], size: int) -> list[Matches]:
    """Keep each row that is not similar to an earlier kept row by any measure.

    Args:
        shares (`Sequence[Ragged]`): Entries of each row; rows that share one are similar.
        alike (`Sequence[Matches]`): Pairs with `right < left`, ordered by `left`, then `right`.
        size (`int`): Number of rows.

    Returns:
        `list[Matches]`: For each measure, `shares` first, the rows that it removes, each with one match: the first
        kept row that it shares an entry with, or the most similar kept row (the first among equals).
    """
    owners: list[dict[int, int]] = [{} for _ in shares]
    starts = [np.searchsorted(matches.left, np.arange(size + 1)) for matches in alike]
    keep = np.ones(size, bool)
    found: list[list[tuple[int, int, float]]] = [[] for _ in (*shares, *alike)]
    for row in range(size):
        own = [share.ids[share.indptr[row] : share.indptr[row + 1]].tolist() for share in shares]
        for number, (ids, owner) in enumerate(zip(own, owners, strict=True)):
            match = min((owner[entry] for entry in ids if entry in owner), default=None)
            if match is not None:
                keep[row] = False
                found[number].append((row, match, 1.0))
                break
        else:
            for number, (matches, start) in enumerate(zip(alike, starts, strict=True), len(shares)):
                part = matches.where(slice(start[row], start[row + 1]))
                part = part.where(keep[part.right])
                if len(part):
                    best = int(np.argmax(part.similarity >= part.similarity.max() - TOLERANCE))
                    keep[row] = False
                    found[number].append((row, int(part.right[best]), float(part.similarity[best])))
                    break
        if keep[row]:
            for ids, owner in zip(own, owners, strict=True):
                owner.update((entry, row) for entry in ids)
    return [Matches.of(rows) for rows in found]


def group_trees(shares: Sequence[Ragged], alike: Sequence[Matches], size: int) -> list[Matches]:
    """Keep the first row of each connected group. Each other row matches its neighbour on a shortest path to it.

    Groups are the connected components of "similar by any measure". They do not depend on the order of the rows, which
    only decides which row stays. Arguments and result are those of [`first_wins`]. Rows that share an entry are linked
    through its first owner, so there are as many links as entries, not as pairs.
    """
    edges = [_stars(share) for share in shares] + [matches.where(matches.left != matches.right) for matches in alike]
    left = np.concatenate([np.empty(0, np.int64), *(edge.left for edge in edges)])
    right = np.concatenate([np.empty(0, np.int64), *(edge.right for edge in edges)])
    graph = sp.csr_matrix((np.ones(len(left), np.int8), (left, right)), shape=(size, size), dtype=np.int8)
    count, label = connected_components(graph, directed=False)
    first = np.full(count, size)
    np.minimum.at(first, label, np.arange(size))
    root = np.full(count, size)  # one more node, from which the first of each group is one step away
    tree = sp.csr_matrix(
        (np.ones(2 * len(left) + count), (np.r_[left, right, root], np.r_[right, left, first])),
        shape=(size + 1, size + 1),
    )
    tree.sort_indices()
    before = breadth_first_order(tree, size, directed=True)[1][:size]
    gone, found = before != size, []
    for edge in edges:  # each link of the trees belongs to the first measure that has it
        both = concatenate([edge, Matches(edge.right, edge.left, edge.similarity)])
        links = both.where(gone[both.left] & (before[both.left] == both.right))
        links = links.where(np.r_[True, links.left[1:] != links.left[:-1]][: len(links)])
        gone[links.left] = False
        found.append(links)
    return found


def _stars(share: Ragged) -> Matches:
    """Each row with the first row that has the entry, for each entry."""
    rows = share.owners()
    pairs = np.stack([rows, share.first_owners()[share.ids]], axis=1)
    pairs = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
    return Matches(pairs[:, 0], pairs[:, 1], np.ones(len(pairs)))
