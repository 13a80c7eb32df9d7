"""Calls over HTTP: one coroutine that sends a request and answers, or names what went wrong.

`pool.py` runs many of them at a time. The requests go out through aiohttp as they are. The `openai` client took more
processor time than all the rest of a request, for retries, timeouts and types that are our own here.
"""

import asyncio
import json
import math
import ssl
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import certifi

from ..cost.budget import prompt_tokens
from ..endpoint import Endpoint
from ..types import Completion, Request
from .limits import Limits, retry_after_s, wait_s
from .wire import address, completion_of, error_of, failure_of, headers, parameters, problem_of, refusal_of


__all__ = ["Client", "Unavailable"]

LOOPBACK = ("localhost", "127.0.0.1", "::1")


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
        endpoint (`Endpoint`): Where to ask. Its key is read from the environment here.
        give_up_at (`float`, *optional*): Time of `time.monotonic` from which on nothing more is sent.

    Raises:
        ConfigError: If the key or the URL is missing.
    """

    path = "chat/completions"
    """The part of the API that is asked."""

    def __init__(self, endpoint: Endpoint, give_up_at: float = math.inf):
        self.endpoint = endpoint
        self._give_up_at = give_up_at
        self._address, self._headers = address(endpoint, self.path), headers(endpoint)
        self._limits = Limits(endpoint)

    async def __aenter__(self) -> "Client":
        # What bounds connections and seconds is our own: the limits must see all that waits, and a timeout must cover
        # the whole answer.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=_certificates(self._address)),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            proxy=_proxy(self._address),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._session.close()

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
            async with (
                asyncio.timeout(self.endpoint.timeout_s),
                self._session.post(self._address, json=self._body(request)) as reply,
            ):
                content = await reply.read()
        except TimeoutError:
            raise Unavailable(f"{url}: no whole answer within {self.endpoint.timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            cause = error.__cause__ or error  # aiohttp's own words on it hold an address in memory
            raise Unavailable(f"{url}: {type(cause).__name__}: {cause}") from None
        if not reply.ok:
            return self._failure(reply.status, content, reply.headers), reply.headers
        body = None
        try:
            body = json.loads(content)
            return self._read(body, request), reply.headers
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            what = f"{len(content)} bytes of {reply.headers.get('content-type')}"
            said = f": {error_of(body)}" if error_of(body) else ""
            raise Unavailable(f"{url} answered {reply.status}, but its {what} are no whole answer{said}") from None

    def _body(self, request: Request) -> dict[str, Any]:
        return parameters(self.endpoint, request)

    def _read(self, reply: Mapping[str, Any], request: Request) -> Completion:
        return completion_of(reply, prompt_tokens(request))

    def _failure(self, status: int, content: bytes, headers: Mapping[str, str]) -> Completion:
        code, said = problem_of(self.endpoint, content)
        failure = failure_of(status, code, said)
        if failure is None:
            passing = Unavailable(f"{self.endpoint.url} answered {status}: {said}", status, headers)
            raise refusal_of(self.endpoint, status, code, said) or passing
        return failure


def _certificates(url: str) -> ssl.SSLContext | bool:
    """Whom to trust: the machine's authorities and, since slim images have none, those of certifi."""
    if not url.startswith("https:"):
        return True
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for a URL (`HTTPS_PROXY`, `NO_PROXY` ...); never one to this machine."""
    parts = urlsplit(url)
    if parts.hostname in LOOPBACK or urllib.request.proxy_bypass(parts.netloc):
        return None
    return urllib.request.getproxies().get(parts.scheme)
