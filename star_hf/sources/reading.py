"""Read the files of a source, from the Hub or from a local copy, as rows with the requested columns."""

import codecs
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any

import httpx
from datasets import Dataset, Json, load_dataset
from datasets.features.features import decode_nested_example
from datasets.utils import logging

from ..errors import SourceError, first_line
from ..utils.progress import quiet_datasets
from .catalogue import Source
from .readers import Drop, Reader, Take, draw


__all__ = ["BUILDERS", "MissingSourceError", "decoded", "read_file", "read_rows", "read_source", "read_takes"]

BATCH_ROWS = 1000
BUILDERS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".txt": "text", ".parquet": "parquet"}
COMPRESSIONS = {".bz2", ".gz", ".xz", ".zst"}


class MissingSourceError(SourceError):
    """A source that is missing or not accessible; a run can continue without it."""


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
        yield from _read_files(local_files(source, Path(sources_dir), option), source.columns, source.options)
        return
    try:
        dataset = load_dataset(str(source.folder), split="train")
    except (OSError, httpx.HTTPError) as error:
        raise MissingSourceError(
            f"{source.files[0]}: {first_line(error.__cause__ or error)}", _remedy(source, option)
        ) from error
    except Exception as error:
        raise SourceError(
            f"{source.name}: {source.files[0]} cannot be read: {first_line(error.__cause__ or error)}",
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
                f"{source.name}: no column {error}, only {', '.join(row)}.",
                f"Expected {' / '.join(source.columns) or 'question'}: compare with {source.homepage}.",
            ) from None


def read_file(
    path: Path, columns: Sequence[str] = ("question", "source", "text"), what: str = "questions"
) -> Iterator[dict[str, Any]]:
    """As [`read_rows`], of a user's own csv or tsv file without options; an empty cell is an empty text."""
    options = {"sep": "\t" if path.suffix == ".tsv" else ",", "keep_default_na": False}
    yield from read_rows(path, columns, options if _builder(path) == "csv" else {}, what)


def read_own_texts(path: Path) -> Iterator[tuple[dict[str, Any], Any]]:
    """Each row of a user's own file with its text: a line of a `.txt` file, or the column `question`."""
    column = "text" if path.suffix == ".txt" else "question"
    for row in read_file(path):
        if column not in row:
            raise SourceError(
                f"{path} has no column `{column}`; its columns are {', '.join(row)}.",
                f"Rename the column with the texts to `{column}`.",
            )
        yield row, row[column]


def read_rows(
    path: Path, columns: Sequence[str] = (), options: dict[str, Any] | None = None, what: str = "rows"
) -> Iterator[dict[str, Any]]:
    """The rows of a file, with only these columns; with all if none of them exists.

    The file is csv, tsv, json, jsonl, txt or parquet, and may be compressed or alone in a zip archive. The options are
    those of the dataset builder, such as `sep`. Messages call the content `what`.

    Raises:
        [`SourceError`]: If the file is missing or cannot be parsed.
    """
    if not path.is_file():
        raise SourceError(f"There is no file {path}.", f"Check the path of the {what}.")
    yield from _read_files([path], columns, options or {})


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


def _read_files(files: list[Path], columns: Sequence[str], options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows of local files, through a temporary cache, so that edited files are read again.

    `streaming=True` would need no cache but imports torch: 200 MB and a second.
    """
    for path in files:
        builder = _builder(path)
        _check_text(path)
        with tempfile.TemporaryDirectory(prefix="star_hf-") as cache:
            try:
                with quiet_datasets(), _no_errors():
                    dataset = load_dataset(
                        builder, data_files=[escape(str(path))], split="train", cache_dir=cache, **options
                    )
            except Exception as error:
                raise SourceError(
                    f"{path} has no rows that can be read as {builder}: {first_line(error.__cause__ or error)}",
                    "Fix the file or download it again.",
                ) from error
            yield from _rows(dataset, columns, str(path))


@contextmanager
def _no_errors() -> Iterator[None]:
    """Keep `datasets` from logging an error that is raised anyway."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _rows(dataset: Dataset, columns: Sequence[str], place: str) -> Iterator[dict[str, Any]]:
    if mixed := [name for name in columns if isinstance(dataset.features.get(name), Json)]:
        raise SourceError(
            f"{place}: the values of {', '.join(mixed)} are not all of one type.", "Store questions as strings."
        )
    known = [name for name in columns if name in dataset.column_names]
    yield from decoded(dataset.select_columns(known) if known else dataset)


def decoded(dataset: Dataset) -> Iterator[dict[str, Any]]:
    """The rows of a data set; values of mixed types, which Arrow stores as JSON, are decoded."""
    mixed = {name: feature for name, feature in dataset.features.items() if _has_json(feature)}
    for table in dataset.with_format("arrow").iter(batch_size=BATCH_ROWS):
        for row in table.to_pylist():
            yield row | {name: decode_nested_example(feature, row[name]) for name, feature in mixed.items()}


def _has_json(feature: Any) -> bool:
    inner = feature.values() if isinstance(feature, dict) else [getattr(feature, "feature", None)]
    return isinstance(feature, Json) or any(_has_json(part) for part in inner if part is not None)


def _builder(path: Path) -> str:
    """The dataset builder for a file, which may be compressed, or for the only file in a zip archive."""
    name = path.with_suffix("") if path.suffix in COMPRESSIONS else path
    if path.suffix == ".zip" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            name = Path(archive.namelist()[0]) if len(archive.namelist()) == 1 else path
    if name.suffix not in BUILDERS:
        raise SourceError(
            f"{path}: files of type `{name.suffix}` are not supported.", f"Use one of {', '.join(BUILDERS)}."
        )
    return BUILDERS[name.suffix]


def _check_text(path: Path) -> None:
    """Report the position of the first byte that is not UTF-8, which the readers do not."""
    if path.stat().st_size == 0:
        raise SourceError(f"{path} is empty.", "Fix the file or download it again.")
    if path.suffix in COMPRESSIONS | {".parquet", ".zip"}:
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0
    with path.open("rb") as file:
        while True:
            block = file.read(1 << 20)
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                raise SourceError(
                    f"{path} is not UTF-8: byte {offset - pending + error.start} cannot be decoded.",
                    f"Convert it, for example: iconv -f latin1 -t utf-8 {path.name}",
                ) from None
            if not block:
                return
            offset += len(block)


def _remedy(source: Source, option: str) -> str:
    copy = f"or put a local copy at DIR/{source.name}/{source.local[0]} and pass {option} DIR."
    if source.gated == "none":
        return f"Check the network and {source.homepage}, {copy}"
    asked = "Ask for access at" if source.gated == "manual" else "Accept the conditions at"
    return f"{asked} {source.homepage} and set HF_TOKEN, {copy}"
