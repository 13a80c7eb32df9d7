"""The batch provider: requests answered through a provider's Batch API within a day, at half the price.

Requests become lines of a file, the file is uploaded, and a batch is created from it. Each step is committed in the
journal's file ([`~star_hf.llm.batch.ledger.BatchLedger`]) before the next one, so that a process may be killed between
any two: the next one finds the batch by its name, which is in its metadata, and goes on waiting.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from ...errors import ConfigError
from ..endpoint import Batch, Endpoint
from ..http.replies import words
from ..http.wire import CHAT, Api
from ..types import Keyed, OnResult
from .api import BatchApi, BatchUnavailable, input_files, result_of
from .ledger import BatchLedger, Submitted


__all__ = ["BatchProvider"]

logger = logging.getLogger(__name__)

SETTLE_S = 20.0
"""A batch that the provider does not list this long after it was planned does not exist."""
FIRST_POLL_S = 2.0
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


class BatchProvider:
    """An endpoint through its Batch API.

    Requests that a batch does not answer, since it expired, failed or was cancelled, stay open, and so do fewer
    requests than `at_least`: another provider answers those. If the endpoint's `batch` is unset, only open batches are
    collected. `answered` says whether the request of a key has an answer, and `note` shows what is being waited for.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        ledger: BatchLedger,
        answered: Callable[[str], bool],
        note: Callable[[str], None],
        api: Api = CHAT,
    ):
        self._endpoint, self._ledger, self._answered, self._note, self._what = endpoint, ledger, answered, note, api
        self._settings = endpoint.batch or Batch()

    def complete(self, requests: Iterator[Keyed], on_result: OnResult) -> list[str]:
        """See [`~star_hf.llm.types.Provider`]; batches of earlier runs are collected, too."""
        deadline_s, member = self._endpoint.deadline_s, self._endpoint.members[0]
        give_up_at = None if deadline_s is None else time.monotonic() + deadline_s
        with self._ledger.locked(), BatchApi(member, self._settings, self._what) as self._api:
            try:
                self._recover()
                if self._endpoint.batch is not None:
                    self._submit(requests)
                return self._collect(on_result, give_up_at)
            except BatchUnavailable as error:
                return [str(error)]

    def _recover(self) -> None:
        """Find the batches that a killed process created without noting their id; forget those it did not create."""
        for batch in self._ledger.open():
            if batch.batch_id is not None:
                continue
            found = self._api.find(batch)
            if found is None and (young := batch.created_at + SETTLE_S - time.time()) > 0:
                time.sleep(min(young, SETTLE_S))
                found = self._api.find(batch)
            if found is None:
                self._ledger.forget(batch.name)
            else:
                self._ledger.created(batch.name, found)

    def _submit(self, requests: Iterator[Keyed]) -> None:
        """Create batches of the requests that no batch had yet."""
        settings, ledger, member = self._settings, self._ledger, self._endpoint.members[0]
        known = ledger.left().union(*(batch.versions for batch in ledger.open()))
        fresh = (keyed for keyed in requests if keyed[0] not in known)
        for number, (versions, file) in enumerate(input_files(member, fresh, settings, self._what)):
            with file:
                if number == 0 and len(versions) < min(settings.at_least, settings.max_requests):
                    return
                batch = ledger.plan(versions)
                file.seek(0)
                file_id = self._api.upload(batch.name, file)
                ledger.uploaded(batch.name, file_id)
                batch_id = self._api.create(replace(batch, file_id=file_id))
                ledger.created(batch.name, batch_id)
                logger.info("batch %s of %d requests was sent to %s", batch_id, len(versions), self._endpoint.url)

    def _collect(self, on_result: OnResult, give_up_at: float | None) -> list[str]:
        """Wait until every batch has ended, and keep the results of each."""
        pause = min(FIRST_POLL_S, self._settings.poll_s)
        while waiting := self._ledger.open():
            for number, batch in enumerate(waiting, start=1):
                there = self._api.look(batch)
                counts = there.request_counts
                done = f"{counts.completed + counts.failed} of {counts.total}" if counts else f"{len(batch.versions)}"
                self._note(f"batch {number}/{len(waiting)} {words(there.status)}, {done}")
                if there.status in ENDED:
                    self._take_in(batch, there, on_result)
            if not self._ledger.open():
                break
            if give_up_at is not None and time.monotonic() + pause > give_up_at:
                state = f"batch {batch.batch_id} is {words(there.status)}, {done} requests"
                return [f"{state}, and the deadline of this stage has passed"]
            time.sleep(pause)
            pause = min(pause * 1.5, self._settings.poll_s)
        return []

    def _take_in(self, batch: Submitted, there: Any, on_result: OnResult) -> None:
        """Keep the results of a batch, then note that it ended and which requests it did not answer."""
        refusal = None
        for file_id in filter(None, (there.output_file_id, there.error_file_id)):
            for line in self._api.lines(file_id):
                key, found = result_of(self._endpoint, line, self._what)
                if isinstance(found, ConfigError):
                    refusal = refusal or found
                elif found is not None and key in batch.versions and not self._answered(key):
                    on_result(key, found)
        if refusal is not None:
            self._ledger.forget(batch.name)  # so that a later run sends what is left in a new batch
            raise refusal
        left = [key for key in batch.versions if not self._answered(key)]
        problems = list(getattr(there.errors, "data", None) or [])
        if any(problem.code == "token_limit_exceeded" for problem in problems):
            self._ledger.forget(batch.name)
            raise BatchUnavailable(
                f"{words(problems[0].message)} The batch was not run. Make batches smaller with `batch.max_requests`, "
                "or wait until other batches of the account have ended."
            )
        self._ledger.ended(batch, left)
        if left:
            why = f": {words(problems[0].message)}" if problems else ""
            logger.warning(
                "batch %s %s with %d of %d requests unanswered, which are asked live%s",
                batch.batch_id, there.status, len(left), len(batch.versions), why,
            )  # fmt: skip
