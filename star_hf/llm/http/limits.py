"""How fast to ask an endpoint: requests and tokens per minute, requests in flight, waits after failures."""

import asyncio
import math
import random
import time
from collections.abc import Mapping
from email.utils import mktime_tz, parsedate_tz

from ..cost.tokens import prompt_tokens
from ..endpoint import Endpoint
from ..types import Completion, Request


__all__ = ["InFlight", "Pace", "RateLimits", "retry_after_s", "wait_s"]

BURST_S = 1.0
"""Seconds' worth of a pace that may be sent at once after a pause."""
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 120.0
FIRST_ANSWER = 1_000
"""Assumed tokens of an answer before the first one arrives."""
OVERLOADED = (429, 503)


class Pace:
    """At most so many units (requests or tokens) per minute, spread evenly.

    Units that are taken become a debt, which shrinks at the pace. A take waits until the debt is zero, not until there
    is room for itself, so that a request larger than a second's worth still passes. Without a pace everything passes
    until `learn` sets one.
    """

    def __init__(self, per_minute: float | None = None):
        self._most = self.per_minute = per_minute or math.inf
        self._paid_off_at = -math.inf
        self._turn = asyncio.Lock()

    async def take(self, amount: float) -> None:
        """Wait, first come first served, and add `amount` to the debt."""
        async with self._turn:
            while (wait := self._paid_off_at - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            self._paid_off_at = max(self._paid_off_at, time.monotonic() - BURST_S)
            self.correct(amount)

    def correct(self, amount: float) -> None:
        """Add `amount`, which may be negative, to the debt: the real number differs from what was taken."""
        self._paid_off_at += amount * 60 / self.per_minute

    def pause(self, seconds: float) -> None:
        """Let nothing pass for this long."""
        self._paid_off_at = max(self._paid_off_at, time.monotonic() + seconds)

    def learn(self, limit: float | None, remaining: float | None, needed: float) -> None:
        """Adopt the provider's `limit` per minute, but never a faster pace than the user set.

        A limit that is too small for a single request is no limit of a minute, and is ignored. If fewer units remain
        than the next request needs, nothing passes until they are available.
        """
        if limit and limit >= needed:
            self.per_minute = min(self._most, limit)
        if remaining is not None and remaining < needed:
            self.pause(min((needed - remaining) * 60 / self.per_minute, LONGEST_WAIT_S))


class InFlight:
    """`async with` a place among the requests in flight: additive increase, multiplicative decrease.

    A provider that is busy now and then is no reason to slow down, since requests are retried. The places are halved
    only if overload replies reach a quarter of the places before successes reach their number.
    """

    def __init__(self, most: int):
        self.limit = self._most = most
        self._busy = 0
        self._left = asyncio.Condition()
        self._successes = self._overloads = 0
        self._halved_at = -math.inf

    async def __aenter__(self) -> None:
        async with self._left:
            await self._left.wait_for(lambda: self._busy < self.limit)
            self._busy += 1

    async def __aexit__(self, *error: object) -> None:
        async with self._left:
            self._busy -= 1
            self._left.notify(2)  # this place, and one that `succeed` may have added

    def overload(self, sent_at: float) -> None:
        """Count an overload reply, unless the request was sent before the last halving."""
        if sent_at < self._halved_at:
            return
        self._overloads += 1
        if self._overloads >= self.limit / 4:
            self._successes = self._overloads = 0
            self._halved_at = time.monotonic()
            self.limit -= self.limit // 2

    def succeed(self) -> None:
        """Count a success; as many as there are places add one place."""
        self._successes += 1
        if self._successes >= self.limit:
            self._successes = self._overloads = 0
            self.limit = min(self.limit + 1, self._most)


class RateLimits:
    """All limits of one endpoint, inside one event loop."""

    def __init__(self, endpoint: Endpoint):
        self.in_flight = InFlight(endpoint.concurrency)
        self.requests = Pace(endpoint.requests_per_minute)
        self.tokens = Pace(endpoint.tokens_per_minute)
        self._max_tokens = endpoint.max_tokens
        self._usual_answer: float = FIRST_ANSWER

    def estimate(self, request: Request) -> float:
        """Tokens of a request: its prompt, and `max_tokens` (which providers reserve) or an average answer."""
        return prompt_tokens(request) + (self._max_tokens or self._usual_answer)

    async def admit(self, tokens: float) -> None:
        """Wait until a request of this many tokens may be sent."""
        await self.requests.take(1)
        await self.tokens.take(tokens)

    def answered(self, headers: Mapping[str, str], tokens: float, completion: Completion) -> None:
        """A request admitted with `tokens` was answered."""
        used = completion.prompt_tokens + completion.completion_tokens
        if used:
            self.tokens.correct(used - tokens)
            self._usual_answer += (completion.completion_tokens - self._usual_answer) / 10
        self.in_flight.succeed()
        self._learn(headers, tokens)

    def failed(self, headers: Mapping[str, str], tokens: float, status: int | None, sent_at: float) -> None:
        """A request admitted with `tokens` and sent at `sent_at` failed with `status`, or without an answer."""
        self.tokens.correct(-tokens)
        if status in OVERLOADED:
            self.in_flight.overload(sent_at)
            self.requests.pause(retry_after_s(headers) or 0)
        self._learn(headers, tokens)

    def _learn(self, headers: Mapping[str, str], tokens: float) -> None:
        for name, pace, needed in (("requests", self.requests, 1), ("tokens", self.tokens, tokens)):
            limit, remaining = (_number(headers.get(f"x-ratelimit-{what}-{name}")) for what in ("limit", "remaining"))
            pace.learn(limit, remaining, needed)


def wait_s(failures: int, retry_after: float | None = None) -> float:
    """Seconds to wait before the next try, after `failures` tries that failed before the one that just did: what the
    provider asks for and up to a tenth more, else exponential backoff with full jitter."""
    if retry_after:
        return retry_after * random.uniform(1, 1.1)
    return random.uniform(0, min(FIRST_WAIT_S * 2 ** min(failures, 16), LONGEST_WAIT_S))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that `retry-after-ms` or `Retry-After` (seconds or a date) asks to wait, at most `LONGEST_WAIT_S`."""
    seconds = _number(headers.get("retry-after"))
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        seconds = milliseconds / 1000
    elif seconds is None:
        seconds = _seconds_until(headers.get("retry-after"))
    return None if seconds is None else min(max(seconds, 0.0), LONGEST_WAIT_S)


def _seconds_until(date: str | None) -> float | None:
    parsed = parsedate_tz(date)
    try:
        return None if parsed is None else mktime_tz(parsed) - time.time()
    except (ValueError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    """A finite number that is not negative; a header may hold anything."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < math.inf else None
