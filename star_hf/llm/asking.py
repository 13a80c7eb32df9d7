"""Ask for what is open: the one way from requests to journal entries, for annotating, embedding and evaluating."""

import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import ClassVar

from ..errors import IncompleteRunError
from ..utils.progress import Bar
from .batch.ledger import BatchLedger
from .cost.budget import Budget
from .endpoint import Batch, Endpoint
from .http.wire import CHAT, Api
from .journal import Entry, Journal
from .journal.claims import Claims
from .types import Completion, Keyed, Provider, Request


__all__ = ["FEW", "GO_ON", "Asking", "forget_rejected", "provider_of"]

logger = logging.getLogger(__name__)

AT_ONCE, POLL_S = 16, 0.25
"""Requests that are claimed in one transaction, and seconds between two looks at what other runs have answered."""
FEW = 0.02
"""Of more rejected requests than this share, the endpoint is suspected, if nobody says how many are accepted."""
GO_ON = "Run the same command again to go on."


def provider_of(endpoint: Endpoint, api: Api = CHAT, proven: bool = False) -> Provider:
    """The provider that answers an endpoint's requests at once: the embedded model, or a client over HTTP.

    `proven` says that the endpoint has answered before.
    """
    if endpoint.provider == "local":
        from .embedded.provider import EmbeddedProvider

        return EmbeddedProvider(endpoint)
    from .http.pool import HttpProvider  # imported here, since reading a journal needs no client

    return HttpProvider(endpoint, api, proven)


def forget_rejected(journal: Journal, keys: Iterable[str]) -> bool:
    """Forget requests that were rejected, so that they are asked again: the fault may have been the endpoint's and be
    mended, and a rejected request costs nothing. Always `True`."""
    with journal.transaction():
        for key in keys:
            journal.execute("DELETE FROM responses WHERE key = ?", (key,))
    return True


@dataclass
class Asking:
    """The requests of one stage to one endpoint: each is sent once, within the budget, and committed when answered.

    Args:
        stage, at (`str`): Stage and endpoint of the journal entries.
        target (`Endpoint` or `Provider`): Who answers. A provider, such as a model in this process, costs nothing.
        journal (`Journal`, *optional*): Where completions are committed. There are no batches without one.
        bar (`Bar`): Advances by one for each request that needs no answer any more.
        budget (`Budget`, *optional*): Dollars that may be spent.

    Attributes:
        failures (`list[str]`): Why requests of the last pass have no answer.
        stopped (`str` or `None`): Why no more requests are sent although some are open.
    """

    stage: str
    at: str
    target: Endpoint | Provider
    journal: Journal | None
    bar: Bar
    budget: Budget | None

    api: ClassVar[Api] = CHAT
    shared: ClassVar[bool] = True
    """Whether the journal's answers are those that other runs want, too."""

    def __post_init__(self) -> None:
        self.failures: list[str] = []
        self.stopped: str | None = None
        self._remedy = ""
        self._price_factor = 1.0
        self._sent: dict[str, str] = {}  # prompt version by key
        self._batched: dict[str, str] = {}
        self._claims: Claims | None = None
        self._elsewhere: set[str] = set()  # requests that another run is asking

    def run(self, requests: Callable[[], Iterator[Keyed]]) -> bool:
        """Answer all open requests: by batches where the endpoint has them, then at once what these left.

        `requests` is called for each of the two passes. A request may be answered already or occur several times.

        Returns:
            `bool`: Whether every request that was open has an answer.
        """
        with ExitStack() as ending:
            if self.journal is not None and self.shared:
                self._claims = ending.enter_context(Claims(self.journal))
            try:
                return all(
                    self._pass(provider, price_factor, requests) for provider, price_factor in self._providers()
                )
            except (KeyboardInterrupt, SystemExit):
                if self.journal is not None:
                    with suppress(OSError):  # the terminal may be closed
                        logger.warning("Stopped. All answers so far are in %s. %s", self.journal.path, GO_ON)
                raise

    def _pass(self, provider: Provider, price_factor: float, requests: Callable[[], Iterator[Keyed]]) -> bool:
        """Ask a provider for what is open, and then for what another run has left open."""
        until = time.monotonic() + ((isinstance(self.target, Endpoint) and self.target.deadline_s) or math.inf)
        while True:
            self._price_factor, self._sent, self._elsewhere = price_factor, {}, set()
            self.bar.restart()
            try:
                self.failures = provider.complete(self._open(requests()), self._on_result)
            finally:
                if self.budget is not None:
                    self.budget.release()
                if self._claims is not None:
                    self._claims.release()
            if self.failures or self.stopped:
                return False
            if price_factor < 1 or not self._elsewhere:  # what a batch has not asked for is asked live
                return True
            if not self._others_ended(until):
                return False

    def _others_ended(self, until: float) -> bool:
        """Wait until other runs have answered what they ask for, or have left it."""
        assert self._claims is not None
        while waiting := {key for key in self._elsewhere if not self.answered(key)}:
            if self._claims.free(waiting):
                break
            what = f"another run is asking for {len(waiting)} of these requests"
            if time.monotonic() > until:
                self.failures = [f"{what}, and the deadline of this stage has passed"]
                return False
            self.bar.note(what)
            time.sleep(POLL_S)
        return True

    def answered(self, key: str) -> bool:
        """Whether a request has an answer already."""
        return self.journal is not None and key in self.journal

    def is_open(self, key: str) -> bool:
        """Whether a request from the iterator still has to be sent."""
        return not self.answered(key)

    def commit(self, entry: Entry) -> None:
        """Keep an answer before anyone uses it."""
        if self.journal is not None:
            self.journal.put(entry)

    def goes_on(self) -> bool:
        """Whether the next request may be sent; if not, [`stop`] was called."""
        return True

    def stop(self, why: str, remedy: str) -> None:
        """Say why no more requests are sent although some are open."""
        self.stopped, self._remedy = why, remedy

    def incomplete(self, what: str, kept: str, go_on: str = GO_ON) -> IncompleteRunError:
        """The error for requests without an answer: what is missing, where the answers are kept, and what to do."""
        problem = f"the last failure: {self.failures[-1]}" if self.failures else str(self.stopped)
        return IncompleteRunError(f"{what}; {problem}", f"{kept} {go_on if self.failures else self._remedy}")

    def _providers(self) -> Iterator[tuple[Provider, float]]:
        """Who is asked, one after the other, with the share of the price that is paid."""
        if not isinstance(self.target, Endpoint):
            yield self.target, 1.0
            return
        batch = self.target.batch
        if self.journal is not None:
            ledger = BatchLedger(self.journal, self.stage, self.at)
            earlier = ledger.open()
            self._batched = {key: version for each in earlier for key, version in each.versions.items()}
            if batch is not None or earlier:
                from .batch.provider import BatchProvider

                by_batch = BatchProvider(self.target, ledger, self.answered, self.bar.note, self.api)
                yield by_batch, (batch or Batch()).price_factor  # without `batch`, an earlier run's are collected
        yield provider_of(self.target, self.api, self._proven()), 1.0

    def _proven(self) -> bool:
        """Whether this endpoint has given this stage an answer before."""
        if self.journal is None:
            return False
        known = "SELECT 1 FROM responses WHERE stage = ? AND endpoint = ? AND instr(completion, ?) LIMIT 1"
        return bool(self.journal.execute(known, (self.stage, self.at, '"outcome": "ok"')).fetchone())

    def _open(self, requests: Iterator[Keyed]) -> Iterator[Keyed]:
        """Each open request once, as long as the budget allows it, but none that another run is asking."""
        for some in _grouped(requests, AT_ONCE if self._claims else 1):
            mine = self._claims.take([key for key, _ in some]) if self._claims else None
            for key, request in some:
                if mine is not None and key not in mine:
                    self._elsewhere.add(key)
                elif key in self._sent or (self.answered(key) if mine else not self.is_open(key)):
                    self.bar.advance()
                elif self.goes_on() and self._affordable(key, request):
                    self._sent[key] = request.version
                    yield key, request
                else:
                    return

    def _affordable(self, key: str, request: Request) -> bool:
        if self.budget is not None and isinstance(self.target, Endpoint):
            if not self.budget.reserve(key, request, self.target, self._price_factor):
                self.stop(self.budget.end, "Run the same command again with a higher budget to go on.")
                return False
        return True

    def _on_result(self, key: str, completion: Completion) -> None:
        cost: float | None = 0.0
        if isinstance(self.target, Endpoint):
            cost = self.target.cost(completion.prompt_tokens, completion.completion_tokens)
        cost = None if cost is None else cost * self._price_factor
        version = self._sent.get(key, self._batched.get(key, ""))
        self.commit(Entry(key, self.stage, self.at, version, completion, cost))
        if self.budget is not None:
            self.budget.settle(key, cost)
        self.bar.advance(cost or 0.0)


def _grouped(requests: Iterator[Keyed], count: int) -> Iterator[list[Keyed]]:
    while some := list(itertools.islice(requests, count)):
        yield some
