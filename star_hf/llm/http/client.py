"""One call over HTTP: a coroutine that sends a request and returns its completion, or says what went wrong.

`pool.py` runs many of them at a time. Requests go out through aiohttp: the `openai` client took more processor time
than all the rest of a request, for retries, timeouts and types that we have ourselves.
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

from ..endpoint import Endpoint
from ..types import Completion, Request
from .limits import RateLimits, retry_after_s, wait_s
from .wire import CHAT, Api, address, error_of, failure_of, headers, problem_of, refusal_of


__all__ = ["Client", "Unavailable"]

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Unavailable(Exception):
    """A request that failed for now. Nothing was journaled; it can be asked again later."""

    def __init__(self, message: str, status: int | None = None, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


class Client:
    """A connection to one endpoint, inside one event loop. Its key is read from the environment here.

    Nothing more is sent after `give_up_at`, a time of `time.monotonic`.
    """

    def __init__(self, endpoint: Endpoint, give_up_at: float = math.inf, api: Api = CHAT):
        self.endpoint = endpoint
        self._give_up_at, self._api = give_up_at, api
        self._address, self._headers = address(endpoint, api.path), headers(endpoint)
        self._limits = RateLimits(endpoint)

    async def __aenter__(self) -> "Client":
        # aiohttp's own limits are off: our limits must see all that waits, and our timeout covers the whole reply.
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
        """Answer a request within the endpoint's limits. Transient failures are retried.

        A chat reply without text is asked for once more, and then returned as it is, with the tokens of both.

        Raises:
            ConfigError: If the endpoint refuses the key, the model or the account: no later request can succeed.
            Unavailable: If a transient failure outlived the retries.
        """
        completion = await self._persist(request)
        empty = self._api.repeats_empty and completion.outcome == "ok" and not completion.text.strip()
        if not empty or not self.endpoint.max_retries:
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
        """Ask once, when the limits allow it, and report the result to them."""
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
        left = None if self._give_up_at == math.inf else max(self._give_up_at - time.monotonic(), 0)
        try:
            async with asyncio.timeout(left):
                await self._limits.admit(tokens)
        except TimeoutError:
            raise Unavailable(f"{self.endpoint.url}: the deadline of this stage has passed") from None

    async def _ask(self, request: Request) -> tuple[Completion, Mapping[str, str]]:
        url = self.endpoint.url
        try:
            async with (
                asyncio.timeout(self.endpoint.timeout_s),
                self._session.post(self._address, json=self._api.body(self.endpoint, request)) as reply,
            ):
                content = await reply.read()
        except TimeoutError:
            raise Unavailable(f"{url}: the reply was not complete within {self.endpoint.timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            cause = error.__cause__ or error  # aiohttp's own message holds an address in memory
            raise Unavailable(f"{url}: {type(cause).__name__}: {cause}") from None
        if not reply.ok:
            return self._failure(reply.status, content, reply.headers), reply.headers
        body = None
        try:
            body = json.loads(content)
            return self._api.read(body, request), reply.headers
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            what = f"{len(content)} bytes, {reply.headers.get('content-type')}"
            said = f": {error_of(body)}" if error_of(body) else ""
            raise Unavailable(
                f"{url}: HTTP {reply.status}, but the body is not a {self._api.name} ({what}){said}"
            ) from None

    def _failure(self, status: int, content: bytes, headers: Mapping[str, str]) -> Completion:
        code, said = problem_of(self.endpoint, content)
        failure = failure_of(status, code, said)
        if failure is None:
            transient = Unavailable(f"{self.endpoint.url} answered {status}: {said}", status, headers)
            raise refusal_of(self.endpoint, status, code, said) or transient
        return failure


def _certificates(url: str) -> ssl.SSLContext | bool:
    """The machine's certificate authorities and, since slim images have none, those of certifi."""
    if not url.startswith("https:"):
        return True
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for a URL (`HTTPS_PROXY`, `NO_PROXY` ...); none for this machine."""
    parts = urlsplit(url)
    if parts.hostname in LOOPBACK or urllib.request.proxy_bypass(parts.netloc):
        return None
    return urllib.request.getproxies().get(parts.scheme)
