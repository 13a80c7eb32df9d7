"""Result: the kept rows, and for each removed row the reason and the kept row that represents it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from datasets import Dataset

from ..errors import SourceError, StarError
from ..schema import COLLECTED, PROVENANCE, REMOVED, Outcome, as_dataset


if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NEEDED", "Deduplication", "Removal", "as_collected"]

NEEDED = "Rows need `id` (such as `star_hf.utils.text.row_id(question)`), `question` and `source`."


def as_collected(rows: Dataset) -> Dataset:
    """The same rows with `COLLECTED` columns as strings.

    Raises:
        [`SourceError`]: If a column or a value is missing.
    """
    if not isinstance(rows, Dataset) and rows:
        raise SourceError(f"The rows are a {type(rows).__name__}, expected a `Dataset`.", "Use `Dataset.from_list`.")
    if not rows or not rows.column_names:  # an empty list, or `Dataset.from_list([])`
        return as_dataset([], COLLECTED)
    if missing := [name for name in COLLECTED if name not in rows.column_names]:
        raise SourceError(f"The rows have no column {', '.join(missing)}.", NEEDED)
    table = rows.select_columns(list(COLLECTED)).with_format("arrow")[:]
    if holes := [name for name in COLLECTED if table[name].null_count]:
        raise SourceError(f"Some rows have no {' and no '.join(holes)}.", NEEDED)
    for name in COLLECTED:
        if rows.features[name] != COLLECTED[name]:
            rows = rows.cast_column(name, COLLECTED[name])
    return rows


class Removal(NamedTuple):
    """Why a row was removed.

    Attributes:
        match (`int`): The similar text: the number of a held-out item, or the number of held-out items plus the place
            of a row.
        similarity (`float`): The cosine; 1.0 for shared words.
        measure (`str`): `"exact"`, `"ngram"`, `"tfidf"` or `"embedding"`.
        detail (`str`): The step and its parameter.
    """

    match: int
    similarity: float
    measure: str
    detail: str


@dataclass(frozen=True)
class Deduplication(Outcome):
    """An `Outcome` that knows the links between its rows.

    Attributes:
        given ([`~datasets.Dataset`]): The input rows.
        held_out ([`~datasets.Dataset`]): The benchmark items.
        removals (`dict[int, Removal]`): Why rows were removed, by place in `given`.
        again (`Callable`, *optional*): Makes the result at other thresholds, if all pairs are known.
        unread (`dict[str, int]`): Texts by language or script that the encoder cannot tell apart.
    """

    given: Dataset
    held_out: Dataset
    removals: dict[int, Removal] = field(repr=False)
    again: Callable[..., "Deduplication"] | None = field(default=None, repr=False)
    unread: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        given: Dataset,
        held_out: Dataset,
        removals: dict[int, Removal],
        again: Callable[..., "Deduplication"] | None = None,
        unread: dict[str, int] | None = None,
    ) -> "Deduplication":
        """Split the rows into kept and removed ones, both in input order."""
        gone = sorted(removals)
        start, reasons = len(held_out), [removals[place] for place in gone]
        own = {name: given[name][:] for name in COLLECTED}
        known = {name: [*held_out[name][:], *own[name]] for name in ("id", "source")}
        columns = {
            **{name: [values[place] for place in gone] for name, values in own.items()},
            "stage": ["deduplicate"] * len(gone),
            "reason": [
                f"{removal.measure}_{'contamination' if removal.match < start else 'duplicate'}" for removal in reasons
            ],
            "matched_id": [known["id"][removal.match] for removal in reasons],
            "matched_source": [known["source"][removal.match] for removal in reasons],
            "similarity": [min(removal.similarity, 1.0) for removal in reasons],
            "detail": [removal.detail for removal in reasons],
        }
        removed = Dataset(pa.Table.from_pydict(columns, schema=REMOVED.arrow_schema))
        kept = given.select(np.setdiff1d(np.arange(len(given)), gone))
        return cls(kept, removed, as_dataset([], PROVENANCE), given, held_out, removals, again, unread or {})

    @property
    def kept(self) -> Dataset:
        """The kept rows; the same as `rows`."""
        return self.rows

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """The `id` of each kept row that represents removed ones, and their ids, in input order.

        Rows that match a held-out item, or a row that does, are in no group.
        """
        ids, start, groups = self.given["id"][:], len(self.held_out), {}
        for place in sorted(self.removals):
            root = int(self._roots[start + place])
            if root >= start:
                groups.setdefault(ids[root - start], []).append(ids[place])
        return groups

    def kept_for(self, row_id: str) -> dict[str, Any]:
        """The row that represents a row: itself if it was kept, else the end of its chain of matches.

        The result has the `COLLECTED` columns of a kept row, or of the held-out item at the end of the chain. An id
        that no input row has is a [`StarError`].
        """
        places = self._places.get(row_id)
        if places is None:
            raise StarError(f"No input row has the id {row_id!r}.", "Ids are in the column `id`.")
        start = len(self.held_out)
        place = next((place for place in places if place not in self.removals), places[0])
        root = int(self._roots[start + place])
        row = self.held_out[root] if root < start else self.given[root - start]
        return {name: row[name] for name in COLLECTED}

    def rethreshold(self, tfidf: float | None = None, embedding: float | None = None) -> "Deduplication":
        """The result at other thresholds by the same rule, from the known pairs.

        Args:
            tfidf (`float`, *optional*): Lowest TF-IDF cosine, not below that of the search, which is the default.
            embedding (`float`, *optional*): Lowest embedding cosine.

        Raises:
            [`StarError`]: If the result comes from a profile's steps, which do not compare removed rows further.
            [`ConfigError`]: If a threshold is below that of the search.
        """
        if self.again is None:
            raise StarError(
                "A profile's steps compare only the remaining rows, so not all pairs are known.",
                "Find them once with `find_alike(rows, held_out).first_wins()` or `.one_per_group()`.",
            )
        return self.again(tfidf=tfidf, embedding=embedding)

    def to_pandas(self) -> "pd.DataFrame":
        """All rows in input order: `COLLECTED` columns, `kept`, for removed rows the columns of `REMOVED`, and
        `kept_for`, the `id` at the end of the chain of matches."""
        frame = self.given.select_columns(list(COLLECTED)).to_pandas()
        gone = sorted(self.removals)
        frame["kept"] = ~frame.index.isin(gone)
        why = self.removed.select_columns(["reason", "matched_id", "matched_source", "similarity", "detail"])
        frame = frame.join(why.to_pandas().set_axis(gone, axis="index"))
        ids = np.asarray([*self.held_out["id"][:], *self.given["id"][:]], object)
        frame["kept_for"] = ids[self._roots[len(self.held_out) :]]
        return frame

    @cached_property
    def _roots(self) -> np.ndarray:
        """The end of each chain of matches, by number (held-out items first)."""
        start = len(self.held_out)
        roots = np.arange(start + len(self.given))
        for place, removal in self.removals.items():
            roots[start + place] = removal.match
        while not np.array_equal(further := roots[roots], roots):
            roots = further
        return roots

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        places: dict[str, list[int]] = {}
        for place, row_id in enumerate(self.given["id"][:]):
            places.setdefault(row_id, []).append(place)
        return places
