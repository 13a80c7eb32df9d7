"""Which batches a provider was given: in the journal's file, committed before each next step."""

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from filelock import FileLock, Timeout

from ...errors import StarError
from ..journal import Journal


__all__ = ["Ledger", "Submitted"]

_COLUMNS = "name, versions, file_id, batch_id, created_at"


@dataclass(frozen=True)
class Submitted:
    """One batch on its way.

    Attributes:
        name (`str`): Our own name for it, which its metadata carry.
        versions (`dict[str, str]`): Prompt version of each request, by request key.
        file_id, batch_id (`str` or `None`): The provider's ids of the input file and the batch, once it gave them.
        created_at (`float`): When it was planned, in seconds since 1970.
    """

    name: str
    versions: dict[str, str]
    file_id: str | None
    batch_id: str | None
    created_at: float


class Ledger:
    """The batches of one stage and endpoint.

    Args:
        journal (`Journal`): Where they are kept.
        stage (`str`): The annotator that asks.
        endpoint (`str`): Where it asks, as in request keys.
    """

    def __init__(self, journal: Journal, stage: str, endpoint: str):
        self._journal = journal
        self._where = (stage, endpoint)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from handing out the same requests; a killed process leaves no lock behind.

        Raises:
            StarError: If another process has batches of this journal in hand.
        """
        try:
            with FileLock(f"{self._journal.path}.batches.lock", blocking=False):
                yield
        except Timeout:
            raise StarError(
                f"Another process has batches of {self._journal.path} in hand.", "Wait for it, or stop it."
            ) from None

    def open(self) -> list[Submitted]:
        """Batches that have not been collected, the oldest first."""
        rows = self._journal.execute(
            f"SELECT {_COLUMNS} FROM batches WHERE stage = ? AND endpoint = ? AND NOT ended ORDER BY created_at, name",
            self._where,
        )
        return [_submitted(row) for row in rows.fetchall()]

    def left(self) -> set[str]:
        """Requests that a batch ended without answering: they are to be asked live."""
        rows = self._journal.execute(
            "SELECT versions FROM batches WHERE stage = ? AND endpoint = ? AND ended", self._where
        )
        return {key for (versions,) in rows for key in json.loads(versions)}

    def plan(self, versions: Mapping[str, str]) -> Submitted:
        """A batch is about to be made of these requests."""
        planned = Submitted(uuid.uuid4().hex, dict(versions), None, None, time.time())
        self._journal.execute(
            "INSERT INTO batches (name, stage, endpoint, versions, created_at) VALUES (?, ?, ?, ?, ?)",
            (planned.name, *self._where, json.dumps(planned.versions), planned.created_at),
        )
        return planned

    def uploaded(self, name: str, file_id: str) -> None:
        """The provider has the input file."""
        self._journal.execute("UPDATE batches SET file_id = ? WHERE name = ?", (file_id, name))

    def created(self, name: str, batch_id: str) -> None:
        """The provider has the batch."""
        self._journal.execute("UPDATE batches SET batch_id = ? WHERE name = ?", (batch_id, name))

    def ended(self, batch: Submitted, left: Iterable[str]) -> None:
        """All that the batch brought is in the journal; `left` it did not answer."""
        versions = json.dumps({key: batch.versions[key] for key in left})
        self._journal.execute("UPDATE batches SET ended = 1, versions = ? WHERE name = ?", (versions, batch.name))

    def forget(self, name: str) -> None:
        """The provider never had this batch, or refused it whole."""
        self._journal.execute("DELETE FROM batches WHERE name = ?", (name,))


def _submitted(row: tuple[Any, ...]) -> Submitted:
    name, versions, file_id, batch_id, created_at = row
    return Submitted(name, json.loads(versions), file_id, batch_id, created_at)
