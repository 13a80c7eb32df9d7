"""What is wrong with a journal, found before anything is written to it, and what the user can do about it."""

import shlex
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from ...errors import StarError, first_line
from ...utils.text import counted
from .log import log_is_damaged
from .pages import BATCH, KEY, RESPONSE, copy_of, log_of, page_size, read_rows


__all__ = [
    "COLUMNS",
    "LAYOUT",
    "answers_in",
    "check_files",
    "check_layout",
    "damage_of",
    "damaged",
    "left_in",
    "reader",
    "unusable",
]

LAYOUT = 3
"""Layout 1 has no table `batches`, which is added when such a journal is opened; answers of layouts 1 and 2 have no
`finish_reason` and `usage`."""
COLUMNS = "key, stage, endpoint, version, completion, cost_usd, created_at"
"""Of the table `responses`."""
WAIT_S = 60.0
"""Seconds that reading waits for another process."""

_PERMISSIONS = "Check the permissions of its folder and of its files"
_BUSY = "Wait until another process, which is writing to it, has ended"
_DISK = "Make room on its disk, and check that it is a local disk and no network file system"
REMEDIES = {
    sqlite3.SQLITE_PERM: _PERMISSIONS,
    sqlite3.SQLITE_AUTH: _PERMISSIONS,
    sqlite3.SQLITE_READONLY: _PERMISSIONS,
    sqlite3.SQLITE_CANTOPEN: _PERMISSIONS,
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_FULL: _DISK,
    sqlite3.SQLITE_IOERR: _DISK,
    sqlite3.SQLITE_PROTOCOL: _DISK,
    sqlite3.SQLITE_NOLFS: _DISK,
    sqlite3.SQLITE_NOMEM: "The memory is full: end other programs",
    sqlite3.SQLITE_INTERRUPT: "It was interrupted",
}
"""By SQLite's code: what keeps a whole file from being used. Every other error is of a damaged file."""


def reader(path: Path) -> sqlite3.Connection:
    """A connection that changes neither the file nor its log, also when it is closed."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=WAIT_S, isolation_level=None)


def check_files(path: Path) -> None:
    """Raise a `StarError` if a folder is in the place of a journal's file, or of one that SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        place = path.with_name(f"{path.name}{suffix}")
        if place.is_dir():
            raise StarError(
                f"{place} is a folder, and a journal is a file.",
                "Name a journal's file, or move it away and run the same command again.",
            )


def damage_of(path: Path) -> str | None:
    """What is wrong with a journal's file; `None` if it is sound or there is none yet. Nothing is written.

    Raises:
        OSError, sqlite3.Error: If the file cannot be read.
    """
    copy, log = copy_of(path), log_of(path)
    if not _holds(path):
        left = log if _holds(log) else copy if copy.is_file() else None
        if left is None or _holds(path):  # another process has just begun it
            return None
        return f"it is {'empty' if path.exists() else 'missing'}, but {left.name} is there"
    with path.open("rb") as file:
        if page_size(file.read(100)) is None:
            return "its head is not that of an SQLite file"
    if log_is_damaged(log):
        return f"its log {log.name} is damaged"
    try:
        with closing(reader(path)) as db:
            (found,) = db.execute("PRAGMA integrity_check(1)").fetchone()
            if found != "ok":
                return " ".join(found.split())[:200]
            answers = _answers(db)
        if (missing := answers_in(copy) - answers) > 0:
            return f"it lacks {counted(missing, 'answer')} that {copy.name} has"
    except sqlite3.Error as error:
        if _code(error) in REMEDIES and not _is_unfinished(error):
            raise
        return None if _is_unfinished(error) else first_line(error)
    return None


def check_layout(path: Path) -> None:
    """Raise a `StarError` if a file is a journal of another version, or another program's. Nothing is written."""
    try:
        with closing(reader(path)) as db:
            (layout,) = db.execute("PRAGMA user_version").fetchone()
            tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            columns = ", ".join(row[1] for row in db.execute("PRAGMA table_info(responses)"))
    except sqlite3.Error as error:
        if _is_unfinished(error):
            return
        raise
    if layout > LAYOUT:
        raise StarError(
            f"{path} has journal layout {layout}; this star_hf reads layout {LAYOUT}.",
            f"Upgrade star_hf. If no newer one wrote the file, it is damaged: run {_repair(path)}.",
        )
    if tables and columns != COLUMNS:
        kept, *_ = left_in(path)
        if kept or not columns:
            what = f"the columns {columns} in" if columns else "no"
            raise damaged(path, f"it has the tables {', '.join(tables)}, with {what} `responses`")
        raise StarError(
            f"{path} is a journal of an older layout ({columns}) that this star_hf does not read.",
            "Export it with the star_hf that wrote it (`star-hf journal export`), then import the export here "
            "(`star-hf journal import`).",
        )


def unusable(path: Path, error: Exception) -> StarError:
    """The error for a journal that could not be opened, read or written."""
    if isinstance(error, OSError):
        what, remedy = error.strerror or str(error), "Check the path, its permissions and the space on the disk"
    elif remedy := REMEDIES.get(_code(error), ""):
        what = str(error)
    else:
        return damaged(path, "text in it cannot be decoded" if "decode" in str(error) else first_line(error))
    return StarError(
        f"{path} cannot be used ({what}). The answers in it are kept.", f"{remedy}; then run the same command again."
    )


def damaged(path: Path, what: str) -> StarError:
    """The error for a damaged journal: what is wrong, how much can be saved, and how."""
    kept, lost, batches = left_in(path)
    if not (kept or lost or batches or copy_of(path).is_file()):
        return StarError(
            f"{path} is not a journal ({what}), and no answer in it can be read.",
            "Name a journal's file. If it was one its answers are lost: move it away and run the same command again.",
        )
    missing = f", {len(lost):,} cannot" if lost else ""
    copied = f" Its copy {copy_of(path).name} is there too." if copy_of(path).is_file() else ""
    return StarError(
        f"{path} is damaged: {what}. {counted(len(kept), 'answer')} in it can be read{missing}.{copied}",
        f"Run {_repair(path)}.",
    )


def left_in(path: Path) -> tuple[set[str], set[str], set[str]]:
    """The keys of the answers that can be read in a file and its log, of those that cannot, and names of batches."""
    found: dict[str, set[str]] = {RESPONSE: set(), KEY: set(), BATCH: set()}
    try:
        for kind, values in read_rows(path):
            found[kind].add(values[0])
    except OSError:
        pass
    return found[RESPONSE], found[KEY] - found[RESPONSE], found[BATCH]


def _holds(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def answers_in(copy: Path) -> int:
    """How many answers a copy of a journal has; none if there is no copy, or it is damaged."""
    try:
        with closing(reader(copy)) as db:
            return _answers(db)
    except sqlite3.Error:
        return 0


def _answers(db: sqlite3.Connection) -> int:
    """How many answers there are; none in a database of another program."""
    try:
        return db.execute("SELECT COUNT(*) FROM responses").fetchone()[0]
    except sqlite3.OperationalError as error:
        if _code(error) == sqlite3.SQLITE_ERROR:
            return 0
        raise


def _repair(path: Path) -> str:
    return (
        f"`star-hf journal repair {shlex.quote(str(path))}`, which saves them and keeps the file beside, and then "
        "the same command again: only what is lost is asked again"
    )


def _is_unfinished(error: Any) -> bool:
    """Whether another process was killed while it made a new file, which is undone when the file is opened."""
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_ROLLBACK


def _code(error: Any) -> int:
    """SQLite's primary code of an error; 0 for one of Python's own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
