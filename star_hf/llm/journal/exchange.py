"""Export a journal's answers to a Parquet file, and import answers into a journal."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import StarError
from ...utils.files import replacing
from ...utils.text import encodable_values
from ..types import OUTCOMES, Completion
from .checks import COLUMNS, damaged, left_in
from .pages import completion_of
from .store import Entry, Journal, MergeResult


__all__ = ["SCHEMA", "export_journal", "import_answers"]

SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "stage": pa.string(),
        "endpoint": pa.string(),
        "version": pa.string(),
        "text": pa.string(),
        "reasoning": pa.string(),
        "outcome": pa.string(),
        "detail": pa.string(),
        "finish_reason": pa.string(),
        "prompt_tokens": pa.int64(),
        "completion_tokens": pa.int64(),
        "usage": pa.string(),
        "model": pa.string(),
        "provider_id": pa.string(),
        "latency_s": pa.float64(),
        "cost_usd": pa.float64(),
        "created_at": pa.timestamp("us", tz="UTC"),
    }
)
"""Columns of an export: those of an `Entry`, with the completion's fields side by side."""

LATER = {"finish_reason": "", "usage": ""}
"""Columns that exports of earlier versions lack, and their values then."""

COMPLETION = [field.name for field in fields(Completion)]
ENTRY = [field.name for field in fields(Entry) if field.name != "completion"]
NULLABLE = {"reasoning", "cost_usd"}
KEY = re.compile(r"[0-9a-f]{64}")
YEAR_10000 = 253_402_300_800.0
BATCH_ROWS, BATCH_CHARACTERS = 1_000, 16_000_000
"""Maximum in memory, whichever is reached first."""

Row = dict[str, Any]


def export_journal(journal: Journal, path: str | Path) -> int:
    """Write all answers to a Parquet file, in the order of their keys and with bounded memory.

    The file appears only when it is complete; an existing one is replaced. It contains what models answered, so treat
    it as harmful text. Returns how many answers were written.

    Raises:
        StarError: If the name does not end in `.parquet`, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".parquet":
        raise StarError(f"{path} does not end in .parquet.", "Name the export something like answers.parquet.")
    written = 0
    with replacing(path) as fresh, pq.ParquetWriter(fresh, SCHEMA, compression="zstd") as writer:
        for batch in _batches(_journal_rows(journal)):
            writer.write_table(pa.Table.from_pylist([_storable(row) for row in batch], SCHEMA))
            written += len(batch)
    return written


def import_answers(journal: Journal, source: str | Path) -> MergeResult:
    """Import the answers of an export or of another journal: all of them, or none.

    A request that this journal answers already keeps its answer. Other processes that write to the journal wait while
    the import runs.

    Raises:
        StarError: If the source cannot be read or a row is not a valid answer; the message has its number, from 1.
    """
    source = Path(source)
    try:
        with source.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise StarError(f"{source} cannot be read ({error.strerror}).", "Give an export or a journal.") from error
    if head.startswith(b"PAR1"):
        return journal.merge(_checked(_parquet_rows(source), source))
    if head != b"SQLite format 3\0":
        if any(left_in(source)):
            raise damaged(source, "its head is not that of an SQLite file")
        raise StarError(
            f"{source} is neither an export nor a journal.",
            "Make one with `star-hf journal export`. If it was one its answers are lost: move it away and run the "
            "same command again.",
        )
    with Journal(source) as other:
        return journal.merge(_checked(_journal_rows(other), source))


def _journal_rows(journal: Journal) -> Iterator[Row]:
    """The answers with the columns of `SCHEMA`, in the order of their keys."""
    for values in journal.rows(f"SELECT {COLUMNS} FROM responses ORDER BY key"):
        row = dict(zip(COLUMNS.split(", "), values, strict=True))
        try:
            completion = completion_of(row.pop("completion"))
        except ValueError as error:
            raise damaged(journal.path, str(error)) from None
        yield {**vars(completion), **row}


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        with pq.ParquetFile(path, buffer_size=1_048_576) as file:
            schema = pa.schema([column for column in SCHEMA if column.name in file.schema_arrow.names])
            if missing := [name for name in SCHEMA.names if name not in {*schema.names, *LATER}]:
                raise StarError(
                    f"{path} is not an export of a journal: it lacks the columns {', '.join(missing)}.",
                    "Make it with `star-hf journal export`.",
                )
            for batch in file.iter_batches(BATCH_ROWS, columns=schema.names):
                for row in pa.Table.from_batches([batch]).select(schema.names).cast(schema).to_pylist():
                    at = row["created_at"]
                    yield {**LATER, **row, "created_at": None if at is None else at.timestamp()}
    except (OSError, OverflowError, ValueError, pa.ArrowException) as error:
        raise StarError(f"{path} cannot be read ({error}).", "Make it again with `star-hf journal export`.") from error


def _storable(row: Row) -> Row:
    """The row as Parquet stores it: no lone surrogates, and a time instead of seconds."""
    return {**encodable_values(row), "created_at": datetime.fromtimestamp(row["created_at"], UTC)}


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += len(row["text"]) + len(row["reasoning"] or "")
        if len(batch) >= BATCH_ROWS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _checked(rows: Iterable[Row], source: Path) -> Iterator[Entry]:
    for number, row in enumerate(rows, start=1):
        problem = _problem(row)
        if problem:
            raise StarError(
                f"{source}, row {number}: {problem}. Nothing of this file was imported.",
                "Fix or remove the row, or export the answers again.",
            )
        completion = Completion(**{name: row[name] for name in COMPLETION})
        yield Entry(completion=completion, **{name: row[name] for name in ENTRY})


def _problem(row: Row) -> str | None:
    """What is wrong with a row, without repeating its text."""
    for column in SCHEMA:
        value = row.get(column.name)
        if value is None:
            if column.name not in NULLABLE:
                return f"{column.name} is missing"
        elif pa.types.is_string(column.type):
            if not isinstance(value, str):
                return f"{column.name} is not text"
        elif isinstance(value, bool) or not isinstance(
            value, int if pa.types.is_integer(column.type) else int | float
        ):
            return f"{column.name} is not a {'whole ' if pa.types.is_integer(column.type) else ''}number"
        elif not 0 <= value < YEAR_10000:
            return f"{column.name} is {value}"
    if not KEY.fullmatch(row["key"]):
        return f"key is not 64 hex digits but {row['key'][:80]!r}"
    if row["outcome"] not in OUTCOMES:
        return f"outcome {row['outcome'][:80]!r} is not one of {', '.join(sorted(OUTCOMES))}"
    return None
