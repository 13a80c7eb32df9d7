"""The Batch API of OpenAI and of those who offer the same: another way to drain requests, at half the price.

Requests become lines of a file, the file is uploaded, a batch is made of it, and some time within a day its answers
are there. What was done is committed in the journal's file ([`~star_hf.llm.batch.ledger.Ledger`]) before each next
step, so that a process may be killed between any two: the next one finds the batch by its name, which its metadata
carry, and goes on waiting. https://developers.openai.com/api/docs/guides/batch
"""

import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import IO, Any

import openai

from ...errors import ConfigError
from ..endpoint import Batch, Endpoint
from ..http.limits import wait_s
from ..http.sdk import provider_words, refused, sync_client
from ..http.wire import completion_of, error_of, failure_of, parameters, words
from ..journal import Journal
from ..types import Completion, Request
from .ledger import Ledger, Submitted


__all__ = ["Provider", "drain"]

logger = logging.getLogger(__name__)

SETTLE_S = 20.0
"""A batch that the provider does not list this long after it was planned does not exist."""
FIRST_POLL_S = 2.0
CLOCKS_S = 86_400
"""How far the provider's clock may be from ours when its list of batches is searched."""
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
URL = "/v1/chat/completions"

Keep = Callable[[str, Completion, str], None]


def drain(
    endpoint: Endpoint,
    requests: Iterator[tuple[str, Request]],
    keep: Keep,
    journal: Journal,
    ledger: Ledger,
    note: Callable[[str], None],
) -> list[str]:
    """Have requests answered by batches, those of earlier runs included, and wait for them.

    What a batch did not answer, since it expired, failed or was cancelled, is left open, and so is a number of
    requests smaller than `at_least`: ask those live.

    Args:
        endpoint (`Endpoint`): Where to ask. With `batch` unset, only batches that are open already are collected.
        requests (iterator of `(key, Request)`): What is open.
        keep (`Callable`): Called with the key, the completion and the prompt version of each answer.
        journal (`Journal`): Which answers there are already.
        ledger (`Ledger`): Which batches there are.
        note (`Callable`): Called with a few words on what is being waited for.

    Returns:
        `list[str]`: Why it stopped before all batches ended; empty when they did.

    Raises:
        ConfigError: If the provider refuses key, model or account, or has no Batch API.
        StarError: If another process has batches of this journal in hand.
    """
    give_up_at = None if endpoint.deadline_s is None else time.monotonic() + endpoint.deadline_s
    settings = endpoint.batch or Batch()
    with ledger.locked(), Provider(endpoint.members[0], settings) as provider:
        try:
            _recover(ledger, provider)
            if endpoint.batch is not None:
                _submit(endpoint, requests, ledger, provider, settings)
            return _collect(ledger, provider, settings, keep, journal, note, give_up_at)
        except _Unavailable as error:
            return [str(error)]


class _Unavailable(Exception):
    """The provider cannot be asked now, or will not take the batch now."""


class Provider:
    """The four calls of a Batch API.

    Args:
        endpoint (`Endpoint`): Whose API.
        settings (`Batch`): The window that new batches are given.
    """

    def __init__(self, endpoint: Endpoint, settings: Batch):
        self._endpoint, self._settings = endpoint, settings
        self._openai = sync_client(endpoint, timeout=endpoint.timeout_s, max_retries=endpoint.max_retries)

    def __enter__(self) -> "Provider":
        return self

    def __exit__(self, *error: object) -> None:
        self._openai.close()

    def upload(self, name: str, file: IO[bytes]) -> str:
        """Store an input file and return its id."""
        whole = self._call(self._openai.files.create, file=(f"star_hf-{name}.jsonl", file), purpose="batch")
        return whole.id

    def create(self, batch: Submitted) -> str:
        """Make a batch of its uploaded file and return its id. What looks like a failure may have made it, too."""
        create = self._openai.with_options(max_retries=0).batches.create
        for failures in range(self._endpoint.max_retries + 1):
            try:
                made = self._call(
                    create,
                    input_file_id=batch.file_id,
                    endpoint="/chat/completions" if self._endpoint.provider == "azure" else URL,
                    completion_window=self._settings.window,
                    metadata={"star_hf": batch.name},
                )
                return made.id
            except _Unavailable as error:
                logger.info("%s", error)
                time.sleep(wait_s(failures))
            if (found := self.find(batch)) is not None:
                return found
        raise _Unavailable(f"{self._endpoint.url} would not make a batch in {failures + 1} tries")

    def find(self, batch: Submitted) -> str | None:
        """The id of a batch that was made already, by the name in its metadata or by its input file."""
        return self._call(self._search, batch)

    def _search(self, batch: Submitted) -> str | None:
        for there in self._openai.batches.list(limit=100):
            if (there.metadata or {}).get("star_hf") == batch.name:
                return there.id
            if batch.file_id is not None and there.input_file_id == batch.file_id:
                return there.id
            if there.created_at < batch.created_at - CLOCKS_S:
                break
        return None

    def look(self, batch: Submitted) -> Any:
        """The batch as the provider describes it."""
        return self._call(self._openai.batches.retrieve, batch.batch_id)

    def lines(self, file_id: str) -> Iterator[bytes]:
        """The lines of a result file, which is kept on disk meanwhile."""
        with tempfile.TemporaryFile() as file:
            self._call(self._download, file_id, file)
            file.seek(0)
            yield from file

    def _download(self, file_id: str, file: IO[bytes]) -> None:
        file.seek(0)
        file.truncate()
        with self._openai.files.with_streaming_response.content(file_id) as content:
            for chunk in content.iter_bytes(1 << 20):
                file.write(chunk)

    def _call(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call, and turn what can go wrong into what a user can act on."""
        url = self._endpoint.url
        try:
            return call(*arguments, **options)
        except (openai.NotFoundError, openai.BadRequestError) as error:
            raise ConfigError(
                f"{url} does not take part in a batch: {error.status_code} {provider_words(self._endpoint, error)}",
                "Where the provider has no Batch API, remove `batch` from the endpoint. Where it has one, use the "
                "account that made the batches of this journal.",
            ) from None
        except openai.APIStatusError as error:
            said = f"{url} answered {error.status_code}: {provider_words(self._endpoint, error)}"
            raise refused(self._endpoint, error) or _Unavailable(said) from None
        except openai.APIError as error:
            cause = error.__cause__ or error
            raise _Unavailable(f"{url}: {type(cause).__name__}: {words(cause)}") from None


def _recover(ledger: Ledger, provider: Provider) -> None:
    """Find what a killed process had made without noting its id; forget what was never made."""
    for batch in ledger.open():
        if batch.batch_id is not None:
            continue
        found = provider.find(batch)
        if found is None and (young := batch.created_at + SETTLE_S - time.time()) > 0:
            time.sleep(min(young, SETTLE_S))
            found = provider.find(batch)
        if found is None:
            ledger.forget(batch.name)
        else:
            ledger.created(batch.name, found)


def _submit(
    endpoint: Endpoint,
    requests: Iterator[tuple[str, Request]],
    ledger: Ledger,
    provider: Provider,
    settings: Batch,
) -> None:
    """Hand out what no batch has yet."""
    known = ledger.left().union(*(batch.versions for batch in ledger.open()))
    fresh = ((key, request) for key, request in requests if key not in known)
    for number, (versions, file) in enumerate(_files(endpoint, fresh, settings)):
        with file:
            if number == 0 and len(versions) < min(settings.at_least, settings.max_requests):
                return
            batch = ledger.plan(versions)
            file.seek(0)
            file_id = provider.upload(batch.name, file)
            ledger.uploaded(batch.name, file_id)
            batch_id = provider.create(replace(batch, file_id=file_id))
            ledger.created(batch.name, batch_id)
            logger.info("batch %s of %d requests is with %s", batch_id, len(versions), endpoint.url)


def _files(
    endpoint: Endpoint, requests: Iterator[tuple[str, Request]], settings: Batch
) -> Iterator[tuple[dict[str, str], IO[bytes]]]:
    """Input files within the provider's limits, each with the prompt version of its requests by key."""
    versions: dict[str, str] = {}
    file: IO[bytes] = tempfile.TemporaryFile()
    for key, request in requests:
        line = {"custom_id": key, "method": "POST", "url": URL, "body": parameters(endpoint.members[0], request)}
        data = json.dumps(line).encode() + b"\n"
        if len(versions) >= settings.max_requests or (versions and file.tell() + len(data) > settings.max_bytes):
            yield versions, file
            versions, file = {}, tempfile.TemporaryFile()
        file.write(data)
        versions[key] = request.version
    if versions:
        yield versions, file
    else:
        file.close()


def _collect(
    ledger: Ledger,
    provider: Provider,
    settings: Batch,
    keep: Keep,
    journal: Journal,
    note: Callable[[str], None],
    give_up_at: float | None,
) -> list[str]:
    """Wait until every batch has ended, and take in what each brings."""
    pause = min(FIRST_POLL_S, settings.poll_s)
    while waiting := ledger.open():
        for number, batch in enumerate(waiting, start=1):
            there = provider.look(batch)
            counts = there.request_counts
            done = f"{counts.completed + counts.failed} of {counts.total}" if counts else f"{len(batch.versions)}"
            note(f"batch {number}/{len(waiting)} {there.status}, {done}")
            if there.status in ENDED:
                _take_in(batch, there, ledger, provider, keep, journal)
        if not ledger.open():
            break
        if give_up_at is not None and time.monotonic() + pause > give_up_at:
            return [f"batch {batch.batch_id} is {there.status}, {done} requests, and the time for this stage is over"]
        time.sleep(pause)
        pause = min(pause * 1.5, settings.poll_s)
    return []


def _take_in(batch: Submitted, there: Any, ledger: Ledger, provider: Provider, keep: Keep, journal: Journal) -> None:
    """Journal what a batch brought, then note that it ended and what it left open."""
    for file_id in filter(None, (there.output_file_id, there.error_file_id)):
        for line in provider.lines(file_id):
            key, completion = _answer(line)
            if completion is not None and key in batch.versions and key not in journal:
                keep(key, completion, batch.versions[key])
    left = [key for key in batch.versions if key not in journal]
    problems = list(getattr(there.errors, "data", None) or [])
    if any(problem.code == "token_limit_exceeded" for problem in problems):
        ledger.forget(batch.name)
        raise _Unavailable(
            f"{words(problems[0].message)} Nothing was asked. Make batches smaller with `batch.max_requests`, or wait "
            "until other batches of the account have ended."
        )
    ledger.ended(batch, left)
    if left:
        why = f": {words(problems[0].message)}" if problems else ""
        logger.warning(
            "batch %s %s with %d of %d requests unanswered, which are asked live%s",
            batch.batch_id, there.status, len(left), len(batch.versions), why,
        )  # fmt: skip


def _answer(line: bytes) -> tuple[str, Completion | None]:
    """The key of a result line, and its answer or named failure; `None` where it may be asked again."""
    try:
        result = json.loads(line)
        key, response = str(result["custom_id"]), result.get("response") or {}
        status, body = response.get("status_code"), response.get("body") or {}
        if status == 200:
            return key, completion_of(body)
        return key, failure_of(status or 0, (body.get("error") or {}).get("code"), error_of(body))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "", None
