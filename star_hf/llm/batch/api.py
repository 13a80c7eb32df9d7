"""The calls of a Batch API, and what its results mean. https://developers.openai.com/api/docs/guides/batch"""

import json
import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import openai

from ...errors import ConfigError
from ...utils.secrets import redacted
from ..endpoint import Batch, Endpoint
from ..http.limits import wait_s
from ..http.refusals import error_in, failure_of, refusal_of
from ..http.replies import body_of, words
from ..http.sdk import provider_words, refused, sync_client
from ..http.wire import Api
from ..types import Completion, Keyed
from .ledger import Submitted


__all__ = ["BatchApi", "BatchUnavailable", "input_files", "result_of"]

logger = logging.getLogger(__name__)

CLOCKS_S = 86_400
"""Maximum difference between the provider's clock and ours when its list of batches is searched."""


class BatchUnavailable(Exception):
    """The provider cannot be asked now, or does not accept the batch now."""


class BatchApi:
    """The calls of a provider's Batch API; `api` is what the requests in a batch ask for."""

    def __init__(self, endpoint: Endpoint, settings: Batch, api: Api):
        self._endpoint, self._settings, self._api = endpoint, settings, api
        self._openai = sync_client(endpoint, timeout=endpoint.timeout_s, max_retries=endpoint.max_retries)

    def __enter__(self) -> "BatchApi":
        return self

    def __exit__(self, *error: object) -> None:
        self._openai.close()

    def upload(self, name: str, file: IO[bytes]) -> str:
        """Store an input file and return its id."""
        with self._errors():
            return self._named(self._openai.files.create(file=(f"star_hf-{name}.jsonl", file), purpose="batch"))

    def create(self, batch: Submitted) -> str:
        """Create a batch from its uploaded file and return its id. A call that failed may have created it, too."""
        create = self._openai.with_options(max_retries=0).batches.create
        for failures in range(self._endpoint.max_retries + 1):
            try:
                with self._errors():
                    made = create(
                        input_file_id=batch.file_id,
                        endpoint=("/" if self._endpoint.provider == "azure" else "/v1/") + self._api.path,
                        completion_window=self._settings.window,
                        metadata={"star_hf": batch.name},
                    )
                    return self._named(made)
            except BatchUnavailable as error:
                logger.info("%s", error)
                time.sleep(wait_s(failures))
            if (found := self.find(batch)) is not None:
                return found
        raise BatchUnavailable(f"{self._endpoint.url} did not create a batch in {failures + 1} tries")

    def find(self, batch: Submitted) -> str | None:
        """The id of a batch that exists already, found by the name in its metadata or by its input file."""
        with self._errors():
            for there in self._openai.batches.list(limit=100):
                if (there.metadata or {}).get("star_hf") == batch.name:
                    return self._named(there)
                if batch.file_id is not None and there.input_file_id == batch.file_id:
                    return self._named(there)
                if there.created_at < batch.created_at - CLOCKS_S:
                    break
        return None

    def look(self, batch: Submitted) -> Any:
        """The batch as the provider describes it."""
        with self._errors():
            return self._openai.batches.retrieve(batch.batch_id)

    def lines(self, file_id: str) -> Iterator[bytes]:
        """The lines of a result file, which is kept on disk meanwhile."""
        with tempfile.TemporaryFile() as file:
            with self._errors(), self._openai.files.with_streaming_response.content(file_id) as content:
                for chunk in content.iter_bytes(1 << 20):
                    file.write(chunk)
            file.seek(0)
            yield from file

    def _named(self, made: Any) -> str:
        """The id of a file or batch, which is kept as it is."""
        if not isinstance(made.id, str) or redacted(made.id) != made.id:
            raise ConfigError(
                f"{self._endpoint.url} gives its batches ids that cannot be kept.", "Remove `batch` from the endpoint."
            )
        return made.id

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn failures into errors that a user can act on."""
        url = self._endpoint.url
        try:
            yield
        except (openai.NotFoundError, openai.BadRequestError) as error:
            wrong = refused(self._endpoint, error) if error.status_code == 400 else None
            raise wrong or ConfigError(
                f"{url} refuses a batch: {error.status_code} {provider_words(error)}",
                "If the provider has no Batch API, remove `batch` from the endpoint. If it has one, use the account "
                "that created the batches of this journal.",
            ) from None
        except openai.APIStatusError as error:
            said = f"{url} answered {error.status_code}: {provider_words(error)}"
            raise refused(self._endpoint, error) or BatchUnavailable(said) from None
        except openai.APIError as error:
            cause = error.__cause__ or error
            raise BatchUnavailable(f"{url}: {type(cause).__name__}: {words(cause)}") from None


def input_files(
    endpoint: Endpoint, requests: Iterator[Keyed], settings: Batch, api: Api
) -> Iterator[tuple[dict[str, str], IO[bytes]]]:
    """Input files within the provider's limits, each with the prompt version of its requests by key."""
    versions: dict[str, str] = {}
    file: IO[bytes] = tempfile.TemporaryFile()
    for key, request in requests:
        line = {"custom_id": key, "method": "POST", "url": f"/v1/{api.path}", "body": api.body(endpoint, request)}
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


def result_of(endpoint: Endpoint, line: bytes, api: Api) -> tuple[str, Completion | ConfigError | None]:
    """The key of a result line, and its completion or named failure; an error if no later request can succeed either;
    `None` if it may be asked again."""
    try:
        result = body_of(line)
        key, response = str(result["custom_id"]), result.get("response") or {}
        status, body = response.get("status_code") or 0, response.get("body") or {}
        if status == 200:
            return key, api.read(body, None)
        problem = error_in(body or result)
        return key, refusal_of(endpoint, status, problem) or failure_of(status, problem)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "", None
