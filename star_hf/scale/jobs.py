"""Shards on Hugging Face Jobs, which see no local folder: shards and answers are copied through a bucket.

A job downloads its shard, works on it as any worker does, and uploads the journal each minute and at the end. A job
that is killed loses at most the answers of a minute.
"""

import logging
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs

from ..utils.files import replacing
from .shard import TABLES, ShardTask


__all__ = ["BucketTask", "in_bucket"]

logger = logging.getLogger(__name__)

JOURNAL = "journal.sqlite"
OUTPUTS = ("problem.txt", *(f"{name}.parquet" for name in TABLES))
"""What a worker writes beside its journal, in the order of copying: `rows` marks the shard as done."""


@dataclass(frozen=True)
class BucketTask:
    """A shard's task for a worker that can access only the bucket folder `remote`; uploads the journal every
    `period_s`."""

    task: ShardTask
    remote: str
    period_s: float = 60

    def __call__(self, data: Any, rank: int, world_size: int) -> None:
        """Download the shard of a rank, run it, and upload the result."""
        name = self.task.shards[rank]
        fs, root = url_to_fs(f"{self.remote}/{name}")
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder, name)
            place.mkdir()
            for file in (JOURNAL, "input.parquet"):
                fs.get_file(f"{root}/{file}", str(place / file))
            with _uploaded(fs, place, root, self.period_s):
                replace(self.task, folder=Path(folder))(data, rank, world_size)


@contextmanager
def in_bucket(place: Path, remote: str, shards: tuple[str, ...]) -> Iterator[None]:
    """Copy shards to a bucket for this block. Their results are downloaded before and after it.

    A missing bucket is created, private.
    """
    if remote.startswith("hf://buckets/"):
        from huggingface_hub import create_bucket

        owner, bucket = remote.removeprefix("hf://buckets/").split("/")[:2]
        create_bucket(f"{owner}/{bucket}", private=True, exist_ok=True)
    fs, root = url_to_fs(remote)
    fs.invalidate_cache()
    for name in shards:
        if not _download(fs, f"{root}/{name}", place / name):
            fs.makedirs(f"{root}/{name}", exist_ok=True)
            _upload_journal(fs, place / name, f"{root}/{name}")
            fs.put_file(str(place / name / "input.parquet"), f"{root}/{name}/input.parquet")
    try:
        yield
    finally:
        fs.invalidate_cache()
        for name in shards:
            _download(fs, f"{root}/{name}", place / name)


def _download(fs: Any, there: str, place: Path) -> bool:
    """Download a shard's results, if the bucket has the whole shard. Its journal is never older than the local one."""
    if not fs.exists(f"{there}/input.parquet"):
        return False
    for name in (JOURNAL, *OUTPUTS):
        if fs.exists(f"{there}/{name}"):
            with replacing(place / name) as fresh:
                fs.get_file(f"{there}/{name}", str(fresh))
    return True


@contextmanager
def _uploaded(fs: Any, place: Path, there: str, period_s: float) -> Iterator[None]:
    """Upload the journal again and again during this block, and everything at the end."""
    ended = threading.Event()

    def again() -> None:
        while not ended.wait(period_s):
            try:
                _upload_journal(fs, place, there)
            except Exception as error:  # only the last upload must succeed; if it fails, so does the job
                logger.warning("the journal of shard %s was not uploaded: %s", place.name, error)

    uploading = threading.Thread(target=again, daemon=True)
    uploading.start()
    try:
        yield
    finally:
        ended.set()
        uploading.join()
        _upload_journal(fs, place, there)
        for name in OUTPUTS:
            if (place / name).exists():
                fs.put_file(str(place / name), f"{there}/{name}")


def _upload_journal(fs: Any, place: Path, there: str) -> None:
    """Upload a consistent copy of the journal, even while it is being written to."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, JOURNAL)
        with closing(sqlite3.connect(place / JOURNAL)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        fs.put_file(str(copy), f"{there}/{JOURNAL}")
