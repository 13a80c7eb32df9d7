"""Our own files: written whole or not at all, read back with one readable error, hashed, and locked by folder."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from ..errors import BusyError, ConfigError, StarError, first_line


if TYPE_CHECKING:
    from datasets import Dataset

__all__ = [
    "digest",
    "locked",
    "made_folder",
    "parse_json",
    "read_json",
    "read_table",
    "read_text",
    "replacing",
    "sha256_of",
    "unwritable",
    "write_json",
    "write_table",
    "write_text",
]


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Write a file so that others see the old one or the whole new one, never a part. Its folder is created.

    Yields:
        `Path`: Where to write. The file is renamed to `path` when the block ends, and removed if the block fails.

    Raises:
        [`StarError`]: If it cannot be written.

    Example:

    ```python
    >>> with replacing("results.json") as fresh:
    ...     fresh.write_text("{}")
    ```
    """
    path = Path(path)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield fresh
            os.replace(fresh, path)
        finally:
            if fresh.is_file():
                fresh.unlink()
    except OSError as error:
        if error.errno is None:  # of a network, not of a file
            raise
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> StarError:
    """The error for a file or a folder that cannot be written: a foreign file or folder in its place is named."""
    for place in (path, *path.parents):
        if os.path.isdir(place) if place == path and path.suffix else os.path.isfile(place):
            kind, meant = ("folder", "file") if place == path else ("file", "folder")
            return StarError(
                f"{place} is a {kind}, and a {meant} is to be written there.",
                "Move it away, or name another place; then run the same command again.",
            )
    return StarError(
        f"{path} cannot be written ({error.strerror or error}).",
        "Check the permissions of its folder and the space on the disk, then run the same command again.",
    )


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with replacing(path) as fresh:
        fresh.write_text(text, encoding="utf-8")


def write_json(path: str | Path, data: Any) -> None:
    """Write a value as indented JSON atomically; what JSON does not have, such as a path, becomes a string."""
    write_text(path, json.dumps(data, indent=2, default=str, ensure_ascii=False) + "\n")


def write_table(table: "Dataset", path: str | Path) -> None:
    """Write a data set as one Parquet file atomically."""
    with replacing(path) as fresh, fresh.open("wb") as file:  # a path with `::` would be read as an address
        table.to_parquet(file)


def read_text(path: str | Path, what: str) -> str:
    """A text that a user wrote, such as `"the policy"`, without the space around it. Raises [`ConfigError`] if the
    file cannot be read or has no text."""
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{what.capitalize()} {path} cannot be read: {first_line(error)}.", "Give the path of a UTF-8 text file."
        ) from None
    if not text:
        raise ConfigError(f"{what.capitalize()} {path} is empty.", "Write its text into the file.")
    return text


def read_json(path: str | Path, remedy: str | None = None, error: type[StarError] = StarError) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        [`StarError`]: Or another class, `error`: if the file is missing, damaged or truncated, or holds no object.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as problem:
        raise error(f"{path}: {problem.strerror}.", _readable(problem, remedy)) from None
    return parse_json(content, path, remedy, error)


def parse_json(
    content: bytes, where: str | Path, remedy: str | None = None, error: type[StarError] = StarError
) -> dict[str, Any]:
    """As [`read_json`], of content that is in memory; `where` is its name in messages."""
    try:
        data = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as problem:
        raise error(f"{where} is damaged: it is not JSON ({first_line(problem)}).", remedy) from None
    if not isinstance(data, dict):
        raise error(f"{where} holds a {type(data).__name__}, expected an object.", remedy)
    return data


def read_table(path: str | Path, remedy: str | None = None, **options: Any) -> "Dataset":
    """Read a Parquet file into memory. Nothing is copied into a cache that could become outdated.

    The options are those of `pyarrow.parquet.read_table`, such as `columns` and `filters`.

    Raises:
        [`StarError`]: If the file is missing or damaged.
    """
    import pyarrow.parquet as pq
    from datasets import Dataset
    from pyarrow import ArrowException

    if Path(path).is_dir():  # of which pyarrow would read all files
        raise StarError(f"{path} is a folder, and a Parquet file is meant.", remedy)
    try:
        return Dataset(pq.read_table(path, **options))
    except FileNotFoundError:
        raise StarError(f"There is no file {path}.", remedy) from None
    except (ArrowException, OSError, ValueError) as problem:
        raise StarError(
            f"{path} cannot be read as Parquet: {first_line(problem)}", _readable(problem, remedy)
        ) from None


def _readable(problem: Exception, remedy: str | None) -> str | None:
    """The remedy for a damaged file, unless nothing is known to be damaged."""
    return "Check its permissions, and those of its folder." if isinstance(problem, PermissionError) else remedy


def digest(value: Any) -> str:
    """SHA-256 of a JSON value in hex, independent of the order of keys; of other values, their strings are hashed."""
    return sha256_of(json.dumps(value, sort_keys=True, default=str).encode())


def sha256_of(content: bytes | Path) -> str:
    """SHA-256 of some bytes, or of a file, in hex."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(folder: str | Path, name: str = ".lock") -> Iterator[None]:
    """Keep other processes out of a folder, which is created. A killed process leaves no lock behind.

    Raises:
        [`BusyError`]: If another process holds the lock.
        [`ConfigError`]: If it cannot be created, or nothing can be written in it.
    """
    folder = made_folder(folder)
    lock = FileLock(folder / name, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(
            f"Another process works in {folder}.", "Wait until it has finished, or use another folder."
        ) from None
    except OSError as error:
        raise _no_folder(folder, error) from None
    try:
        yield
    finally:
        lock.release()


def made_folder(folder: str | Path) -> Path:
    """A folder, which is created with those above it if it does not exist.

    Raises:
        [`ConfigError`]: If it cannot be created, or is a file.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _no_folder(folder, error) from None
    return folder


def _no_folder(folder: Path, error: OSError) -> ConfigError:
    place = next((place for place in (folder, *folder.parents) if os.path.isfile(place)), folder)
    away = f", or move {place} away and run the same command again" if os.path.isfile(place) else ""
    return ConfigError(
        f"{place} cannot be used as a folder: {error.strerror or error}.",
        f"Name a folder that you can write to{away}.",
    )
