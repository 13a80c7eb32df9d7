"""Files that are whole or not there: atomic writes, and one lock per folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from ..errors import BusyError


if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["locked", "replacing", "write_table", "write_text"]


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Write a file so that others see the old one or the whole new one, never a part.

    Args:
        path (`str` or `Path`): The file; its folder is created.

    Yields:
        `Path`: Where to write. The file is renamed to `path` when the block ends, and removed if the block fails.

    Example:

    ```python
    >>> with replacing("results.json") as fresh:
    ...     fresh.write_text("{}")
    ```
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        yield fresh
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with replacing(path) as fresh:
        fresh.write_text(text, encoding="utf-8")


def write_table(table: "Dataset", path: str | Path) -> None:
    """Write a data set as one Parquet file atomically."""
    with replacing(path) as fresh:
        table.to_parquet(fresh)


@contextmanager
def locked(folder: str | Path, name: str = ".lock") -> Iterator[None]:
    """Keep other processes out of a folder. A killed process leaves no lock behind.

    Args:
        folder (`str` or `Path`): The folder; it is created.
        name (`str`, defaults to `".lock"`): The lock's file in it.

    Raises:
        [`BusyError`]: If another process holds the lock.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / name, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(
            f"Another process works in {folder}.", "Wait until it has finished, or use another folder."
        ) from None
    try:
        yield
    finally:
        lock.release()
