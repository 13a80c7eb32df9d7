"""The journal: every answer of a model is on disk before anyone uses it, so that nothing is paid twice."""

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..types import Completion
from .checks import COLUMNS, LAYOUT, check_files, check_layout, damage_of, damaged, unusable
from .pages import completion_of


__all__ = ["Entry", "Journal", "MergeResult"]

CHECKPOINT_PAGES = 10_000
"""Pages of 4 KB after which the log is written into the file; all requests in flight wait for that."""
BUSY_S = 60.0
"""Seconds that a write waits for another process."""

_CHECKED = set[tuple[str, int, bool]]()
"""Files that this process has checked."""

_CREATE_RESPONSES = """
CREATE TABLE IF NOT EXISTS responses (
    key TEXT PRIMARY KEY,
    stage TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    version TEXT NOT NULL,
    completion TEXT NOT NULL,
    cost_usd REAL,
    created_at REAL NOT NULL
)
"""
_CREATE_BATCHES = """
CREATE TABLE IF NOT EXISTS batches (
    name TEXT PRIMARY KEY,
    stage TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    versions TEXT NOT NULL,
    file_id TEXT,
    batch_id TEXT,
    ended INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL
)
"""


@dataclass(frozen=True)
class Entry:
    """One entry of the journal: the answer to the request `key`, with who asked where and with which prompt version.

    Attributes:
        cost_usd (`float` or `None`): Its cost in dollars, if the price was known.
        created_at (`float`): When it arrived, in seconds since 1970, to the microsecond.
    """

    key: str
    stage: str
    endpoint: str
    version: str
    completion: Completion
    cost_usd: float | None
    created_at: float = field(default_factory=lambda: round(time.time(), 6), compare=False)


@dataclass(frozen=True)
class MergeResult:
    """How many answers a merge added, and how many the journal had already; it keeps its own where texts differ."""

    new: int
    present: int
    differing: int


class Journal:
    """Answers by request key in one SQLite file, shared by the processes of one host.

    An answer is committed before `put` returns. The file is in WAL mode with `synchronous=NORMAL`: a process may be
    killed at any instant (`kill -9`) and loses nothing that was committed. A power cut or a crash of the operating
    system never damages the file, but can lose the last answers; those are asked, and paid, again. WAL needs memory
    shared by all processes that open the file, so a journal must not be on a network file system that several hosts
    write to: give each host its own journal and merge them.

    Each process must open the file itself; a journal must not be used across a fork.

    Args:
        path (`str` or `Path`): The file; created with its folder if it does not exist.

    Raises:
        StarError: If the file cannot be opened, is not a journal, or has another layout.

    Example:

    ```python
    >>> with Journal("runs/star-1/journal.sqlite") as journal:
    ...     len(journal)
    ```
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._backed_up = 0  # changes by this object that a backup has
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._check()
            # One connection, used from one thread at a time; `annotate` may run its loop in another thread.
            self._db = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise unusable(self.path, error) from error
        try:
            self._open()
        except BaseException:
            self._db.close()
            raise

    def get(self, key: str) -> Entry | None:
        """The entry of a request, or `None` if it was never answered."""
        row = next(self.rows(f"SELECT {COLUMNS} FROM responses WHERE key = ?", (key,)), None)
        if row is None:
            return None
        key, stage, endpoint, version, completion, cost_usd, created_at = row
        try:
            return Entry(key, stage, endpoint, version, completion_of(completion), cost_usd, created_at)
        except ValueError as error:
            raise damaged(self.path, str(error)) from None

    def put(self, entry: Entry) -> bool:
        """Commit an answer, and return whether it is new: the first answer to a request is kept, others are dropped.

        Raises:
            StarError: If it cannot be written: the disk is full, or another process writes for a minute.
        """
        completion = json.dumps(vars(entry.completion))
        values = (entry.key, entry.stage, entry.endpoint, entry.version, completion, entry.cost_usd, entry.created_at)
        return self.execute("INSERT OR IGNORE INTO responses VALUES (?, ?, ?, ?, ?, ?, ?)", values).rowcount == 1

    def merge(self, entries: Iterable[Entry]) -> MergeResult:
        """Add many answers in one transaction: all of them, or none if anything fails. First answers are kept."""
        new = present = differing = 0
        with self.transaction():
            for entry in entries:
                if self.put(entry):
                    new += 1
                    continue
                present += 1
                there = self.get(entry.key)
                differing += there is not None and there.completion.text != entry.completion.text
        return MergeResult(new, present, differing)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all that the block puts at once, or nothing if it fails or the process is killed."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.rollback()

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run an SQL statement on the tables `responses` and `batches`.

        Raises:
            StarError: If SQLite cannot run it, with what to check.
        """
        try:
            return self._db.execute(statement, parameters)
        except sqlite3.Error as error:
            raise unusable(self.path, error) from error

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows that an SQL statement selects. Raises as [`~Journal.execute`] does, also in the middle."""
        try:
            for row in self._db.execute(statement, parameters):  # noqa: UP028  (it would close the cursor too late)
                yield row
        except sqlite3.Error as error:
            raise unusable(self.path, error) from error

    def size(self) -> int:
        """Bytes on disk, including the write-ahead log."""
        files = (self.path, self.path.with_name(f"{self.path.name}-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def cost(self) -> float:
        """Dollars that all answers cost together, as far as their prices are known."""
        return next(self.rows("SELECT TOTAL(cost_usd) FROM responses"))[0]

    def __contains__(self, key: str) -> bool:
        return next(self.rows("SELECT 1 FROM responses WHERE key = ?", (key,)), None) is not None

    def __len__(self) -> int:
        return next(self.rows("SELECT COUNT(*) FROM responses"))[0]

    @property
    def changed(self) -> bool:
        """Whether anything was written by this object since its last backup."""
        return self._db.total_changes > self._backed_up

    def backup(self, target: sqlite3.Connection) -> None:
        """Copy all of it, as it is at this instant, into another database."""
        changes = self._db.total_changes
        self._db.backup(target)
        self._backed_up = changes

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _check(self) -> None:
        """Check the file before anything is written to it: its content once in a process, its layout each time."""
        check_files(self.path)
        identity = _identity(self.path)
        if identity is None or identity not in _CHECKED:
            if problem := damage_of(self.path):
                raise damaged(self.path, problem)
        if identity is not None and identity[-1]:
            check_layout(self.path)
            _CHECKED.add(identity)

    def _open(self) -> None:
        """Prepare the file."""
        self._use_wal()
        self.execute("PRAGMA synchronous=NORMAL")
        self.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        if next(self.rows("PRAGMA user_version")) == (LAYOUT,):
            return
        with self.transaction():
            self.execute(_CREATE_RESPONSES)
            self.execute(_CREATE_BATCHES)
            self.execute(f"PRAGMA user_version={LAYOUT}")

    def _use_wal(self) -> None:
        """SQLite does not wait for other processes when it switches a new file to WAL, so we do."""
        deadline = time.monotonic() + BUSY_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.Error as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise unusable(self.path, error) from error
                time.sleep(0.01)


def _identity(path: Path) -> tuple[str, int, bool] | None:
    """What tells a file from another in its place, and whether anything is in it; `None` if there is none."""
    if not path.exists():
        return None
    stat = path.stat()
    return str(path.absolute()), stat.st_ino, bool(stat.st_size)
