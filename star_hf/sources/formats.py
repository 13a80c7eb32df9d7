"""Readers of the formats in which people keep rows: each yields a row and its place, or why it cannot be read."""

import csv
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import Dataset, Features, Json
from datasets.features.features import decode_nested_example

from ..errors import SourceError, first_line
from ..utils.text import INVISIBLE, join_surrogates, normalise
from .encodings import DAMAGED, UNDECODED, text_of


__all__ = ["FORMATS", "Record", "Refused", "Table", "decoded", "spelled"]

BATCH_ROWS = 1000
AROUND = "\ufeff \t\r\n"
"""What may stand around a JSON value or a header."""
_BETWEEN = re.compile(rf"[{AROUND}]*")
SEPARATORS = ",;\t|"
END = f"\x1a{os.urandom(8).hex()}"
"""A last line, which only an open quote swallows."""

csv.field_size_limit(2**31 - 1)  # texts that are too long are removed with that reason, not here


@dataclass(frozen=True)
class Refused:
    """Why a row cannot be read."""

    problem: str


Record = tuple[str, dict[str, Any] | Refused]
"""A row and its place, such as `"line 7"`, or `"row 7"` where there are no lines."""


@dataclass(frozen=True)
class Table:
    """What a reader is given: the file's name for messages, the wanted columns, and options."""

    path: Path
    columns: tuple[str, ...]
    options: Mapping[str, Any]
    expand: bool
    tabs: bool


def spelled(names: Iterable[str], name: str) -> str | None:
    """How a table spells a column: as given, else in other letter case, in wide letters, or with spaces or invisible
    characters around it; `None` without it."""
    names = tuple(names)
    return name if name in names else next((own for own in names if _plain(own) == _plain(name)), None)


def _plain(name: str) -> str:
    return normalise(INVISIBLE.sub("", name))


def _check_names(header: Sequence[str], table: Table) -> None:
    """Refuse a table in which it is unclear which column is meant."""
    plain = [_plain(column) for column in header]
    for name in table.columns or filter(str.strip, header):
        if plain.count(_plain(name)) > 1 and header.count(name) != 1:
            raise SourceError(f"{table.path} has several columns `{name}`.", "Rename all but one.")


def _lines(stream: Any, table: Table) -> Iterator[Record]:
    for number, line in enumerate(text_of(stream, table.path), start=1):
        yield f"line {number}", {"text": line.rstrip("\n")}


def _csv(stream: Any, table: Table) -> Iterator[Record]:
    text = text_of(stream, table.path, newline="")
    first, before = text.readline(), 0
    while first and not first.strip(AROUND):
        first, before = text.readline(), before + 1
    separator = table.options.get("sep")
    if stated := re.fullmatch(r"sep=(.)\s*", first, re.IGNORECASE):  # Excel's
        separator, first, before = stated[1], text.readline(), before + 1
    separator = separator or _separator(first, table)
    # Files of the catalogue are read as they were published, also where a quote is not doubled.
    records = csv.reader(chain([first], text, [END]), delimiter=separator, strict=table.expand)
    header = table.options.get("names") or [name.strip("\ufeff") for name in next(records)]
    _check_names(header, table)
    start = records.line_num
    for fields in _fields(records):
        place, start = f"line {before + start + 1}", records.line_num
        if fields == [END]:
            return
        if fields is None:
            yield place, Refused("text after a closing quote: a quote inside quotes is written twice")
            continue
        if fields and fields[-1].endswith(END):
            raise SourceError(f"{table.path}, {place}: a quote opens and never closes.", "Close it, or double it.")
        if len(fields) > len(header) and any(field.strip() for field in fields[len(header) :]):
            yield (
                place,
                Refused(f"{len(fields)} values, but {len(header)} columns: a text with `{separator}` needs quotes"),
            )
        elif fields:
            yield place, dict(zip(header, [*fields, *[""] * len(header)], strict=False))


def _fields(records: Iterator[list[str]]) -> Iterator[list[str] | None]:
    """The values of each record; `None` if a quote closes in the middle of a value."""
    while True:
        try:
            yield next(records)
        except StopIteration:
            return
        except csv.Error as error:
            yield ["", END] if "end of data" in str(error) else None


def _separator(first: str, table: Table) -> str:
    """What separates the values: with it the header has a wanted column, or else the most columns."""
    headers = {separator: next(csv.reader([first], delimiter=separator), []) for separator in SEPARATORS}

    def fit(separator: str) -> tuple[bool, int, bool]:
        header = [name.strip("\ufeff") for name in headers[separator]]
        return any(spelled(header, name) for name in table.columns), len(header), table.tabs and separator == "\t"

    return max(SEPARATORS, key=fit)


def _json_lines(stream: Any, table: Table) -> Iterator[Record]:
    lines = enumerate(text_of(stream, table.path), start=1)
    number, first = next(((number, line) for number, line in lines if line.strip(AROUND)), (0, ""))
    if table.expand and isinstance(_parsed(first), Refused):
        rest = "".join(line for _, line in lines)
        if (values := _values(first + rest)) is not None:  # a list, or objects that take several lines
            yield from _numbered(values, table)
            return
        lines = enumerate(io.StringIO(rest), start=number + 1)
    for at, line in chain([(number, first)], lines):
        if line.strip(AROUND):
            yield f"line {at}", _parsed(line)


def _values(text: str) -> list[Any] | None:
    """The JSON values of a text that has nothing but these, one after the other."""
    values, place = list[Any](), 0
    text = text.strip(AROUND)
    try:
        while place < len(text):
            value, place = _DECODER.raw_decode(text, place)
            values.append(value)
            place = _BETWEEN.match(text, place).end()
    except (ValueError, RecursionError):
        return None
    return _whole(values, text)


def _numbered(values: list[Any], table: Table) -> Iterator[Record]:
    """The rows of a file of JSON values: one that holds them all, or one for each."""
    if len(values) == 1:
        values = values[0] if isinstance(values[0], list) else _expanded(values[0], table) if table.expand else values
    for number, row in enumerate(values, start=1):
        yield f"row {number}", _record(row)


def _parsed(line: str) -> dict[str, Any] | Refused:
    try:
        return _record(_loads(line))
    except (ValueError, RecursionError) as error:
        return Refused(f"not JSON ({first_line(error)[:100]})")


_DECODER = json.JSONDecoder(parse_constant=lambda _: None)


def _loads(text: str) -> Any:
    """A JSON value; NaN and infinity are no values. Halves of surrogate pairs are joined if all bytes were UTF-8."""
    return _whole(_DECODER.decode(text.strip(AROUND)), text)


def _whole(value: Any, text: str) -> Any:
    return _joined(value) if "\\u" in text and not UNDECODED.search(text) else value


def _joined(value: Any) -> Any:
    if isinstance(value, str):
        return join_surrogates(value)
    if isinstance(value, dict):
        return {_joined(name): _joined(part) for name, part in value.items()}
    return [_joined(part) for part in value] if isinstance(value, list) else value


def _record(value: Any) -> dict[str, Any] | Refused:
    if isinstance(value, str):
        return {"text": value}
    return value if isinstance(value, dict) else Refused(f"a JSON {type(value).__name__}, expected an object")


def _json(stream: Any, table: Table) -> Iterator[Record]:
    text = text_of(stream, table.path).read()
    if (values := _values(text)) is not None:
        yield from _numbered(values, table)
        return
    first, _, rest = text.strip(AROUND).partition("\n")
    if not rest or isinstance(_parsed(first), Refused):
        try:
            _loads(text)
        except json.JSONDecodeError as error:
            raise SourceError(f"{table.path} is not JSON: {first_line(error)}", DAMAGED) from None
    yield from _json_lines(io.BytesIO(text.encode("utf-8", "surrogateescape")), table)


def _expanded(data: Any, table: Table) -> list[Any]:
    """The rows of a table in one JSON object, in the forms that pandas and others write."""
    values = list(data.values()) if isinstance(data, dict) else []
    if (
        isinstance(data, dict)
        and isinstance(names := data.get("columns"), list)
        and isinstance(data.get("data"), list)
    ):
        return [dict(zip(names, row, strict=False)) if isinstance(row, list) else row for row in data["data"]]
    if values and all(isinstance(value, dict) for value in values):
        wanted = any(spelled(data, name) for name in table.columns)
        if wanted or (not table.columns and all(str(key).isdigit() for key in values[0])):
            keys = dict.fromkeys(key for column in values for key in column)
            return [{name: column.get(key) for name, column in data.items()} for key in keys]
        return values
    if len(lists := [value for value in values if isinstance(value, list)]) == 1 and isinstance(
        (lists[0] or [0])[0], dict
    ):
        return lists[0]
    if lists and len(lists) == len(values) and len({len(value) for value in lists}) == 1:
        return [dict(zip(data, row, strict=True)) for row in zip(*lists, strict=True)]
    return [data]


def _parquet(stream: Any, table: Table) -> Iterator[Record]:
    file = pq.ParquetFile(stream)
    _check_names(file.schema_arrow.names, table)
    names = [own for name in table.columns if (own := spelled(file.schema_arrow.names, name)) is not None]
    features = Features.from_arrow_schema(file.schema_arrow)
    mixed = {name: feature for name, feature in features.items() if _has_json(feature)}
    number = 0
    for batch in file.iter_batches(BATCH_ROWS, columns=names or None):
        for row in batch.to_pylist():
            number += 1
            row |= {name: decode_nested_example(mixed[name], row[name]) for name in mixed if name in row}
            yield f"row {number}", {name: _unpacked(value) for name, value in row.items()}


def _unpacked(value: Any) -> Any:
    """Bytes as text, and no value for what is no number: pandas writes that where a value is missing."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def decoded(dataset: Dataset) -> Iterator[dict[str, Any]]:
    """The rows of a data set; values of mixed types, which Arrow stores as JSON, are decoded."""
    mixed = {name: feature for name, feature in dataset.features.items() if _has_json(feature)}
    for table in dataset.with_format("arrow").iter(batch_size=BATCH_ROWS):
        for row in table.to_pylist():
            row |= {name: decode_nested_example(feature, row[name]) for name, feature in mixed.items()}
            yield {name: _unpacked(value) for name, value in row.items()}


def _has_json(feature: Any) -> bool:
    inner = feature.values() if isinstance(feature, dict) else [getattr(feature, "feature", None)]
    return isinstance(feature, Json) or any(_has_json(part) for part in inner if part is not None)


FORMATS: dict[str, Callable[[Any, Table], Iterator[Record]]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".json": _json,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".txt": _lines,
    ".parquet": _parquet,
}
