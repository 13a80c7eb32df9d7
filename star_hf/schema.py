"""The columns of a row at every stage: their names and types are defined here only."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetInfo, Features, List, Value
from datasets.fingerprint import Hasher
from datasets.table import InMemoryTable


__all__ = [
    "BENIGN",
    "BENIGN_CRITERIA",
    "CLASSIFIED",
    "COLLECTED",
    "Outcome",
    "PROVENANCE",
    "REASONED",
    "REMOVED",
    "SCORED",
    "SCORE_CRITERIA",
    "as_dataset",
    "each_row",
    "in_memory",
    "removal",
    "rows_of",
]

SCORE_CRITERIA = (
    "Content_Safety_Compliance",
    "Relevancy_and_No_Redundant_Content",
    "Accuracy_of_Thinking_Process",
)
"""Criteria of the safety data, 0-10 each (paper, Section 2.3)."""

BENIGN_CRITERIA = ("Content_Safety_Compliance", "Quality_of_Thinking_Process", "Compliance_Degree")
"""Criteria of the benign twins, 1-5 each (paper, Appendix E)."""

_TEXT = Value("string")
_LABELS = List(Value("string"))

COLLECTED = Features({"id": _TEXT, "question": _TEXT, "source": _TEXT})
CLASSIFIED = Features({**COLLECTED, "category": _LABELS})
REASONED = Features({"id": _TEXT, "question": _TEXT, "response": _TEXT, "category": _LABELS, "source": _TEXT})
SCORED = Features({**REASONED, "score": {criterion: Value("int64") for criterion in SCORE_CRITERIA}})
"""The published schema: exactly STAR-1's six columns, in its order."""

BENIGN = Features(
    {**REASONED, "score": {criterion: Value("int64") for criterion in BENIGN_CRITERIA}, "origin_id": _TEXT}
)
"""A benign twin: `category` and `source` are its origin's, and `origin_id` is the origin's `id`."""

REMOVED = Features(
    {
        **COLLECTED,
        "stage": _TEXT,
        "reason": _TEXT,
        "matched_id": _TEXT,
        "matched_source": _TEXT,
        "similarity": Value("float64"),
        "detail": _TEXT,
    }
)
"""A removed row: the stage and reason, and for a match the id and source of the kept row or benchmark item and the
similarity (1.0 for a shared n-gram)."""

PROVENANCE = Features(
    {
        "id": _TEXT,
        "stage": _TEXT,
        "request_key": _TEXT,
        "endpoint": _TEXT,
        "model": _TEXT,
        "prompt_version": _TEXT,
        "attempts": Value("int64"),
        "prompt_tokens": Value("int64"),
        "completion_tokens": Value("int64"),
        "cost_usd": Value("float64"),
    }
)
"""The receipt of one row at one stage: which model answered which prompt, and its cost."""


@dataclass(frozen=True)
class Outcome:
    """What a step returns: every row is in `rows` or in `removed`.

    Attributes:
        rows ([`~datasets.Dataset`]): The rows for the next step.
        removed ([`~datasets.Dataset`]): The removed rows, as `REMOVED`: stage, reason, match.
        provenance ([`~datasets.Dataset`]): Receipts of model calls, as `PROVENANCE`; empty where no model was asked.
    """

    rows: Dataset
    removed: Dataset
    provenance: Dataset


def as_dataset(rows: Iterable[Mapping[str, Any]], features: Features) -> Dataset:
    """Build an in-memory `Dataset` with exactly these features; columns that a row lacks become `None`."""
    columns: dict[str, list] = {name: [] for name in features}
    for row in rows:
        for name, values in columns.items():
            values.append(row.get(name))
    try:
        table = pa.Table.from_pydict(columns, schema=features.arrow_schema)
    except (pa.ArrowException, TypeError, ValueError):  # values that features such as `ClassLabel` encode first
        return Dataset.from_dict(columns, features=features)
    return in_memory(table.columns, features)


def in_memory(columns: Sequence[pa.ChunkedArray], features: Features) -> Dataset:
    """An in-memory `Dataset` of Arrow columns in the order of `features`.

    Its fingerprint depends on the content alone, and takes a tenth of the time of what `Dataset` computes.
    """
    table = pa.Table.from_arrays(columns, schema=features.arrow_schema)
    chunks = [chunk for column in table.columns for chunk in column.chunks]
    spans = [(chunk.offset, len(chunk)) for chunk in chunks]  # slices of a table share its buffers
    buffers = (buffer for chunk in chunks for buffer in chunk.buffers() if buffer)
    fingerprint = Hasher.hash_bytes([f"{table.schema} {spans}".encode(), *buffers])
    return Dataset(InMemoryTable(table), info=DatasetInfo(features=features), fingerprint=fingerprint)


def each_row(rows: Dataset, batch_size: int = 250) -> Iterator[dict[str, Any]]:
    """The rows one after the other, as `iter(rows)` but in a tenth of the time."""
    for batch in rows.iter(batch_size):
        yield from rows_of(batch)


def rows_of(batch: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """The rows of a batch of columns."""
    return (dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True))


def removal(
    row: Mapping[str, Any],
    stage: str,
    reason: str,
    *,
    matched_id: str | None = None,
    matched_source: str | None = None,
    similarity: float | None = None,
    detail: str | None = None,
) -> dict[str, Any]:
    """One record of `REMOVED` for a row that is removed at `stage`."""
    return {
        "id": row["id"],
        "question": row["question"],
        "source": row["source"],
        "stage": stage,
        "reason": reason,
        "matched_id": matched_id,
        "matched_source": matched_source,
        "similarity": similarity,
        "detail": detail,
    }
