"""A checked copy of the journal, kept from time to time, and a new journal from what a damaged one still holds."""

import json
import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...errors import StarError
from ...utils.files import locked, replacing
from .checks import answers_in, check_files, damage_of, damaged, left_in, unusable
from .pages import BATCH, RESPONSE, completion_of, copy_of, log_of, read_rows
from .store import Journal


__all__ = ["Repaired", "guarded", "keep_copy", "repair"]

logger = logging.getLogger(__name__)


SAVE_BATCH = """
INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE
SET versions = excluded.versions, file_id = excluded.file_id, batch_id = excluded.batch_id, ended = excluded.ended
WHERE (excluded.ended, excluded.batch_id IS NOT NULL, excluded.file_id IS NOT NULL)
    > (ended, batch_id IS NOT NULL, file_id IS NOT NULL)
"""
"""Of several states of a batch the last: an old one may be left in the log or in the copy."""


@dataclass(frozen=True)
class Repaired:
    """What a repair saved.

    Attributes:
        answers (`int`): Answers in the new journal.
        lost (`int`): Answers that are known to have been there and could not be read. There may be more.
        kept (`Path` or `None`): Where the damaged file is now, or its log; `None` if nothing was damaged.
    """

    answers: int
    lost: int
    kept: Path | None


@contextmanager
def guarded(path: str | Path) -> Iterator[Journal]:
    """A journal that can be written to. A checked copy of it is kept when the block ends, also with an error."""
    with Journal(path) as journal:
        journal.execute("DELETE FROM batches WHERE FALSE")  # without permission it fails before anything is paid
        try:
            yield journal
        finally:
            keep_copy(journal)


def keep_copy(journal: Journal) -> None:
    """Copy a journal to `<name>.copy.sqlite` beside it, if it has changed and is sound. A problem is only logged."""
    path = copy_of(journal.path)
    try:
        if not journal.changed and answers_in(path) == len(journal):
            return
        with replacing(path) as fresh:
            with closing(sqlite3.connect(fresh, isolation_level=None)) as db:
                journal.backup(db)
                db.execute("PRAGMA journal_mode=DELETE")  # a copy is one file
            if problem := damage_of(fresh):
                raise damaged(journal.path, problem)
    except (OSError, sqlite3.Error, StarError) as error:
        logger.warning("No copy of the journal is kept in %s: %s", path, error)


def repair(path: Path) -> Repaired:
    """Make a new journal of all that can be read in a damaged one, in its log and in its copy.

    The damaged files are kept beside it under another name. A sound journal stays as it is. It may be killed at any
    instant and run again: what was read becomes the copy before the damaged files are moved.

    Raises:
        BusyError: If another process works in the folder.
        StarError: If there is nothing to save, or it cannot be written.
    """
    with locked(path.parent):
        check_files(path)
        try:
            return _repaired(path)
        except (OSError, sqlite3.Error) as error:
            raise unusable(path, error) from error


def _repaired(path: Path) -> Repaired:
    if path.is_file() and path.stat().st_size and _is_sound(path):
        with Journal(path) as journal:
            return Repaired(len(journal), 0, None)
    fresh = path.with_name(f".{path.stem}.repaired{path.suffix}")
    try:
        _remove(fresh)
        with Journal(fresh) as journal:
            answers, lost = _save(path, journal)
            journal.execute("PRAGMA journal_mode=DELETE")  # the copy is one file
        os.replace(fresh, copy_of(path))
    finally:
        _remove(fresh)
    kept = _moved_aside(path)
    with replacing(path) as new:
        shutil.copyfile(copy_of(path), new)
    return Repaired(answers, lost, kept)


def _save(path: Path, journal: Journal) -> tuple[int, int]:
    """Put all that can be read into a new journal; returns how many answers there are, and how many are lost."""
    found = False
    with journal.transaction():
        for source in (copy_of(path), path):  # the copy was sound when it was made
            for kind, values in read_rows(source):
                if kind == RESPONSE:
                    journal.execute("INSERT OR IGNORE INTO responses VALUES (?, ?, ?, ?, ?, ?, ?)", values[:7])
                elif kind == BATCH:
                    journal.execute(SAVE_BATCH, values[:8])
                found = True
    if not found:
        raise StarError(
            f"Nothing of a journal is in {path}, in its log or in a copy. Nothing was changed.",
            "Name a journal's file. If it was one its answers are lost: move it away and run the same command again.",
        )
    return len(journal), sum(key not in journal for key in left_in(path)[1])


def _is_sound(path: Path) -> bool:
    if damage_of(path):
        return False
    try:
        with Journal(path) as journal:
            for (text,) in journal.rows("SELECT completion FROM responses"):
                completion_of(text)
            return all(isinstance(json.loads(text), dict) for (text,) in journal.rows("SELECT versions FROM batches"))
    except (StarError, TypeError, ValueError):
        return False


def _moved_aside(path: Path) -> Path:
    """Give the damaged files another name; the new one of the file itself."""
    number = 1
    while (kept := path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")).exists() or log_of(kept).exists():
        number += 1
    for old, new in ((path, kept), (log_of(path), log_of(kept))):
        if old.exists():
            os.replace(old, new)
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    return kept if kept.exists() else log_of(kept)


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
