"""One call over HTTP: a coroutine that sends a request and returns its completion, or says what went wrong.

`pool.py` runs many of them at a time. Requests go out through aiohttp: the `openai` client took more processor time
than all the rest of a request, for retries, timeouts and types that we have ourselves.
"""

import asyncio
import contextlib
import math
import ssl
import time
import urllib.request
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import certifi

from ...utils.text import is_blank
from ..endpoint import Endpoint
from ..trust import LOOPBACK
from ..types import Completion, Request
from .limits import RateLimits, retry_after_s, wait_s
from .refusals import Problem, error_in, failure_of, problem_of, refusal_of
from .replies import Unfinished, body_of, words
from .wire import CHAT, Api, address, headers


__all__ = ["Client", "Unavailable"]

MOST_BYTES = 64_000_000
"""Largest body of a reply, unpacked."""
MOST_UNREADABLE = 3
"""How often a body that is none of an API, such as a gateway's, is asked for again before the request has failed."""


class Unavailable(Exception):
    """A request that failed for now. Nothing was journaled; it can be asked again later.

    `paid` has the tokens of an answer that was broken off, and `readable` is `False` if the reply was none of an API.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        paid: Completion | None = None,
        readable: bool = True,
    ):
        super().__init__(message)
        self.status, self.headers, self.paid, self.readable = status, headers or {}, paid, readable


class Client:
    """A connection to one endpoint, inside one event loop. Its key is read from the environment here.

    Nothing more is sent after `give_up_at`, a time of `time.monotonic`. `on_wire` counts the requests that wait for a
    reply now.
    """

    def __init__(self, endpoint: Endpoint, give_up_at: float = math.inf, api: Api = CHAT):
        self.endpoint = endpoint
        self._give_up_at, self._api = give_up_at, api
        self._address, self._headers = address(endpoint, api.path), headers(endpoint)
        self._limits = RateLimits(endpoint)
        self.on_wire = 0

    async def __aenter__(self) -> "Client":
        # aiohttp's own limits are off: our limits must see all that waits, and our timeout covers the whole reply.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=_certificates(self._address)),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            auto_decompress=False,  # `_content` does that within bounds
            proxy=_proxy(self._address),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._session.close()

    async def complete(self, request: Request) -> Completion:
        """Answer a request within the endpoint's limits. Transient failures are retried.

        A chat reply without text is asked for once more, and then named `"empty"`, with the tokens of both.

        Raises:
            ConfigError: If the endpoint refuses the key, the model or the account: no later request can succeed.
            Unavailable: If a transient failure outlived the retries.
        """
        completion = await self._persist(request)
        empty = self._api.repeats_empty and completion.outcome == "ok" and is_blank(completion.text)
        if not empty:
            return completion
        if self.endpoint.max_retries:
            with contextlib.suppress(Unavailable):
                completion = _with_cost_of([completion], await self._persist(request))
        still = completion.outcome == "ok" and is_blank(completion.text)
        return replace(completion, outcome="empty", detail="The answer has no text.") if still else completion

    async def _persist(self, request: Request) -> Completion:
        failures, unreadable, paid = 0, 0, list[Completion]()
        while True:
            try:
                return _with_cost_of(paid, await self._attempt(request))
            except Unavailable as error:
                paid += [error.paid] if error.paid else []
                unreadable += not error.readable
                wait = wait_s(failures, retry_after_s(error.headers))
                last = failures == self.endpoint.max_retries or unreadable == MOST_UNREADABLE
                if last or time.monotonic() + wait > self._give_up_at:
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
        self.on_wire += 1
        try:
            async with (
                asyncio.timeout(self.endpoint.timeout_s),
                self._session.post(
                    self._address, json=self._api.body(self.endpoint, request), allow_redirects=False
                ) as reply,
            ):
                content = await _content(reply)
        except TimeoutError:
            raise Unavailable(f"{url}: the reply was not complete within {self.endpoint.timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, zlib.error) as error:
            cause = error.__cause__ or error  # aiohttp's own message holds an address in memory
            raise Unavailable(f"{url}: {type(cause).__name__}: {words(cause)}") from None
        finally:
            self.on_wire -= 1
        if content is None:
            detail = f"The reply is larger than {MOST_BYTES:,} bytes."
            return Completion("", outcome="unreadable", detail=detail), reply.headers
        if not 200 <= reply.status < 300:
            return self._failure(reply.status, problem_of(content), reply.headers), reply.headers
        return self._read(content, request, reply), reply.headers

    def _read(self, content: bytes, request: Request, reply: aiohttp.ClientResponse) -> Completion:
        url, body = self.endpoint.url, None
        try:
            body = body_of(content, reply.charset)
            return self._api.read(body, request)
        except Unfinished as error:
            raise Unavailable(f"{url}: {error}", paid=error.paid) from None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            pass
        if isinstance(body, Mapping) and body.get("error"):
            problem = error_in(body)
            status = int(problem.code) if (problem.code or "").isdecimal() else reply.status
            return self._failure(status if 400 <= status < 600 else 400, problem, reply.headers, kept=False)
        what = f"{len(content)} bytes, {words(reply.headers.get('content-type'), 100)}"
        page = "; a web page: does `base_url` end in /v1?" if content.lstrip()[:1] == b"<" else ""
        message = f"{url}: HTTP {reply.status}, but the body is not a {self._api.name} ({what}){page}"
        raise Unavailable(message, readable=False)

    def _failure(self, status: int, problem: Problem, headers: Mapping[str, str], kept: bool = True) -> Completion:
        """The named failure of this request. Without `kept`, only what concerns a filter is kept."""
        failure = failure_of(status, problem)
        refusal = refusal_of(self.endpoint, status, problem, headers.get("location", ""))
        if failure is not None and failure.outcome == "content_filter":
            return failure
        if refusal is not None:
            raise refusal
        if failure is None or not kept:
            what = f"answered {status}" if kept else "sent an error with status 200"
            raise Unavailable(f"{self.endpoint.url} {what}: {problem.said}", status, headers)
        return failure


async def _content(reply: aiohttp.ClientResponse) -> bytes | None:
    """The body of a reply, unpacked; `None` if it is larger than `MOST_BYTES`, whatever its packed size."""
    packed = bytearray()
    async for chunk in reply.content.iter_any():
        packed += chunk
        if len(packed) > MOST_BYTES:
            return None
    encoding = reply.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return bytes(packed)
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise zlib.error(f"the content encoding {encoding!r} was not asked for")
    bits = 15 if encoding == "deflate" and packed[:1] == b"\x78" else -15 if encoding == "deflate" else 31
    unpacking = zlib.decompressobj(bits)
    content = unpacking.decompress(packed, MOST_BYTES + 1)
    while len(content) <= MOST_BYTES and unpacking.eof and unpacking.unused_data.startswith(b"\x1f\x8b"):
        packed, unpacking = unpacking.unused_data, zlib.decompressobj(bits)  # gzip may come in several members
        content += unpacking.decompress(packed, MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        return None
    if not unpacking.eof:
        raise zlib.error("the packed body is not complete")
    return content


def _with_cost_of(paid: Sequence[Completion], completion: Completion) -> Completion:
    """A completion with the tokens of the tries before it."""
    if not paid:
        return completion
    tries = [*paid, completion]
    return replace(
        completion,
        prompt_tokens=sum(one.prompt_tokens for one in tries),
        completion_tokens=sum(one.completion_tokens for one in tries),
    )


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
