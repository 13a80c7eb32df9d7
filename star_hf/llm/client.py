"""Calls over HTTP: the `openai` client behind one coroutine that answers or names what went wrong.

`pool.py` runs many of them at a time.
"""

import asyncio
import json
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import aiohttp
import openai

from ..errors import ConfigError
from .budget import prompt_tokens
from .endpoint import Endpoint
from .limits import Limits, retry_after_s, wait_s
from .types import Completion, Request
from .wire import completion_of, error_of, failure_of, parameters, words


__all__ = ["Client", "Unavailable", "provider_words", "refused", "sync_client"]

AZURE_VERSION = "2024-10-21"


class Unavailable(Exception):
    """A request that could not be answered now. Nothing was journaled; ask again later.

    Args:
        message (`str`): What happened, where.
        status (`int`, *optional*): HTTP status, where there was an answer.
        headers (`Mapping`, *optional*): The answer's headers.
    """

    def __init__(self, message: str, status: int | None = None, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


class Client:
    """An endpoint that can be asked. Lives inside one event loop.

    Args:
        endpoint (`Endpoint`): Where to ask. Its key is read from the environment here and kept by the `openai`
            client alone.
        give_up_at (`float`, *optional*): Time of `time.monotonic` from which on nothing more is sent.

    Raises:
        ConfigError: If the key or the URL is missing.
    """

    def __init__(self, endpoint: Endpoint, give_up_at: float = math.inf):
        self.endpoint = endpoint
        self._give_up_at = give_up_at
        options: dict[str, Any] = {
            "api_key": endpoint.api_key() or "none",
            # Both are our own below: the limits must see every failure, and a timeout must cover the whole answer.
            "timeout": None,
            "max_retries": 0,
            "http_client": openai.DefaultAioHttpClient(timeout=None),
        }
        if endpoint.provider == "azure":
            options |= {"azure_endpoint": endpoint.url, "api_version": endpoint.api_version or AZURE_VERSION}
            self._openai: openai.AsyncOpenAI = openai.AsyncAzureOpenAI(**options)
        else:
            self._openai = openai.AsyncOpenAI(base_url=endpoint.url, **options)
        self._create = self._openai.chat.completions.with_raw_response.create
        self._limits = Limits(endpoint)

    async def __aenter__(self) -> "Client":
        await self._openai.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._openai.__aexit__(*error)

    async def complete(self, request: Request) -> Completion:
        """The answer to a request, within the endpoint's limits. Failures that may pass are retried.

        An answer without text is asked for once more, and then handed on as it is, with the tokens of both.

        Raises:
            ConfigError: If the endpoint refuses the key, the model or the account: no later request would do better.
            Unavailable: If the failure is transient and outlived the retries.
        """
        completion = await self._persist(request)
        if completion.text.strip() or completion.outcome != "ok" or not self.endpoint.max_retries:
            return completion
        try:
            second = await self._persist(request)
        except Unavailable:
            return completion
        return replace(
            second,
            prompt_tokens=completion.prompt_tokens + second.prompt_tokens,
            completion_tokens=completion.completion_tokens + second.completion_tokens,
        )

    async def _persist(self, request: Request) -> Completion:
        failures = 0
        while True:
            try:
                return await self._attempt(request)
            except Unavailable as error:
                wait = wait_s(failures, retry_after_s(error.headers))
                if failures == self.endpoint.max_retries or time.monotonic() + wait > self._give_up_at:
                    raise
                await asyncio.sleep(wait)
                failures += 1

    async def _attempt(self, request: Request) -> Completion:
        """Ask once, when the limits allow it, and tell them how it went."""
        limits = self._limits
        async with limits.in_flight:
            tokens = limits.estimate(request)
            await self._admit(tokens)
            sent_at = time.monotonic()
            try:
                completion, headers = await self._ask(request)
            except Unavailable as error:
                limits.failed(error.headers, tokens, error.status, sent_at)
                raise
            limits.answered(headers, tokens, completion)
        return replace(completion, latency_s=time.monotonic() - sent_at)

    async def _admit(self, tokens: float) -> None:
        if self._give_up_at == math.inf:
            return await self._limits.admit(tokens)
        try:
            async with asyncio.timeout(max(self._give_up_at - time.monotonic(), 0)):
                await self._limits.admit(tokens)
        except TimeoutError:
            raise Unavailable(f"{self.endpoint.url}: the time for this stage is over") from None

    async def _ask(self, request: Request) -> tuple[Completion, Mapping[str, str]]:
        url = self.endpoint.url
        try:
            async with asyncio.timeout(self.endpoint.timeout_s):
                reply = await self._send(request)
        except TimeoutError:
            raise Unavailable(f"{url}: no whole answer within {self.endpoint.timeout_s:g} s") from None
        except openai.APIStatusError as error:
            return self._failure(error), error.response.headers
        except (openai.APIError, aiohttp.ClientError, OSError) as error:
            # The openai client names neither the URL nor the cause in its message, and lets some of aiohttp's through.
            cause = error.__cause__ or error
            raise Unavailable(f"{url}: {type(cause).__name__}: {cause}") from None
        body = None
        try:
            body = json.loads(reply.content)
            return self._read(body, request), reply.headers
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            what = f"{len(reply.content)} bytes of {reply.headers.get('content-type')}"
            said = f": {error_of(body)}" if error_of(body) else ""
            raise Unavailable(f"{url} answered 200, but its {what} are no whole answer{said}") from None

    def _send(self, request: Request) -> Any:
        # The openai client merges `extra_body` as it is; `messages` it would walk through against all their types,
        # which takes a quarter of a request's processor time.
        return self._create(model=self.endpoint.model, messages=[], extra_body=parameters(self.endpoint, request))

    def _read(self, reply: Mapping[str, Any], request: Request) -> Completion:
        return completion_of(reply, prompt_tokens(request))

    def _failure(self, error: openai.APIStatusError) -> Completion:
        said = provider_words(self.endpoint, error)
        failure = failure_of(error.status_code, error.code, said)
        if failure is None:
            message = f"{self.endpoint.url} answered {error.status_code}: {said}"
            passing = Unavailable(message, error.status_code, error.response.headers)
            raise refused(self.endpoint, error) or passing from None
        return failure


def sync_client(endpoint: Endpoint, **options: Any) -> openai.OpenAI:
    """The `openai` client for what is not worth an event loop: batches, and looking at what an endpoint can do."""
    options["api_key"] = endpoint.api_key() or "none"
    if endpoint.provider == "azure":
        version = endpoint.api_version or AZURE_VERSION
        return openai.AzureOpenAI(azure_endpoint=endpoint.url, api_version=version, **options)
    return openai.OpenAI(base_url=endpoint.url, **options)


def provider_words(endpoint: Endpoint, error: openai.APIStatusError) -> str:
    """What the provider said, in one short line, and without the key, which some repeat."""
    body = error.body if isinstance(error.body, dict) else {}
    said, key = str(body.get("message") or error.message), endpoint.api_key()
    return words(said.replace(key, "[the key]") if key else said)


def refused(endpoint: Endpoint, error: openai.APIStatusError) -> ConfigError | None:
    """What to check where no later request would do better; `None` where one may."""
    key = endpoint.key_variable or "the key"
    address = "Check `model` and `base_url`; a base URL usually ends in /v1."
    remedies = {
        401: f"Check that {key} holds a valid key for this provider.",
        402: f"Add credit to the account behind {key}, and run the same command again to go on.",
        403: f"Check that the account behind {key} may use this model.",
        404: address,
        405: address,
        410: "The provider no longer has this model: choose another one.",
    }
    remedy = remedies.get(402 if error.code == "insufficient_quota" else error.status_code)
    if remedy is None:
        return None
    said = provider_words(endpoint, error)
    return ConfigError(f"{endpoint.url} answered {error.status_code} for model {endpoint.model!r}: {said}", remedy)
