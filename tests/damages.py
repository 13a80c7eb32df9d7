"""What happens to files: cut, flipped, moved, swapped, of another version, without room or permission."""

import contextlib
import ctypes
import os
import random
import resource
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


__all__ = [
    "HEAD",
    "Damage",
    "cases",
    "changed",
    "cut",
    "flipped",
    "full_disk",
    "holding",
    "obeying_permissions",
    "other_database",
]

Damage = Callable[[Path], None]

HEAD = {"page size": 16, "write version": 18, "read version": 19, "pages": 28, "free pages": 36, "schema": 44}
HEAD |= {"encoding": 56, "layout": 60}
"""Where what is in the head of an SQLite file."""


def cases(table: dict[str, Any], every: int = 5) -> list[Any]:
    """Parameters of a test by their names: every fifth in each run, the others in the long form."""
    rows = [(name, values if isinstance(values, tuple) else (values,)) for name, values in table.items()]
    marks = [() if number % every == 0 else pytest.mark.long for number in range(len(rows))]
    return [pytest.param(*values, id=name, marks=mark) for (name, values), mark in zip(rows, marks, strict=True)]


def cut(keep: float | int) -> Damage:
    """Keep a share of a file, so many bytes, or all but so many."""

    def damage(path: Path) -> None:
        size = path.stat().st_size
        os.truncate(path, int(size * keep) if isinstance(keep, float) else keep if keep >= 0 else size + keep)

    return damage


def changed(at: int | float, content: bytes) -> Damage:
    """Write bytes over others at a place, or at a share of the size."""

    def damage(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(int(path.stat().st_size * at) if isinstance(at, float) else at)
            file.write(content)

    return damage


def flipped(seed: int, bits: int = 1, low: float = 0.0) -> Damage:
    """Flip random bits after the share `low` of a file."""

    def damage(path: Path) -> None:
        rng, content = random.Random(seed), bytearray(path.read_bytes())
        for _ in range(bits):
            content[rng.randrange(int(low * len(content)), len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)

    return damage


def holding(content: bytes | None) -> Damage:
    """Put other content in place of a file; a folder with `None`."""

    def damage(path: Path) -> None:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        path.mkdir() if content is None else path.write_bytes(content)

    return damage


def other_database(path: Path) -> None:
    """Put another program's database in place of a file."""
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
        db.execute("INSERT INTO bookmarks VALUES ('http://localhost')")


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file may become larger than so many bytes, which fails as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def obeying_permissions() -> Iterator[None]:
    """Permissions hold for this thread, and those that it starts, also if root runs it."""
    libc = ctypes.CDLL(None, use_errno=True)
    head = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    libc.capget(head, sets)
    effective, sets[0] = sets[0], sets[0] & ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    libc.capset(head, sets)
    try:
        yield
    finally:
        sets[0] = effective
        libc.capset(head, sets)
