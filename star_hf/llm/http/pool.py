"""The HTTP provider: many requests at a time, to one server or to several keys and servers that share them."""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from ...errors import ConfigError
from ..endpoint import Endpoint
from ..types import Completion, Keyed, OnResult, Request
from .client import Client, Unavailable
from .stopping import DRAIN_S, stoppable
from .wire import CHAT, Api


__all__ = ["HttpProvider"]

logger = logging.getLogger(__name__)


class HttpProvider:
    """An endpoint over HTTP, asked at most `endpoint.concurrency` requests at a time.

    After as many failures in a row as requests may be in flight, a server counts as down and gets no more. If it
    rejects so many requests before it answers the first one, the fault is the endpoint's and not the rows': nothing of
    that is kept, unless the endpoint is `proven` by earlier answers. Each member of a pool has its own places and
    limits. Requests to a member that is down, or refuses its key, go to the others.
    """

    def __init__(self, endpoint: Endpoint, api: Api = CHAT, proven: bool = False):
        self._endpoint, self._api, self._proven = endpoint, api, proven

    def complete(self, requests: Iterator[Keyed], on_result: OnResult) -> list[str]:
        """See [`~star_hf.llm.types.Provider`]. One more line is returned if the deadline has passed."""
        return _run(_Drain(self._endpoint, self._api, requests, on_result, self._proven))


@dataclass
class _Open:
    """A request in progress, and the members that failed it."""

    key: str
    request: Request
    failed: set[int] = field(default_factory=set)


@dataclass
class _Server:
    """A member of the pool, with the state of its connection."""

    number: int
    endpoint: Endpoint
    client: Client
    failed_in_a_row: int = 0
    refusal: ConfigError | None = None
    dropped: bool = False
    answered: bool = False
    rejected: list[tuple[_Open, Completion]] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        return self.refusal is None and self.failed_in_a_row < self.patience

    @property
    def patience(self) -> int:
        """How many requests in a row may fail, or be rejected before the first answer."""
        return max(self.endpoint.concurrency, 3)


class _Drain:
    """One call of [`HttpProvider.complete`], inside its event loop."""

    def __init__(
        self, endpoint: Endpoint, api: Api, requests: Iterator[Keyed], on_result: OnResult, proven: bool = False
    ):
        self._endpoint, self._api, self._requests, self._on_result = endpoint, api, requests, on_result
        self._proven = proven
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._stop_at = math.inf
        self._servers: list[_Server] = []
        self._handed_on: deque[_Open] = deque()
        self._failures: list[str] = []
        self._end: Exception | None = None
        self._give_up_at = time.monotonic() + (endpoint.deadline_s or math.inf)

    def stop(self) -> None:
        """Send nothing more, and wait for what is in flight for a few seconds; not at all if called again. May be
        called from a signal handler or another thread."""
        self._stop_at = time.monotonic() + (DRAIN_S if self._stop_at == math.inf else 0)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)

    async def run(self) -> list[str]:
        """Answer all requests, or those in flight when [`stop`] is called."""
        self._loop = asyncio.get_running_loop()
        work, stopped = asyncio.ensure_future(self._work()), asyncio.ensure_future(self._stop.wait())
        if self._stop_at < math.inf:
            self._stop.set()
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        while not work.done() and time.monotonic() < self._stop_at and any(s.client.on_wire for s in self._servers):
            await asyncio.sleep(0.02)
        stopped.cancel()
        if not work.done():
            work.cancel()
            await asyncio.wait({work})
        return self._failures if work.cancelled() else work.result()

    async def _work(self) -> list[str]:
        members = self._endpoint.members
        self._servers = [
            _Server(n, member, Client(member, self._give_up_at, self._api), answered=self._proven)
            for n, member in enumerate(members)
        ]
        async with AsyncExitStack() as clients:
            for server in self._servers:
                await clients.enter_async_context(server.client)
            await self._ask_all()
            # The last member to end may hand on requests when no other is running any more.
            while self._going_on and any(
                self._can_take(server, asked) for asked in self._handed_on for server in self._servers
            ):
                await self._ask_all()
        if self._end is None:
            for server in self._servers:
                self._keep(server)  # too few to know more
        self._failures += ["no member of the pool is left to ask"] * len(self._handed_on)
        refusals = [server.refusal for server in self._servers if server.refusal is not None]
        if self._end is not None or len(refusals) == len(self._servers):
            raise self._end or refusals[0]
        if time.monotonic() >= self._give_up_at and (self._failures or next(self._requests, None) is not None):
            self._failures.append(f"the deadline of {self._endpoint.deadline_s:g} s for this stage has passed")
        return self._failures

    async def _ask_all(self) -> None:
        # No place raises: when one fails, requests in flight in the others are still answered and kept.
        async with asyncio.TaskGroup() as places:
            for server in self._servers:
                for _ in range(server.endpoint.concurrency if server.healthy else 0):
                    places.create_task(self._place(server))

    async def _place(self, server: _Server) -> None:
        """One request after another, until none is left for this server."""
        try:
            while self._going_on and server.healthy and (asked := self._next(server)) is not None:
                completion = await self._answer(server, asked)
                if completion is not None:
                    self._take_in(server, asked, completion)
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

    def _take_in(self, server: _Server, asked: _Open, completion: Completion) -> None:
        """Hand an answer over. Rejections wait for the first answer, which shows that the endpoint itself works."""
        server.answered = server.answered or completion.outcome != "invalid_request"
        server.rejected.append((asked, completion))
        if server.answered:
            self._keep(server)
        elif len(server.rejected) == server.patience:
            server.refusal = _all_rejected(server.endpoint, completion.detail)
            for waiting, rejection in server.rejected:
                self._hand_on(server, waiting, rejection.detail)
            server.rejected.clear()

    def _keep(self, server: _Server) -> None:
        while server.rejected:
            asked, completion = server.rejected.pop()
            self._on_result(asked.key, completion)

    def _hand_on(self, server: _Server, asked: _Open, problem: str) -> None:
        """Hand a failed request to the members that have not failed it, if there are any."""
        asked.failed.add(server.number)
        if not server.healthy:
            self._drop(server, problem)
        if self._going_on and any(self._can_take(other, asked) for other in self._servers):
            self._handed_on.append(asked)
        else:
            self._failures.append(problem)

    def _can_take(self, server: _Server, asked: _Open) -> bool:
        return server.healthy and server.number not in asked.failed

    def _drop(self, server: _Server, problem: str) -> None:
        others = sum(other.healthy for other in self._servers)
        if others and not server.dropped:
            server.dropped = True
            name = server.endpoint.api_key_env or server.endpoint.url
            logger.warning("%s is no longer asked, %d others go on: %s", name, others, problem)

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
        return self._end is None and not self._stop.is_set() and time.monotonic() < self._give_up_at


def _all_rejected(endpoint: Endpoint, said: str) -> ConfigError:
    return ConfigError(
        f"{endpoint.url} rejects every request for model {endpoint.model!r}: {said}",
        "Check `model`, `max_tokens`, `structured` and `extra_body` (`star-hf endpoints check` shows what works), and "
        "the server's own limits. Nothing of this was kept: after a fix, run the same command again.",
    )


def _run(drain: _Drain) -> list[str]:
    """Run a drain, also if an event loop is already running (in a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        with stoppable(drain.stop):
            return asyncio.run(drain.run())
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        answering = pool.submit(asyncio.run, drain.run())
        try:
            return answering.result()
        except KeyboardInterrupt:
            drain.stop()
            raise
