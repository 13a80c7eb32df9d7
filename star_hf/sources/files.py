"""Read a table or a text file row by row, whatever its format, compression and encoding."""

import bz2
import gzip
import lzma
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from ..errors import SourceError, StarError, first_line
from .encodings import DAMAGED, UNDECODED
from .formats import FORMATS, Record, Refused, Table, spelled


__all__ = ["rows_in"]

COMPRESSIONS = (".bz2", ".gz", ".xz", ".zip", ".zst")
OPENERS: dict[bytes, Callable[[BinaryIO], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x28\xb5\x2f\xfd": lambda file: pa.input_stream(file, compression="zstd"),
    b"PK\x03\x04": lambda file: _only_member(file)[0],
}
"""The first bytes of compressed files, which count more than the file's name, and what opens them."""


def rows_in(
    path: Path,
    columns: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    expand: bool = True,
    needed: Sequence[str] = (),
) -> Iterator[Record]:
    """The rows of a file, with only these columns; with all if a row has none of them, or of those that are needed.

    A column is also found in other letter case and with spaces around its name. In csv files all values are text. With
    `expand`, a csv file must write a quote inside quotes twice, so that no text is read in another way than was meant.

    Args:
        options (`Mapping`, *optional*): Of a csv file: `sep`, and `names` if it has no header.
        expand (`bool`, defaults to `True`): Whether one JSON object can be a table, written column by column or with
            its rows under a key; otherwise it is one row.

    Raises:
        [`SourceError`]: If the file is missing, empty, of another format, or damaged as a whole.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise SourceError(f"{path} is a {'folder' if path.is_dir() else 'pipe or a device'}.", "Name one file.")
    if not os.path.isfile(path):
        raise SourceError(f"There is no file {path}.", "Check the path.")
    empty = True
    try:
        suffix = _suffix(path)
        table = Table(path, tuple(columns), options or {}, expand, tabs=suffix == ".tsv")
        with path.open("rb") as file, _opened(file) as stream:
            for place, row in FORMATS[suffix](stream, table):
                empty = False
                yield place, row if isinstance(row, Refused) else _chosen(row, columns, needed)
    except StarError:
        raise
    except Exception as error:
        raise SourceError(f"{path} cannot be read: {first_line(error)}", DAMAGED) from error
    if empty:
        raise SourceError(f"{path} has no rows.", DAMAGED)


def _chosen(row: dict[str, Any], columns: Sequence[str], needed: Sequence[str]) -> dict[str, Any] | Refused:
    """The wanted columns of a row, if their texts could be decoded."""
    own = _own_names(tuple(row), tuple(columns))
    if own and (not needed or not own.keys().isdisjoint(needed)):
        row = {name: row[key] for name, key in own.items()}
    if any(isinstance(value, str) and not value.isascii() and UNDECODED.search(value) for value in row.values()):
        return Refused("not UTF-8")
    return {name: value.lstrip("\ufeff") if isinstance(value, str) else value for name, value in row.items()}


@lru_cache(maxsize=256)
def _own_names(names: tuple[str, ...], columns: tuple[str, ...]) -> dict[str, str]:
    """The wanted columns that a row has, with the row's own spelling."""
    return {name: key for name in columns if (key := spelled(names, name)) is not None}


def _suffix(path: Path) -> str:
    """The suffix that says the format, without that of a compression; in a zip archive that of the only file."""
    name = path
    if name.suffix.lower() in COMPRESSIONS:
        name = name.with_suffix("")
        if path.suffix.lower() == ".zip" and zipfile.is_zipfile(path):
            with path.open("rb") as file:
                name = Path(_only_member(file)[1])
    suffix = name.suffix.lower()
    if suffix not in FORMATS:
        raise SourceError(
            f"{path}: files of type `{suffix[:20]}` are not supported.", f"Use one of {', '.join(FORMATS)}."
        )
    return suffix


def _only_member(file: BinaryIO) -> tuple[Any, str]:
    """The only file in a zip archive, opened, and its name."""
    archive = zipfile.ZipFile(file)
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
    if len(names) != 1:
        raise SourceError(f"{file.name} holds {len(names)} files.", "Unpack it, and name one of the files.")
    return archive.open(names[0]), names[0]


@contextmanager
def _opened(file: BinaryIO) -> Iterator[Any]:
    """The content of a file, without its compression."""
    head = file.read(8)
    file.seek(0)
    opener = next((opener for magic, opener in OPENERS.items() if head.startswith(magic)), None)
    if opener is None or (head.startswith(b"BZh") and not head[4:].startswith(b"1AY&")):
        yield file
        return
    with opener(file) as stream:
        yield stream
