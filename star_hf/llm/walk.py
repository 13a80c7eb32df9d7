"""Follows each row's conversation through the journal, and asks for what is open."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset

from ..errors import IncompleteRunError
from ..schema import each_row
from .batch.ledger import Ledger
from .cost.budget import Budget
from .endpoint import Endpoint
from .journal import Entry, Journal
from .types import Annotator, Completion, Request, Unusable


__all__ = ["End", "Walk", "described"]

ASK_AGAIN = "Your reply could not be used: {problem} Reply again, in exactly the form asked for and with nothing else."
GO_ON = "Run the same command again to go on."
WITHOUT = "With `--accept-unavailable` it goes on without rows that no try answers."
NAMED = 3
"""Rows that are named if no more than these are open."""
QUOTED = 4_000
"""Characters of a malformed reply that are shown back to the model."""
TRIED = 100
"""First answers of a pass that are read at once; if most of them are of no use, the others are not asked for."""


@dataclass
class End:
    """Where a row's conversation stands: parsed, unusable, or waiting for `request`.

    Attributes:
        result (`dict` or `Unusable`, *optional*): The columns, or the named failure; `None` while it waits.
        entries (`list[Entry]`): The answers so far, in order.
        key (`str`), request (`Request`, *optional*): What is to be asked next.
    """

    result: dict[str, Any] | Unusable | None
    entries: list[Entry]
    key: str = ""
    request: Request | None = None


@dataclass
class Walk:
    """The conversations of one annotator with one endpoint, as the journal has them.

    Args:
        annotator (`Annotator`): What is asked, and how answers are read.
        endpoint (`Endpoint`): Who is asked.
        journal (`Journal`): Where the answers are.
        max_reasks (`int`): How often a malformed answer is asked again.
        budget (`Budget`, *optional*): What may be spent.
        max_unusable (`float`, defaults to 1): Share of rows without a usable answer that is accepted.
        accept_unavailable (`bool`, *optional*): See [`~star_hf.llm.annotate`].
    """

    annotator: Annotator
    endpoint: Endpoint
    journal: Journal
    max_reasks: int
    budget: Budget | None
    max_unusable: float = 1.0
    accept_unavailable: bool | None = None

    def __post_init__(self) -> None:
        self.identity = self.endpoint.identity()
        self._asked: dict[int, str] = {}

    def follow(self, row: Mapping[str, Any], place: int | None = None) -> End:
        """A row's conversation, as far as it goes.

        Args:
            row (`Mapping`): The row.
            place (`int`, *optional*): Its number among all rows. With it, the key of the row's first request is
                remembered, and what is answered already need not be put into words again to be found.
        """
        if place in self._asked and (end := self._end_of(row, self._asked[place])) is not None:
            return end
        annotator, entries = self.annotator, []
        messages, version = annotator.messages(row), annotator.version(row)
        while True:
            request = Request(messages, annotator.schema(row), annotator.reasoning, version)
            key = request.key(self.identity)
            if place is not None and not entries:
                self._asked[place] = key
            entry = self.journal.get(key)
            if entry is None:
                return End(None, entries, key, request)
            entries.append(entry)
            result = self.read(entry.completion, row)
            if not _malformed(result) or len(entries) > self.max_reasks:
                return End(result, entries)
            messages = [
                *messages,
                {"role": "assistant", "content": entry.completion.text[:QUOTED]},
                {"role": "user", "content": ASK_AGAIN.format(problem=result.detail)},
            ]

    def _end_of(self, row: Mapping[str, Any], key: str) -> End | None:
        """The end of a conversation that one answer ended; `None` where there is none or it is to be asked again."""
        entry = self.journal.get(key)
        result = None if entry is None else self.read(entry.completion, row)
        return None if result is None or _malformed(result) else End(result, [entry])

    def read(self, completion: Completion, row: Mapping[str, Any]) -> dict[str, Any] | Unusable:
        """What an answer says, or the name of what is wrong with it."""
        if completion.outcome != "ok":
            return Unusable(completion.outcome, completion.detail)
        return self.annotator.parse(completion, row)

    def drain(self, rows: Dataset, bar: Any) -> Unusable | None:
        """Answer what is open now: by batches where the endpoint has them, and live what these leave.

        Returns:
            `Unusable`: What to say of rows that stayed unanswered, where that is accepted.

        Raises:
            IncompleteRunError: If requests stayed unanswered, the budget ended, or the first answers are of no use.
        """
        endpoint, failures = self.endpoint, []
        ledger = Ledger(self.journal, self.annotator.stage, str(self.identity["at"]))
        batches = endpoint.batch is not None or bool(ledger.open())
        if batches:
            from .batch import (
                provider as batch,  # what asks is imported here: those who only read answers need not wait for it
            )

            factor = 1.0 if endpoint.batch is None else endpoint.batch.price_factor
            asking = _Asking(self, rows, bar, factor)
            failures = batch.drain(endpoint, asking.requests(), asking.keep, self.journal, ledger, bar.note)
            asking.settle()
        if not batches or not (failures or asking.stopped):
            asking = _Asking(self, rows, bar)
            if endpoint.provider == "local":
                from .embedded import model as local

                failures = local.drain(endpoint, asking.requests(), asking.keep)
            else:
                from .http import pool

                failures = pool.drain(endpoint, asking.requests(), asking.keep)
            asking.settle()
        if not failures and not asking.stopped:
            return None
        if self.accept_unavailable and not asking.stopped:
            return Unusable("unavailable", failures[-1])
        missing = [row["id"] for n, row in enumerate(each_row(rows)) if self.follow(row, n).request is not None]
        named = f" ({', '.join(missing)})" if len(missing) <= NAMED else ""
        go_on = GO_ON if self.accept_unavailable is None else f"{GO_ON} {WITHOUT}"
        raise IncompleteRunError(
            f"{self.annotator.stage}: {len(missing)} of {len(rows)} rows stayed unanswered by "
            f"{endpoint.model!r}{named}; "
            + (f"the last failure: {failures[-1]}" if failures else str(asking.stopped)),
            f"All answers so far are in {self.journal.path}. " + (go_on if failures else asking.remedy),
        )


@dataclass
class _Asking:
    """One pass over the open requests: what it sends, and what comes back.

    `tried` are the first rows while they wait for their answers, `answered` how many of them have one, and `problems`
    what is wrong with those that are of no use.
    """

    walk: Walk
    rows: Dataset
    bar: Any
    price_factor: float = 1.0
    stopped: str | None = None
    remedy: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    tried: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    answered: int = 0
    problems: list[Unusable] = field(default_factory=list)

    def requests(self) -> Iterator[tuple[str, Request]]:
        """Each open request once, for as long as the budget allows it and answers can be used."""
        walk = self.walk
        self.bar.restart()
        for place, row in enumerate(each_row(self.rows)):
            end = walk.follow(row, place)
            if end.request is None or end.key in self.versions:
                self.bar.advance()
                continue
            if self._hopeless():
                return
            budget = walk.budget
            if budget is not None and not budget.reserve(end.key, end.request, walk.endpoint, self.price_factor):
                self.stopped, self.remedy = budget.end, "Run the same command again to go on, with a higher budget."
                return
            if not end.entries and len(self.tried) + self.answered < TRIED:
                self.tried[end.key] = row
            self.versions[end.key] = end.request.version
            yield end.key, end.request

    def keep(self, key: str, completion: Completion, version: str | None = None) -> None:
        """Commit an answer before anyone uses it."""
        walk = self.walk
        cost = walk.endpoint.cost(completion.prompt_tokens, completion.completion_tokens)
        cost = None if cost is None else cost * self.price_factor
        version = self.versions[key] if version is None else version
        walk.journal.put(Entry(key, walk.annotator.stage, str(walk.identity["at"]), version, completion, cost))
        if walk.budget is not None:
            walk.budget.settle(key, cost)
        self.bar.advance(cost or 0.0)
        if (row := self.tried.pop(key, None)) is not None:
            result = walk.read(completion, row)
            self.answered += 1
            self.problems += [result] if isinstance(result, Unusable) else []

    def _hopeless(self) -> bool:
        """Whether the first answers are of no use, so that the stage would be paid for and fail in the end."""
        count = len(self.problems)
        if self.answered < TRIED or count <= max(self.walk.max_unusable, 0.5) * TRIED:
            return False
        self.stopped = f"of the first {TRIED} answers {count} are unusable: {described(self.problems)}"
        self.remedy = "Mend the endpoint, prompt or model, or raise `max_unusable` to go on in spite of it."
        return True

    def settle(self) -> None:
        """Nothing of this pass is in flight any more."""
        if self.walk.budget is not None:
            self.walk.budget.release()


def _malformed(result: Any) -> bool:
    return isinstance(result, Unusable) and result.reason == "malformed"


def described(problems: Sequence[Unusable]) -> str:
    """How many failures have which name, with an example in our words or the provider's: a model's may be harmful."""
    reasons = ", ".join(f"{count} {name}" for name, count in Counter(p.reason for p in problems).most_common())
    details = (p.detail for p in problems if p.reason in ("malformed", "invalid_request", "unavailable"))
    example = next(filter(None, details), None)
    return f"{reasons}." + (f" One of them: {example}" if example else "")
