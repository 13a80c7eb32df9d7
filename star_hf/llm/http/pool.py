"""Many requests at a time, through one endpoint or through several keys and servers that share them."""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from ...errors import ConfigError
from ..endpoint import Endpoint
from ..types import Completion, Request
from .client import Client, Unavailable


__all__ = ["drain"]

logger = logging.getLogger(__name__)

Keyed = tuple[str, Request]
Keep = Callable[[str, Completion], None]


def drain(endpoint: Endpoint, requests: Iterator[Keyed], keep: Keep, client: type[Client] = Client) -> list[str]:
    """Answer all requests, at most `endpoint.concurrency` at a time, handing each answer to `keep` at once.

    Requests are drawn from the iterator as places become free, so memory does not grow with their number. When as many
    requests in a row as are allowed in flight have failed, the endpoint is taken for down and no more are sent. Each
    member of a pool has places and limits of its own; what one that is down, or refuses its key, was asked is handed
    to the others.

    Args:
        endpoint (`Endpoint`): Where to ask.
        requests (iterator of `(key, Request)`): What to ask.
        keep (`Callable`): Called with the key and the completion, before the next request of that place is sent.
        client (`type`, defaults to [`Client`]): What asks, and reads the answers.

    Returns:
        `list[str]`: One line for each request that was tried and stayed unanswered, and one when time was over.

    Raises:
        ConfigError: As soon as the endpoint, or every member of its pool, refuses key, model or account.
    """
    return _run(_Drain(endpoint, requests, keep, client).run())


@dataclass
class _Open:
    """A request under way, and the members that failed it."""

    key: str
    request: Request
    failed: set[int] = field(default_factory=set)


@dataclass
class _Server:
    """A member of the pool at work."""

    number: int
    endpoint: Endpoint
    client: Client
    failed_in_a_row: int = 0
    refusal: ConfigError | None = None
    set_aside: bool = False

    @property
    def well(self) -> bool:
        return self.refusal is None and self.failed_in_a_row < max(self.endpoint.concurrency, 3)


class _Drain:
    """One call of [`drain`], inside its event loop."""

    def __init__(self, endpoint: Endpoint, requests: Iterator[Keyed], keep: Keep, client: type[Client]):
        self._endpoint, self._requests, self._keep, self._client = endpoint, requests, keep, client
        self._handed_on: deque[_Open] = deque()
        self._failures: list[str] = []
        self._end: Exception | None = None
        self._give_up_at = time.monotonic() + (endpoint.deadline_s or math.inf)

    async def run(self) -> list[str]:
        members = self._endpoint.members
        self._servers = [
            _Server(n, member, self._client(member, self._give_up_at)) for n, member in enumerate(members)
        ]
        async with AsyncExitStack() as clients:
            for server in self._servers:
                await clients.enter_async_context(server.client)
            await self._ask_all()
            # A member that ends last may hand on what nobody was left to take.
            while self._going_on and any(
                self._can_take(server, asked) for asked in self._handed_on for server in self._servers
            ):
                await self._ask_all()
        self._failures += ["no member of the pool is left to ask"] * len(self._handed_on)
        refusals = [server.refusal for server in self._servers if server.refusal is not None]
        if self._end is not None or len(refusals) == len(self._servers):
            raise self._end or refusals[0]
        if time.monotonic() >= self._give_up_at and (self._failures or next(self._requests, None) is not None):
            self._failures.append(f"the {self._endpoint.deadline_s:g} s that this stage may ask are over")
        return self._failures

    async def _ask_all(self) -> None:
        # No place raises, so that what is in flight when one meets its end is still answered and kept.
        async with asyncio.TaskGroup() as places:
            for server in self._servers:
                for _ in range(server.endpoint.concurrency if server.well else 0):
                    places.create_task(self._place(server))

    async def _place(self, server: _Server) -> None:
        """One request after the other, until there is none left for this server."""
        try:
            while self._going_on and server.well and (asked := self._next(server)) is not None:
                completion = await self._answer(server, asked)
                if completion is not None:
                    self._keep(asked.key, completion)
        except Exception as error:
            self._end = self._end or error

    async def _answer(self, server: _Server, asked: _Open) -> Completion | None:
        try:
            completion = await server.client.complete(asked.request)
        except Unavailable as error:
            server.failed_in_a_row += 1
            self._hand_on(server, asked, str(error))
        except ConfigError as error:
            server.refusal = server.refusal or error
            self._hand_on(server, asked, error.message)
        else:
            server.failed_in_a_row = 0
            return completion
        return None

    def _hand_on(self, server: _Server, asked: _Open, problem: str) -> None:
        """Leave a failed request to the others, if there are any that have not failed it."""
        asked.failed.add(server.number)
        if not server.well:
            self._set_aside(server, problem)
        if self._going_on and any(self._can_take(other, asked) for other in self._servers):
            self._handed_on.append(asked)
        else:
            self._failures.append(problem)

    def _can_take(self, server: _Server, asked: _Open) -> bool:
        return server.well and server.number not in asked.failed

    def _set_aside(self, server: _Server, problem: str) -> None:
        others = sum(other.well for other in self._servers)
        if others and not server.set_aside:
            server.set_aside = True
            name = server.endpoint.api_key_env or server.endpoint.url
            logger.warning("%s is set aside, %d others go on: %s", name, others, problem)

    def _next(self, server: _Server) -> _Open | None:
        for _ in range(len(self._handed_on)):
            asked = self._handed_on.popleft()
            if server.number not in asked.failed:
                return asked
            self._handed_on.append(asked)
        keyed = next(self._requests, None)
        return None if keyed is None else _Open(*keyed)

    @property
    def _going_on(self) -> bool:
        return self._end is None and time.monotonic() < self._give_up_at


def _run(coroutine: Any) -> Any:
    """Run a coroutine to its end, also where a loop is already running (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()
