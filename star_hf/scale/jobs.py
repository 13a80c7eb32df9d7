"""Shards on Hugging Face Jobs, which see no folder of ours: carried to a bucket, and home with their answers.

A job takes its shard out of the bucket, works on it as any worker does, and puts the journal back each minute and when
it ends. A job that is killed so loses no more than the answers of a minute.
"""

import logging
import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs

from .shard import ShardTask


__all__ = ["CarriedTask", "carried"]

logger = logging.getLogger(__name__)

JOURNAL = "journal.sqlite"
OUTPUTS = ("problem.txt", "removed.parquet", "provenance.parquet", "rows.parquet")
"""What a worker leaves beside its journal; `rows` goes last, since it says that the shard is done."""


@dataclass(frozen=True)
class CarriedTask:
    """A shard's task for a worker that reaches only the bucket.

    Args:
        task ([`~star_hf.scale.shard.ShardTask`]): What is done with the shard.
        remote (`str`): Folder of the shards in the bucket.
        period_s (`float`, defaults to 60): Seconds between two copies of the journal.
    """

    task: ShardTask
    remote: str
    period_s: float = 60

    def __call__(self, data: Any, rank: int, world_size: int) -> None:
        """Take the shard of a rank, run it, and put back what came of it."""
        name = self.task.shards[rank]
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder, name)
            _take(f"{self.remote}/{name}", place)
            with _copied(place, f"{self.remote}/{name}", self.period_s):
                replace(self.task, folder=Path(folder))(data, rank, world_size)


@contextmanager
def carried(place: Path, remote: str, shards: tuple[str, ...]) -> Iterator[None]:
    """Shards lie in the bucket while this lasts; what came of them is home before and after.

    Args:
        place (`Path`): The folder that the shards are in.
        remote (`str`): Theirs in the bucket.
        shards (`tuple[str, ...]`): Their names.
    """
    _make_bucket(remote)
    fs, root = url_to_fs(remote)
    fs.invalidate_cache()
    for name in shards:
        if not _bring(fs, f"{root}/{name}", place / name):
            fs.makedirs(f"{root}/{name}", exist_ok=True)
            _put_journal(place / name, f"{remote}/{name}")
            fs.put_file(str(place / name / "input.parquet"), f"{root}/{name}/input.parquet")
    try:
        yield
    finally:
        fs.invalidate_cache()
        for name in shards:
            _bring(fs, f"{root}/{name}", place / name)


def _make_bucket(remote: str) -> None:
    """Make the bucket, private, if the remote folder is in one that is not there."""
    if remote.startswith("hf://buckets/"):
        from huggingface_hub import create_bucket

        owner, name = remote.removeprefix("hf://buckets/").split("/")[:2]
        create_bucket(f"{owner}/{name}", private=True, exist_ok=True)


def _bring(fs: Any, there: str, place: Path) -> bool:
    """Take a shard home, if it is there whole: the bucket's journal is never older than the one at home."""
    if not fs.exists(f"{there}/input.parquet"):
        return False
    for name in (JOURNAL, *OUTPUTS):
        if fs.exists(f"{there}/{name}"):
            fresh = place / f".{name}.new"
            fs.get_file(f"{there}/{name}", str(fresh))
            os.replace(fresh, place / name)
    return True


def _take(remote: str, place: Path) -> None:
    fs, root = url_to_fs(remote)
    place.mkdir(parents=True)
    for name in (JOURNAL, "input.parquet"):
        fs.get_file(f"{root}/{name}", str(place / name))


@contextmanager
def _copied(place: Path, remote: str, period_s: float) -> Iterator[None]:
    """Put the journal back again and again, and everything in the end."""
    ended = threading.Event()

    def again() -> None:
        while not ended.wait(period_s):
            try:
                _put_journal(place, remote)
            except Exception as error:  # the last copy is what counts, and it does fail the job
                logger.warning("the journal of shard %s was not copied: %s", place.name, error)

    copying = threading.Thread(target=again, daemon=True)
    copying.start()
    try:
        yield
    finally:
        ended.set()
        copying.join()
        _put_journal(place, remote)
        fs, root = url_to_fs(remote)
        for name in OUTPUTS:
            if (place / name).exists():
                fs.put_file(str(place / name), f"{root}/{name}")


def _put_journal(place: Path, remote: str) -> None:
    """A consistent copy of the journal, whoever writes to it meanwhile."""
    fs, root = url_to_fs(remote)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, JOURNAL)
        with closing(sqlite3.connect(place / JOURNAL)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        fs.put_file(str(copy), f"{root}/{JOURNAL}")
