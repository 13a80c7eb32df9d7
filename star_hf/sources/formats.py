"""Readers of the formats in which people keep rows: each yields a row and its place, or why it cannot be read."""

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import Dataset, Features, Json
from datasets.features.features import decode_nested_example

from ..errors import SourceError, first_line
from ..utils.text import join_surrogates


__all__ = ["DAMAGED", "FORMATS", "UNDECODED", "Record", "Refused", "Table", "decoded", "spelled"]

BOMS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""In this order, since the mark of UTF-32 begins with that of UTF-16. In UTF-8 it is stripped from each text."""

BATCH_ROWS = 1000
SEPARATORS = ",;\t|"
END = "\x1aend of file"
"""A last line, which only an open quote swallows."""

UNDECODED = re.compile("[\udc80-\udcff]")
"""What `surrogateescape` makes of bytes that are not UTF-8."""

DAMAGED = "Fix the file or download it again."

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
    """How a table spells a column: as given, else in other letter case or with spaces around it; `None` without it."""
    names = tuple(names)
    return name if name in names else next((own for own in names if own.strip().casefold() == name.casefold()), None)


def _text(stream: Any, path: Path, newline: str | None = None) -> io.TextIOWrapper:
    """The stream as text: by its byte order mark, as UTF-16 if every other byte is zero, else as UTF-8."""
    buffered = io.BufferedReader(stream) if not hasattr(stream, "peek") else stream
    head = buffered.peek(4096)[:4096]
    if not head:
        raise SourceError(f"{path} is empty.", DAMAGED)
    encoding = next((encoding for bom, encoding in BOMS.items() if head.startswith(bom)), "utf-8")
    if encoding == "utf-8" and b"\0" in head:
        odd, even = head[1::2].count(0), head[::2].count(0)
        if abs(odd - even) * 4 > len(head):
            encoding = "utf-16-le" if odd > even else "utf-16-be"
        elif (odd + even) * 10 > len(head):
            raise SourceError(f"{path} is not a text file: it holds zero bytes.", DAMAGED)
    errors = "surrogateescape" if encoding == "utf-8" else "strict"
    return io.TextIOWrapper(buffered, encoding, errors, newline)


def _lines(stream: Any, table: Table) -> Iterator[Record]:
    for number, line in enumerate(_text(stream, table.path), start=1):
        yield f"line {number}", {"text": line.rstrip("\n")}


def _csv(stream: Any, table: Table) -> Iterator[Record]:
    text = _text(stream, table.path, newline="")
    first, before = text.readline(), 0
    separator = table.options.get("sep")
    if stated := re.fullmatch(r"sep=(.)\s*", first, re.IGNORECASE):  # Excel's
        separator, first, before = stated[1], text.readline(), 1
    separator = separator or _separator(first, table)
    records = csv.reader(chain([first], text, [END]), delimiter=separator)
    header = table.options.get("names") or [name.strip("\ufeff") for name in next(records)]
    for name in table.columns:
        if [column.strip().casefold() for column in header].count(name.casefold()) > 1 and header.count(name) != 1:
            raise SourceError(f"{table.path} has several columns `{name}`.", "Rename all but one.")
    start = records.line_num
    for fields in records:
        place, start = f"line {before + start + 1}", records.line_num
        if fields and fields[-1].endswith(END):
            if fields == [END]:
                return
            raise SourceError(f"{table.path}, {place}: a quote opens and never closes.", "Close it, or double it.")
        if len(fields) > len(header) and any(field.strip() for field in fields[len(header) :]):
            yield (
                place,
                Refused(f"{len(fields)} values, but {len(header)} columns: a text with `{separator}` needs quotes"),
            )
        elif fields:
            yield place, dict(zip(header, [*fields, *[""] * len(header)], strict=False))


def _separator(first: str, table: Table) -> str:
    """What separates the values: with it the header has a wanted column, or else the most columns."""
    headers = {separator: next(csv.reader([first], delimiter=separator), []) for separator in SEPARATORS}

    def fit(separator: str) -> tuple[bool, int, bool]:
        header = [name.strip("\ufeff") for name in headers[separator]]
        return any(spelled(header, name) for name in table.columns), len(header), table.tabs and separator == "\t"

    return max(SEPARATORS, key=fit)


def _json_lines(stream: Any, table: Table) -> Iterator[Record]:
    for number, line in enumerate(_text(stream, table.path), start=1):
        if line.strip("\ufeff \t\r\n"):
            yield f"line {number}", _parsed(line)


def _parsed(line: str) -> dict[str, Any] | Refused:
    try:
        return _record(_loads(line))
    except (ValueError, RecursionError) as error:
        return Refused(f"not JSON ({first_line(error)[:100]})")


_DECODER = json.JSONDecoder(parse_constant=lambda _: None)


def _loads(text: str) -> Any:
    """A JSON value; NaN and infinity are no values. Halves of surrogate pairs are joined if all bytes were UTF-8."""
    value = _DECODER.decode(text.strip("\ufeff \t\r\n"))
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
    text = _text(stream, table.path).read()
    try:
        data = _loads(text)
    except json.JSONDecodeError as error:
        first, _, rest = text.strip("\ufeff \t\r\n").partition("\n")
        if not rest or isinstance(_parsed(first), Refused):
            raise SourceError(f"{table.path} is not JSON: {first_line(error)}", DAMAGED) from None
        yield from _json_lines(io.BytesIO(text.encode("utf-8", "surrogateescape")), table)
        return
    rows = data if isinstance(data, list) else _expanded(data, table) if table.expand else [data]
    for number, row in enumerate(rows, start=1):
        yield f"row {number}", _record(row)


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
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def decoded(dataset: Dataset) -> Iterator[dict[str, Any]]:
    """The rows of a data set; values of mixed types, which Arrow stores as JSON, are decoded."""
    mixed = {name: feature for name, feature in dataset.features.items() if _has_json(feature)}
    for table in dataset.with_format("arrow").iter(batch_size=BATCH_ROWS):
        for row in table.to_pylist():
            yield row | {name: decode_nested_example(feature, row[name]) for name, feature in mixed.items()}


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
