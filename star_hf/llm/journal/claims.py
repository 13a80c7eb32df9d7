"""Which run asks what: runs on one journal share its open requests, so that none is asked, and paid, twice."""

import sqlite3
import time
import uuid
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ...errors import StarError
from .store import Journal


__all__ = ["Claims"]

_CREATE = "CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL) WITHOUT ROWID"

YOUNG_S = 60.0
"""A lock may be this old and not be taken yet."""


class Claims:
    """The requests that this run is asking, in the journal's file.

    A claim holds as long as its owner holds the lock on a file of its own beside the journal, which a process that is
    killed no longer does. Each request must be looked up in the journal again after it was claimed: another run may
    have answered it meanwhile.
    """

    def __init__(self, journal: Journal):
        self._journal = journal
        self._owner = uuid.uuid4().hex
        self._lock = FileLock(self._file(self._owner), blocking=False)

    def __enter__(self) -> "Claims":
        self._journal.execute(_CREATE)
        self._lock.acquire()
        # Not every lock that there is: one that its run has just made, and not taken yet, would be taken from it.
        left = [owner for (owner,) in self._journal.execute("SELECT DISTINCT owner FROM claims")]
        old = (path for path in self._journal.path.parent.glob(self._file("*").name) if _age_s(path) > YOUNG_S)
        for owner in {*left, *(path.suffixes[-2][1:] for path in old)}:
            self.is_gone(owner)
        return self

    def __exit__(self, *error: object) -> None:
        self.release()
        self._lock.release()
        with suppress(OSError):
            self._file(self._owner).unlink(missing_ok=True)

    def take(self, keys: Collection[str]) -> set[str]:
        """Claim requests, and return those that are now this run's; the others are another's."""
        execute, marks = self._journal.execute, ", ".join("?" * len(keys))
        with self._journal.transaction():
            for key in keys:
                execute("INSERT OR IGNORE INTO claims VALUES (?, ?)", (key, self._owner))
            found = execute(f"SELECT key FROM claims WHERE owner = ? AND key IN ({marks})", (self._owner, *keys))
            return {key for (key,) in found}

    def release(self) -> None:
        """Give up all claims. Those that cannot be removed, on a full disk, end with this run's lock."""
        with suppress(StarError, sqlite3.Error):
            self._journal.execute("DELETE FROM claims WHERE owner = ?", (self._owner,))

    def free(self, keys: Iterable[str]) -> bool:
        """Whether one of these requests is nobody's any more."""
        owners = set()
        for key in keys:
            claim = self._journal.execute("SELECT owner FROM claims WHERE key = ?", (key,)).fetchone()
            if claim is None:
                return True
            owners.add(claim[0])
        return any(self.is_gone(owner) for owner in owners)

    def is_gone(self, owner: str) -> bool:
        """Whether another run has ended; its claims are removed if so."""
        lock, path = FileLock(self._file(owner), blocking=False), self._file(owner)
        try:
            lock.acquire()
        except Timeout:
            return False
        try:
            self._journal.execute("DELETE FROM claims WHERE owner = ?", (owner,))
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            lock.release()
        return True

    def _file(self, owner: str) -> Path:
        return self._journal.path.with_name(f".{self._journal.path.name}.{owner}.run")


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:  # its run has just ended
        return 0.0
