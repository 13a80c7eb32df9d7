"""Both rules against their naive quadratic definitions, over lists that rows share and pairs with a similarity."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from star_hf.similarity.groups import first_wins, group_trees
from star_hf.similarity.ngrams import Ragged
from star_hf.similarity.pairs import Matches


LISTS = st.lists(st.lists(st.integers(0, 12), max_size=3), max_size=12)
PAIRS = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11), st.sampled_from([0.6, 0.75, 0.9])), max_size=10)


def measures(lists, drawn):
    """Sharing and pairs as both rules take them, and as a function of two rows for the naive definition."""
    share = Ragged(np.cumsum([0, *map(len, lists)]), np.array([entry for own in lists for entry in own], np.int64))
    similar = {(max(i, j), min(i, j)): value for i, j, value in drawn if i != j and max(i, j) < len(lists)}
    chosen = sorted(similar)
    left, right = (np.array([pair[side] for pair in chosen], np.int64) for side in (0, 1))
    matches = Matches(left, right, np.array([similar[pair] for pair in chosen], np.float64))
    return share, matches, similar


def likeness(lists, similar, i, j):
    """By which measures two rows are alike, and how much."""
    found = {0: 1.0} if set(lists[i]) & set(lists[j]) else {}
    pair = (max(i, j), min(i, j))
    return found | ({1: similar[pair]} if pair in similar else {})


def rows_of(found):
    return {
        row: (match, value, number)
        for number, matches in enumerate(found)
        for row, match, value in zip(*(column.tolist() for column in matches.columns()), strict=True)
    }


@given(LISTS, PAIRS)
def test_the_first_wins(lists, drawn):
    share, matches, similar = measures(lists, drawn)
    kept, gone = [], {}
    for i in range(len(lists)):
        alike = {j: found for j in kept if (found := likeness(lists, similar, i, j))}
        if alike:
            measure = min(min(found) for found in alike.values())
            match = max((j for j in alike if measure in alike[j]), key=lambda j: (alike[j][measure], -j))
            gone[i] = (match, alike[match][measure], measure)
        else:
            kept.append(i)
    assert rows_of(first_wins([share], [matches], len(lists))) == gone


@given(LISTS, PAIRS)
def test_one_row_of_each_connected_group_stays(lists, drawn):
    share, matches, similar = measures(lists, drawn)
    found = group_trees([share], [matches], len(lists))
    gone = rows_of(found)
    assert sum(map(len, found)) == len(gone), "a row leaves once"
    seen = set()
    for i in range(len(lists)):
        if i in seen:
            continue
        assert i not in gone, "the first of its group stays"
        group, new = {i}, {i}
        while new:
            new = {j for j in range(len(lists)) for k in new if likeness(lists, similar, j, k)} - group
            group |= new
        seen |= group
        for row in group - {i}:
            match, value, measure = gone[row]
            assert likeness(lists, similar, row, match)[measure] == value
            for _ in group:
                row = gone[row][0] if row in gone else row
            assert row == i, "the chain of matches ends at the row that stays"
    assert seen == set(range(len(lists)))
