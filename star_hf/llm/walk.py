"""Each row's conversation, as far as the journal has it, and the requests that are open."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from ..schema import each_row
from .asking import FEW, GO_ON, Asking, forget_rejected
from .cost.budget import Budget
from .endpoint import Endpoint
from .journal import Entry, Journal
from .types import OUTCOMES, Annotator, Completion, Keyed, Request, Unusable


__all__ = ["End", "Walk", "again", "described"]

ASK_AGAIN = "Your reply could not be used: {problem} Reply again, in exactly the form asked for and with nothing else."
WITHOUT = "With `--accept-unavailable` it goes on without rows that have no answer."
KEPT = OUTCOMES - {"ok", "invalid_request"}
"""Failures that stay in the journal until somebody removes them."""
NAMED = 3
"""Open rows are named if there are no more than these."""
QUOTED = 4_000
"""Characters of a malformed reply that are sent back to the model."""
TRIED = 100
"""First answers of a pass that are read at once; if most of them are unusable, no more are asked for. Also the most
rows that are remembered while they wait for one, since a batch draws all requests before the first answer."""


@dataclass
class End:
    """The end of a row's conversation: its columns or named failure, or the `request` that it waits for."""

    result: dict[str, Any] | Unusable | None
    entries: list[Entry]
    key: str = ""
    request: Request | None = None


@dataclass
class Walk:
    """The conversations of one annotator with one endpoint, as the journal has them.

    The arguments are those of [`~star_hf.llm.annotate`].
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
        self.rejected: set[str] = set()

    def follow(self, row: Mapping[str, Any], place: int | None = None) -> End:
        """A row's conversation, as far as the journal has it.

        With the row's `place` among all rows, the key of its first request is remembered, so that the messages of an
        answered row are not built again.
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
        """The end of a conversation of one answer; `None` if there is no answer or it is to be asked again."""
        entry = self.journal.get(key)
        result = None if entry is None else self.read(entry.completion, row)
        return None if result is None or _malformed(result) else End(result, [entry])

    def read(self, completion: Completion, row: Mapping[str, Any]) -> dict[str, Any] | Unusable:
        """The columns of an answer, or its named failure."""
        if completion.outcome != "ok":
            return Unusable(completion.outcome, completion.detail)
        return self.annotator.parse(completion, row)

    def forget_rejected(self, keys: Sequence[str], total: int) -> bool:
        """Forget rejected requests if they are more than accepted: once each, and none that this walk has sent."""
        earlier = set(keys) - self.rejected
        accepted = self.max_unusable if self.max_unusable < 1 else FEW  # at 1, the caller counts them
        return bool(earlier) and len(keys) > accepted * total and forget_rejected(self.journal, earlier)

    def drain(self, rows: Dataset, bar: Any) -> Unusable | None:
        """Ask for all that is open now; returns the failure of rows that have no answer, if that is accepted.

        Raises:
            IncompleteRunError: If requests have no answer, the budget is used up, or the first answers are unusable.
        """
        asking = _Conversations(self, rows, bar)
        if asking.run(asking.open_requests):
            return None
        if self.accept_unavailable and not asking.stopped:
            return Unusable("unavailable", asking.failures[-1])
        missing = [row["id"] for n, row in enumerate(each_row(rows)) if self.follow(row, n).request is not None]
        named = f" ({', '.join(missing)})" if len(missing) <= NAMED else ""
        raise asking.incomplete(
            f"{asking.stage}: no answer from {self.endpoint.model!r} for {len(missing)} of {len(rows)} rows{named}",
            f"All answers so far are in {self.journal.path}.",
            GO_ON if self.accept_unavailable is None else f"{GO_ON} {WITHOUT}",
        )


class _Conversations(Asking):
    """The open requests of a walk. The first answers of each pass are read as they come."""

    def __init__(self, walk: Walk, rows: Dataset, bar: Any):
        super().__init__(walk.annotator.stage, str(walk.identity["at"]), walk.endpoint, walk.journal, bar, walk.budget)
        self._walk, self._rows = walk, rows
        self._begin()

    def _begin(self) -> None:
        self._waiting: dict[str, Mapping[str, Any]] = {}  # rows whose answers may be among the first
        self._read = 0
        self._problems: list[Unusable] = []

    def open_requests(self) -> Iterator[Keyed]:
        """The next request of each row that waits for one, as long as answers can be used."""
        self._begin()
        for place, row in enumerate(each_row(self._rows)):
            end = self._walk.follow(row, place)
            if end.request is None:
                self.bar.advance()
                continue
            if not end.entries and self._read < TRIED and len(self._waiting) < TRIED:
                self._waiting[end.key] = row
            yield end.key, end.request

    def is_open(self, key: str) -> bool:
        return True  # `follow` has just looked it up

    def commit(self, entry: Entry) -> None:
        super().commit(entry)
        if entry.completion.outcome == "invalid_request":
            self._walk.rejected.add(entry.key)
        row = self._waiting.pop(entry.key, None)
        if row is not None and self._read < TRIED:
            result = self._walk.read(entry.completion, row)
            self._read += 1
            self._problems += [result] if isinstance(result, Unusable) else []

    def goes_on(self) -> bool:
        """Not if the first answers are unusable, so that the stage would be paid for and fail in the end."""
        count = len(self._problems)
        if self._read < TRIED or count <= max(self._walk.max_unusable, 0.5) * TRIED:
            return True
        self.stop(
            f"of the first {TRIED} answers {count} are unusable: {described(self._problems)}",
            "Fix the endpoint, prompt or model, or raise `max_unusable` to go on anyway.",
        )
        return False


def _malformed(result: Any) -> bool:
    return isinstance(result, Unusable) and result.reason == "malformed"


def described(problems: Sequence[Unusable]) -> str:
    """Failures counted by name, with an example in our words or the provider's: a model's may be harmful."""
    reasons = ", ".join(f"{count} {name}" for name, count in Counter(p.reason for p in problems).most_common())
    details = (p.detail for p in problems if p.reason in ("malformed", "invalid_request", "unavailable"))
    example = next(filter(None, details), None)
    return f"{reasons}." + (f" One of them: {example}" if example else "")


def again(problems: Sequence[Unusable], stage: str, journal: Any) -> str:
    """How to have failures asked again that stay in the journal at this path; empty if there are none."""
    kept = sorted({problem.reason for problem in problems} & KEPT)
    options = " ".join(f"--outcome {outcome}" for outcome in kept)
    prune = f"`star-hf journal prune {journal} --stage {stage} {options}`"
    return f"To have them asked, and paid, again, use {prune}. " if kept else ""
