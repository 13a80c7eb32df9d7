"""Read the files of a source, from the Hub or from a local copy, as rows with the requested columns."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from datasets import Dataset, Json, load_dataset

from ..errors import SourceError, first_line
from ..utils.network import NETWORK_ERRORS, unreachable
from ..utils.text import counted, listed
from .catalogue import Source
from .files import rows_in
from .formats import Refused, decoded
from .readers import Drop, Reader, Take, draw


__all__ = [
    "BUILDERS",
    "MissingSourceError",
    "read_file",
    "read_own_texts",
    "read_rows",
    "read_source",
    "read_takes",
]

logger = logging.getLogger(__name__)

BUILDERS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".txt": "text", ".parquet": "parquet"}
"""The dataset builder of each format in which sources are published."""

MOST_REFUSED, MOST_REFUSED_SHARE = 10, 0.05
"""Rows of a user's file that may be unreadable: this many, or this share if that is more."""


class MissingSourceError(SourceError):
    """A source that is missing or not accessible; a run can continue without it.

    `down` is whether no server answered: then neither the name nor the permission is known to be wrong.
    """

    def __init__(self, message: str, remedy: str | None = None, down: bool = False):
        super().__init__(message, remedy)
        self.down = down


def read_source(
    source: Source, sources_dir: Path | None = None, option: str = "--sources-dir"
) -> Iterator[dict[str, Any]]:
    """The rows of a source, with only the columns that its card lists: of the card's files, or of a local copy.

    Messages call the folder of local copies by `option`.

    Raises:
        [`MissingSourceError`]: If the files cannot be accessed.
        [`SourceError`]: If they cannot be parsed.
    """
    if sources_dir is not None:
        for file in local_files(source, Path(sources_dir), option):
            yield from read_rows(file, source.columns, source.options)
        return
    try:
        dataset = load_dataset(str(source.folder), split="train")
    except Exception as error:
        said = first_line(error.__cause__ or error)
        if unreachable(error, source.files[0]):
            problem = f"{source.files[0]}: the server cannot be reached ({said})"
            raise MissingSourceError(problem, _remedy(source, option, down=True), down=True) from error
        if isinstance(error, NETWORK_ERRORS):
            raise MissingSourceError(f"{source.files[0]}: {said}", _remedy(source, option)) from error
        raise SourceError(
            f"{source.name}: {source.files[0]} cannot be read: {said}",
            f"Compare its card, {source.folder / 'README.md'}, with {source.homepage}.",
        ) from error
    yield from _rows(dataset, source.columns, source.files[0])


def read_takes(source: Source, reader: Reader, rows: Iterable[dict[str, Any]]) -> Iterable[Take]:
    """Apply a source's function to each of its rows; only a sample of the results if the benchmark is one.

    Raises:
        [`SourceError`]: If a row has no such column.
    """
    takes = _apply(source, reader, rows)
    return takes if source.subset is None else draw(source, [take for take in takes if not isinstance(take, Drop)])


def _apply(source: Source, reader: Reader, rows: Iterable[dict[str, Any]]) -> Iterator[Take]:
    for row in rows:
        try:
            yield reader(row)
        except KeyError as error:
            raise SourceError(
                f"{source.name}: no column {error}, only {listed(row)}.",
                f"Expected {' / '.join(source.columns) or 'question'}: compare with {source.homepage}.",
            ) from None


def read_file(
    path: Path, columns: Sequence[str] = (), needed: Sequence[str] = (), refused: list[str] | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of a user's own file, with only these columns, as text; with all columns, as they are, for none.

    Args:
        needed (`Sequence[str]`): A row needs one of these columns.
        refused (`list[str]`, *optional*): Takes the place of each row that cannot be read, and why. Without it, one
            such row is an error; with it, more than 10 of them that are also more than 5% of the rows.

    Raises:
        [`SourceError`]: If the file or too many of its rows cannot be read.
    """
    found, kept = list[str](), 0
    for place, row in rows_in(path, columns, needed=needed):
        row = _as_texts(row, columns, needed)
        if not isinstance(row, Refused):
            kept += 1
            yield row
            continue
        found.append(f"{place}: {row.problem}")
        if refused is None:
            break
    most = 0 if refused is None else max(MOST_REFUSED, MOST_REFUSED_SHARE * (kept + len(found)))
    if found and not kept and found[0].partition(": ")[2].startswith("no column"):
        raise SourceError(f"{path} has {found[0].partition(': ')[2]}.", "Rename the column with the texts.")
    if found and (len(found) > most or not kept):
        many = "" if refused is None else f"{counted(len(found), 'row')} of {kept + len(found):,} cannot be read. "
        raise SourceError(f"{path}: {many}{found[0]}.", _remedy_for(path, found))
    if found and refused is not None:
        refused += found
        logger.warning(
            "%s: %s cannot be read: %s. %s",
            path,
            counted(len(found), "row"),
            "; ".join(found[:3]),
            _remedy_for(path, found),
        )


def read_own_texts(path: Path, refused: list[str] | None = None) -> Iterator[tuple[dict[str, Any], str]]:
    """Each row of a user's own file with its text: a line of a `.txt` file, a text in a JSON list, or the column
    `question`; `refused` is as for [`read_file`]."""
    for row in read_file(path, ("question", "source", "text"), ("question", "text"), refused):
        yield row, (row["question"] if "question" in row else row["text"]) or ""


def read_rows(
    path: Path, columns: Sequence[str] = (), options: dict[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of a source's file, with only these columns; with all if none of them exists.

    The file is csv, tsv, json, jsonl, txt or parquet, and may be compressed or alone in a zip archive. The options are
    those of the card, such as `sep`.

    Raises:
        [`SourceError`]: If the file is missing, or a row cannot be read.
    """
    for place, row in rows_in(path, columns, options, expand=False):
        if isinstance(row, Refused):
            raise SourceError(f"{path}, {place}: {row.problem}.", _remedy_for(path, [row.problem]))
        yield row


def local_files(source: Source, sources_dir: Path, option: str) -> list[Path]:
    """The files of a source's local copy; messages call its folder by `option`."""
    if not sources_dir.is_dir():
        raise SourceError(f"There is no folder {sources_dir}.", f"Check {option}.")
    files = []
    for pattern in source.local:
        found = sorted((sources_dir / source.name).glob(pattern))
        if not found:
            raise MissingSourceError(
                f"There is no file {sources_dir / source.name / pattern}.",
                f"Put the file from {source.homepage} there, or leave out {option} to read from the Hub.",
            )
        files += found
    return files


def _as_texts(
    row: dict[str, Any] | Refused, columns: Sequence[str], needed: Sequence[str]
) -> dict[str, Any] | Refused:
    if isinstance(row, Refused):
        return row
    if needed and not any(name in row for name in needed):
        return Refused(f"no column `{needed[0]}`; its columns are {listed(row)}")
    if wrong := [name for name in columns if isinstance(row.get(name), bool | list | dict)]:
        return Refused(f"`{wrong[0]}` is a {type(row[wrong[0]]).__name__}, expected text")
    return {
        name: value if name not in columns or isinstance(value, str | None) else str(value)
        for name, value in row.items()
    }


def _rows(dataset: Dataset, columns: Sequence[str], place: str) -> Iterator[dict[str, Any]]:
    if mixed := [name for name in columns if isinstance(dataset.features.get(name), Json)]:
        raise SourceError(
            f"{place}: the values of {', '.join(mixed)} are not all of one type.", "Store questions as strings."
        )
    known = [name for name in columns if name in dataset.column_names]
    yield from decoded(dataset.select_columns(known) if known else dataset)


def _remedy_for(path: Path, refused: Sequence[str]) -> str:
    """What a user can do about rows that were refused."""
    if any(problem.endswith("not UTF-8") for problem in refused):
        fresh = path.with_name(f"{path.stem}.utf8{path.suffix}")
        return (
            "Save it as UTF-8. Its encoding may be GB18030 (Chinese), CP932 (Japanese) or WINDOWS-1251 (Cyrillic). "
            "If it was written by a Western European Windows: "
            f"iconv -f WINDOWS-1252 -t UTF-8 {quote(str(path))} > {quote(str(fresh))}"
        )
    return "Correct these rows."


def _remedy(source: Source, option: str, down: bool = False) -> str:
    copy = f"or put a local copy at DIR/{source.name}/{source.local[0]} and pass {option} DIR."
    if down:
        return f"Check the network and run the same command again, {copy}"
    if source.gated == "none":
        return f"Check the network and {source.homepage}, {copy}"
    asked = "Ask for access at" if source.gated == "manual" else "Accept the conditions at"
    return f"{asked} {source.homepage} and set HF_TOKEN, {copy}"
