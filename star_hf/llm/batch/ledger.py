"""The record of batches in the journal's file: each step is committed before the next one."""

import json
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ...utils.files import locked
from ..journal import Journal
from ..journal.checks import damaged


__all__ = ["BatchLedger", "Submitted"]

_COLUMNS = "name, versions, file_id, batch_id, created_at"


@dataclass(frozen=True)
class Submitted:
    """One batch in progress, with the prompt version of each request by key, and the provider's ids once known.

    Our own `name` for it is in its metadata.
    """

    name: str
    versions: dict[str, str]
    file_id: str | None
    batch_id: str | None
    created_at: float


class BatchLedger:
    """The batches of one stage and endpoint, as the journal records them."""

    def __init__(self, journal: Journal, stage: str, endpoint: str):
        self._journal = journal
        self._where = (stage, endpoint)

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes from sending the same requests."""
        return locked(self._journal.path.parent, f"{self._journal.path.name}.batches.lock")

    def open(self) -> list[Submitted]:
        """Batches that were not collected yet, the oldest first."""
        rows = self._journal.rows(
            f"SELECT {_COLUMNS} FROM batches WHERE stage = ? AND endpoint = ? AND NOT ended ORDER BY created_at, name",
            self._where,
        )
        return [Submitted(name, self._versions(versions), *others) for name, versions, *others in rows]

    def left(self) -> set[str]:
        """Requests that a batch did not answer before it ended: they are asked live."""
        rows = self._journal.rows(
            "SELECT versions FROM batches WHERE stage = ? AND endpoint = ? AND ended", self._where
        )
        return {key for (versions,) in rows for key in self._versions(versions)}

    def plan(self, versions: Mapping[str, str]) -> Submitted:
        """Record that a batch of these requests is about to be created."""
        planned = Submitted(uuid.uuid4().hex, dict(versions), None, None, time.time())
        self._journal.execute(
            "INSERT INTO batches (name, stage, endpoint, versions, created_at) VALUES (?, ?, ?, ?, ?)",
            (planned.name, *self._where, json.dumps(planned.versions), planned.created_at),
        )
        return planned

    def uploaded(self, name: str, file_id: str) -> None:
        """Record that the provider has the input file."""
        self._journal.execute("UPDATE batches SET file_id = ? WHERE name = ?", (file_id, name))

    def created(self, name: str, batch_id: str) -> None:
        """Record that the provider has the batch."""
        self._journal.execute("UPDATE batches SET batch_id = ? WHERE name = ?", (batch_id, name))

    def ended(self, batch: Submitted, left: Iterable[str]) -> None:
        """Record that all results of a batch were kept, and that requests in `left` have none."""
        versions = json.dumps({key: batch.versions[key] for key in left})
        self._journal.execute("UPDATE batches SET ended = 1, versions = ? WHERE name = ?", (versions, batch.name))

    def forget(self, name: str) -> None:
        """Remove a batch that the provider never had, or did not run."""
        self._journal.execute("DELETE FROM batches WHERE name = ?", (name,))

    def _versions(self, text: str) -> dict[str, str]:
        try:
            return dict(json.loads(text))
        except (TypeError, ValueError):
            raise damaged(self._journal.path, "a batch in it is damaged") from None
