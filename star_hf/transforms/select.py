"""Select a small, diverse set of scored rows (paper, end of Section 2.3, and Table 2)."""

import json
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from statistics import median
from typing import Any, Literal, get_args

import numpy as np
from datasets import Dataset

from ..errors import ConfigError, StarError
from ..llm.step import checked_rows
from ..schema import PROVENANCE, REMOVED, SCORE_CRITERIA, Outcome, as_dataset, each_row, removal
from .filters import FullMarks
from .reason import Teacher


__all__ = ["Balance", "Strategy", "balance", "select"]

logger = logging.getLogger(__name__)

STAGE = "select"
Strategy = Literal["coverage", "paper", "random", "top-k", "medium-score"]


@dataclass(frozen=True)
class Balance:
    """How evenly a set covers categories and sources.

    Attributes:
        labels (`dict[str, int]`): Labels per category, largest first; a row counts once for each of its categories.
        sources (`dict[str, int]`): Rows per source, largest first.
    """

    labels: dict[str, int]
    sources: dict[str, int]

    @property
    def spread(self) -> float:
        """Labels of the largest category over those of the smallest: 1 is even, the published STAR-1 has 7.3."""
        return max(self.labels.values()) / min(self.labels.values()) if self.labels else 1.0

    @property
    def entropy(self) -> float:
        """Entropy of the labels over its maximum: 1 is even, 0 is a single category."""
        if len(self.labels) < 2:
            return 0.0
        total = sum(self.labels.values())
        shares = [count / total for count in self.labels.values()]
        return -sum(share * math.log(share) for share in shares) / math.log(len(shares))

    def __str__(self) -> str:
        return (
            f"{len(self.labels)} categories and {len(self.sources)} sources, largest category / smallest "
            f"{self.spread:.2f}, normalised entropy {self.entropy:.3f}"
        )


def balance(rows: Dataset) -> Balance:
    """Measure the objective of [`select`]: labels per category and rows per source."""
    labels = Counter(label for categories in rows["category"][:] for label in set(categories))
    sources = Counter(rows["source"][:])
    return Balance(_largest_first(labels), _largest_first(sources))


def select(
    rows: Dataset,
    *,
    size: int = 1000,
    strategy: Strategy = "coverage",
    criteria_maximum: int = 10,
    seed: int = 0,
) -> Outcome:
    """Choose `size` rows (paper, end of Section 2.3, and the ablations of Table 2).

    `"coverage"` and `"paper"` choose among rows with full marks on every criterion; a missing score is not full
    marks. The strategies:

    - `"coverage"`: equally many labels per category, and within a category equally many rows per source, as far as
      there are enough. Water-filled quotas over category and source, rounded by largest remainder; each round serves
      the category, and in it the source, that is furthest from its quota. Independent of the order of the rows.
    - `"paper"`: while more than `size` rows remain, drop the row with the highest product of its source's share of
      rows and the sum of its categories' shares of labels, shares taken over what remains, first row on ties.
      Compared as exact integers, see [`_paper`].
    - `"random"`: a sample that depends only on `seed` and the ids.
    - `"top-k"`: the highest total scores; a missing score counts as 0.
    - `"medium-score"`: of the rows with all scores but without full marks, those with a total closest to the median
      of these rows. The paper does not define its "Med" set; this is our interpretation.

    Args:
        rows ([`~datasets.Dataset`]): Rows as `SCORED`.
        size (`int`, defaults to 1000): Rows to keep. If fewer are eligible, all of them are kept, with a warning.
        strategy (`str`, defaults to `"coverage"`): One of the above.
        criteria_maximum (`int`, defaults to 10): The score that is full marks.
        seed (`int`, defaults to 0): For `"random"`.

    Returns:
        `Outcome`: the chosen rows in input order; `removed` with reason `"below_full_marks"` (scores in `detail`)
        or `"not_selected"`.

    Raises:
        ConfigError: If `size` is negative or the strategy is unknown.
        StarError: If a row that `"coverage"` or `"paper"` must place has no category.
    """
    if size < 0:
        raise ConfigError(f"Invalid size {size}: must be 0 or more.")
    if strategy not in get_args(Strategy):
        raise ConfigError(f"Unknown selection strategy {strategy!r}.", f"Use one of {', '.join(get_args(Strategy))}.")
    checked_rows(rows, Teacher.needs | {"score": "Score the rows first, with `score` or `Scorer`."})
    records = list(each_row(rows.select_columns(["id", "question", "source", "category", "score"])))
    eligible, full_marks = list(range(len(records))), FullMarks(criteria_maximum)
    removed: dict[int, dict[str, Any]] = {}
    if strategy in ("coverage", "paper"):
        eligible = [i for i in eligible if full_marks(records[i])]
        for i in set(range(len(records))).difference(eligible):
            scores = json.dumps(records[i]["score"], sort_keys=True)
            removed[i] = removal(records[i], STAGE, "below_full_marks", detail=scores)
        if (bare := next((records[i] for i in eligible if not records[i]["category"]), None)) is not None:
            raise StarError(f"Row {bare['id']} has no category.", "Classify the rows before selecting.")
    elif strategy == "medium-score":
        eligible = [i for i in eligible if _complete(records[i]["score"]) and not full_marks(records[i])]
    candidates = [records[i] for i in eligible]
    if len(candidates) < size:
        logger.warning("select: %d rows are eligible, fewer than the %d asked for.", len(candidates), size)
    chosen = set(eligible)
    if len(candidates) > size:
        chosen = {eligible[position] for position in _chooser(strategy, seed)(candidates, size)}
    for i in set(range(len(records))).difference(chosen, removed):
        removed[i] = removal(records[i], STAGE, "not_selected")
    kept = rows.select(sorted(chosen))
    logger.info("select: %d of %d rows by %s: %s", len(kept), len(rows), strategy, balance(kept))
    return Outcome(kept, as_dataset([removed[i] for i in sorted(removed)], REMOVED), as_dataset([], PROVENANCE))


Record = Mapping[str, Any]
Chooser = Callable[[list[Record], int], list[int]]


def _chooser(strategy: Strategy, seed: int) -> Chooser:
    if strategy == "random":
        return lambda rows, size: _smallest(rows, size, lambda row: sha256(f"{seed}:{row['id']}".encode()).digest())
    if strategy == "top-k":
        return lambda rows, size: _smallest(rows, size, lambda row: -_total(row["score"]))
    return {"coverage": _coverage, "paper": _paper, "medium-score": _medium}[strategy]


def _complete(score: Mapping[str, int | None] | None) -> bool:
    return score is not None and all(score.get(criterion) is not None for criterion in SCORE_CRITERIA)


def _total(score: Mapping[str, int | None] | None) -> int:
    return sum((score or {}).get(criterion) or 0 for criterion in SCORE_CRITERIA)


def _largest_first(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _smallest(rows: list[Record], size: int, key: Callable[[Record], Any]) -> list[int]:
    return sorted(range(len(rows)), key=lambda i: (key(rows[i]), rows[i]["id"]))[:size]


def _medium(rows: list[Record], size: int) -> list[int]:
    middle = median(_total(row["score"]) for row in rows)
    return _smallest(rows, size, lambda row: abs(_total(row["score"]) - middle))


def _paper(rows: list[Record], size: int) -> list[int]:
    """The published procedure, in rounds over signatures (source, categories) instead of rows.

    Rows with the same signature tie, and the first of them is dropped, so a round compares only the few hundred
    signatures. All rows share the denominators, so the product is compared as the integer `rows of the source * sum
    of labels of the categories`. The naive equivalent is O(rows^2):

    ```python
    while len(rows) > size:
        in_source = Counter(row["source"] for row in rows)
        labels = Counter(label for row in rows for label in row["category"])
        rows.remove(max(rows, key=lambda row: in_source[row["source"]] * sum(labels[c] for c in row["category"])))
    ```

    With float shares, rounding breaks exact ties. On corpora full of ties (40 rows, 3 sources, 5 categories) that
    changed one row in 1 of 300 selections, on 3,000 rows as skewed as the published ones none.
    """
    positions: dict[tuple[str, tuple[str, ...]], list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        positions[row["source"], tuple(sorted(row["category"]))].append(i)
    signatures = list(positions)
    source_index = {source: i for i, source in enumerate(dict.fromkeys(source for source, _ in signatures))}
    combinations = list(dict.fromkeys(combination for _, combination in signatures))
    category_index = {
        c: i for i, c in enumerate(dict.fromkeys(c for combination in combinations for c in combination))
    }
    members = np.zeros((len(combinations), len(category_index)), dtype=np.int64)
    for i, combination in enumerate(combinations):
        for category in combination:
            members[i, category_index[category]] += 1
    of_source = np.array([source_index[source] for source, _ in signatures])
    of_combination = np.array([combinations.index(combination) for _, combination in signatures])
    left = np.array([len(positions[signature]) for signature in signatures])
    in_source = np.bincount(of_source, weights=left).astype(np.int64)
    labels = left @ members[of_combination]
    heads = np.array([positions[signature][0] for signature in signatures])
    dropped = np.zeros(len(signatures), dtype=np.int64)
    for _ in range(len(rows) - size):
        score = in_source[of_source] * (members @ labels)[of_combination]
        score[left == 0] = -1
        ties = np.flatnonzero(score == score.max())
        worst = ties[heads[ties].argmin()]
        dropped[worst] += 1
        left[worst] -= 1
        in_source[of_source[worst]] -= 1
        labels -= members[of_combination[worst]]
        if left[worst]:
            heads[worst] = positions[signatures[worst]][dropped[worst]]
    return [i for g, signature in enumerate(signatures) for i in positions[signature][dropped[g] :]]


def _quotas(total: int, supply: Mapping[Any, int]) -> dict[Any, int]:
    """Split `total` as evenly as `supply` allows: water-filling, then largest remainder with ties by name.

    All remainders of an even split are equal, so the rest goes to the first names that have supply left.
    """
    quotas = dict.fromkeys(sorted(supply), 0)
    total = min(total, sum(supply.values()))
    open_names = list(quotas)
    while total:
        share, rest = divmod(total, len(open_names))
        if share == 0:
            for name in open_names[:rest]:
                quotas[name] += 1
            break
        for name in open_names:
            given = min(share, supply[name] - quotas[name])
            quotas[name] += given
            total -= given
        open_names = [name for name in open_names if quotas[name] < supply[name]]
    return quotas


def _coverage(rows: list[Record], size: int) -> list[int]:
    """Add one row a round, for the category furthest from its quota and in it the source furthest from its quota.

    A row counts for each of its categories, so rows that also belong to a category with a full quota come last. Of
    the rows for a cell, the one is chosen that has its fullest category least filled; ties by source, category names
    and `id`.
    """
    groups: dict[tuple[str, tuple[str, ...]], list[int]] = defaultdict(list)
    for i in sorted(range(len(rows)), key=lambda i: rows[i]["id"], reverse=True):
        groups[rows[i]["source"], tuple(sorted(set(rows[i]["category"])))].append(i)
    supply: Counter[tuple[str, str]] = Counter()
    for (source, categories), members in groups.items():
        supply.update({(category, source): len(members) for category in categories})
    per_category: Counter[str] = Counter()
    for (category, _), count in supply.items():
        per_category[category] += count
    labels = size * per_category.total() // len(rows)
    quota: dict[Any, int] = dict(_quotas(labels, per_category))
    for category in per_category:
        cells = {cell: count for cell, count in supply.items() if cell[0] == category}
        quota |= _quotas(quota[category], cells)
    filled: Counter[Any] = Counter()

    def share(key: Any) -> tuple[bool, Fraction]:
        """How full a category or cell is; those without a quota come last."""
        return quota[key] == 0, Fraction(filled[key], max(quota[key], 1))

    chosen = []
    for _ in range(size):
        category = min((name for name in per_category if per_category[name]), key=lambda name: (share(name), name))
        source, categories = min(
            (g for g, members in groups.items() if members and category in g[1]),
            key=lambda g: (
                sum(filled[name] >= quota[name] for name in g[1]),
                share((category, g[0])),
                sorted(map(share, g[1]), reverse=True),
                g,
            ),
        )
        chosen.append(groups[source, categories].pop())
        for name in categories:
            filled.update([name, (name, source)])
            per_category[name] -= 1
    return chosen
