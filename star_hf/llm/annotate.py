"""The one function that runs an annotator over a `Dataset`: first every answer into the journal, then the columns."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset, Features, concatenate_datasets

from ..errors import IncompleteRunError
from ..progress import track
from ..schema import PROVENANCE, REMOVED, Outcome, as_dataset, removal
from ..text import encodable
from . import batch, pool
from .budget import Budget
from .endpoint import Endpoint
from .journal import Entry, Journal
from .ledger import Ledger
from .types import Annotator, Completion, Request, Unusable


__all__ = ["annotate"]

logger = logging.getLogger(__name__)

ASK_AGAIN = "Your reply could not be used: {problem} Reply again, in exactly the form asked for and with nothing else."
QUOTED = 4_000
"""Characters of a malformed reply that are shown back to the model."""
PART = 250
"""Rows whose columns are built at a time."""


def annotate(
    rows: Dataset,
    annotator: Annotator,
    endpoint: Endpoint,
    journal: Journal,
    *,
    max_unusable: float = 0.02,
    max_reasks: int = 2,
    budget: Budget | None = None,
    progress: bool = True,
) -> Outcome:
    """Ask a model about every row and add the annotator's columns.

    All requests are drained into the journal first; the columns are then read from the journal alone, so that a
    killed run goes on where it was and ends with the same bytes.

    Args:
        rows ([`~datasets.Dataset`]): Rows with the columns that the annotator reads, and `id`, `question`, `source`.
        annotator (`Annotator`): What to ask, and how to read the answer.
        endpoint (`Endpoint`): Whom to ask.
        journal (`Journal`): Where answers are kept.
        max_unusable (`float`, defaults to 0.02): Largest share of rows without a usable answer that is accepted.
        max_reasks (`int`, defaults to 2): How often a malformed answer is asked again, with what was wrong with it.
        budget (`Budget`, *optional*): Dollars that may be spent; no request is sent that could exceed them.
        progress (`bool`, defaults to `True`): Whether to show a progress bar.

    Returns:
        `Outcome`: rows with the new columns; `removed` with the failure's name as reason; a receipt per row.

    Raises:
        ConfigError: If the endpoint refuses key, model or account.
        IncompleteRunError: If requests stayed unanswered, the budget ended, or more than `max_unusable` of the
            answers are unusable. All answers are kept, and the same call goes on.
    """
    walk = _Walk(annotator, endpoint, journal, max_reasks, budget)
    with track(f"{annotator.stage}: {endpoint.model}", len(rows), progress) as bar:
        outcome = _assemble(rows, walk, bar)
        for _ in range(max_reasks + 1):
            if outcome is None:
                walk.drain(rows, bar)
                outcome = _assemble(rows, walk, bar)
    if outcome is None:
        raise IncompleteRunError(
            f"{annotator.stage}: some rows are still open although all their requests were answered.",
            "The annotator must give the same messages, version and schema for the same row each time.",
        )
    _check_share(outcome.removed, len(rows), max_unusable, annotator.stage)
    return outcome


def _assemble(rows: Dataset, walk: "_Walk", bar: Any) -> Outcome | None:
    """The columns, read from the journal alone; `None` as soon as a row has a request that is not answered yet.

    Part by part, since the answers as Python strings take as much memory again as the finished table.
    """
    features = Features({**rows.features, **walk.annotator.features})
    bar.restart()
    parts = [Outcome(as_dataset([], features), as_dataset([], REMOVED), as_dataset([], PROVENANCE))]
    for start in range(0, len(rows), PART):
        part = _assemble_part(rows.select(range(start, min(start + PART, len(rows)))), walk, features, bar)
        if part is None:
            return None
        parts.append(part)
    return Outcome(
        concatenate_datasets([part.rows for part in parts]),
        concatenate_datasets([part.removed for part in parts]),
        concatenate_datasets([part.provenance for part in parts]),
    )


def _assemble_part(rows: Dataset, walk: "_Walk", features: Features, bar: Any) -> Outcome | None:
    kept, removed, receipts = [], [], []
    for row in rows:
        end = walk.follow(row)
        if end.request is not None:
            return None
        bar.advance()
        receipts.append(_receipt(row, walk.annotator.stage, walk.endpoint, end.entries))
        if isinstance(end.result, Unusable):
            removed.append(removal(row, walk.annotator.stage, end.result.reason, detail=end.result.detail))
        else:
            kept.append({**row, **_storable(end.result)})
    return Outcome(as_dataset(kept, features), as_dataset(removed, REMOVED), as_dataset(receipts, PROVENANCE))


@dataclass
class _End:
    """Where a row's conversation stands: parsed, unusable, or waiting for `request`."""

    result: dict[str, Any] | Unusable | None
    entries: list[Entry]
    key: str = ""
    request: Request | None = None


@dataclass
class _Walk:
    """Follows each row's conversation through the journal as far as it goes."""

    annotator: Annotator
    endpoint: Endpoint
    journal: Journal
    max_reasks: int
    budget: Budget | None

    def __post_init__(self) -> None:
        self.identity = self.endpoint.identity()

    def follow(self, row: Mapping[str, Any]) -> _End:
        annotator, entries = self.annotator, []
        messages, version = annotator.messages(row), annotator.version(row)
        while True:
            request = Request(messages, annotator.schema(row), annotator.reasoning, version)
            key = request.key(self.identity)
            entry = self.journal.get(key)
            if entry is None:
                return _End(None, entries, key, request)
            entries.append(entry)
            result = self._read(entry.completion, row)
            malformed = isinstance(result, Unusable) and result.reason == "malformed"
            if not malformed or len(entries) > self.max_reasks:
                return _End(result, entries)
            messages = [
                *messages,
                {"role": "assistant", "content": entry.completion.text[:QUOTED]},
                {"role": "user", "content": ASK_AGAIN.format(problem=result.detail)},
            ]

    def _read(self, completion: Completion, row: Mapping[str, Any]) -> dict[str, Any] | Unusable:
        if completion.outcome != "ok":
            return Unusable(completion.outcome, completion.detail)
        return self.annotator.parse(completion, row)

    def drain(self, rows: Dataset, bar: Any) -> None:
        """Answer what is open now: by batches where the endpoint has them, and live what these leave."""
        endpoint, failures = self.endpoint, []
        ledger = Ledger(self.journal, self.annotator.stage, str(self.identity["at"]))
        batches = endpoint.batch is not None or bool(ledger.open())
        if batches:
            factor = 1.0 if endpoint.batch is None else endpoint.batch.price_factor
            asking = _Asking(self, rows, bar, factor)
            failures = batch.drain(endpoint, asking.requests(), asking.keep, self.journal, ledger, bar.note)
            asking.settle()
        if not batches or not (failures or asking.stopped):
            asking = _Asking(self, rows, bar)
            if endpoint.provider == "local":
                from . import local

                failures = local.drain(endpoint, asking.requests(), asking.keep)
            else:
                failures = pool.drain(endpoint, asking.requests(), asking.keep)
            asking.settle()
        if failures or asking.stopped:
            missing = sum(self.follow(row).request is not None for row in rows)
            raise IncompleteRunError(
                f"{self.annotator.stage}: {missing} of {len(rows)} rows stayed unanswered by {endpoint.model!r}; "
                + (f"the last failure: {failures[-1]}" if failures else str(asking.stopped)),
                f"All answers so far are in {self.journal.path}. Run the same command again to go on"
                + (", with a higher budget." if not failures else "."),
            )


@dataclass
class _Asking:
    """One pass over the open requests: what it sends, and what comes back."""

    walk: _Walk
    rows: Dataset
    bar: Any
    price_factor: float = 1.0
    stopped: str | None = None
    versions: dict[str, str] = field(default_factory=dict)

    def requests(self) -> Iterator[tuple[str, Request]]:
        """Each open request once, for as long as the budget allows it."""
        walk = self.walk
        self.bar.restart()
        for row in self.rows:
            end = walk.follow(row)
            if end.request is None or end.key in self.versions:
                self.bar.advance()
                continue
            budget = walk.budget
            if budget is not None and not budget.reserve(end.key, end.request, walk.endpoint, self.price_factor):
                self.stopped = f"the budget of ${budget.limit_usd:.2f} allows no further request"
                return
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

    def settle(self) -> None:
        """Nothing of this pass is in flight any more."""
        if self.walk.budget is not None:
            self.walk.budget.release()


def _storable(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {name: encodable(value) if isinstance(value, str) else value for name, value in columns.items()}


def _receipt(row: Mapping[str, Any], stage: str, endpoint: Endpoint, entries: list[Entry]) -> dict[str, Any]:
    last = entries[-1]
    costs = [entry.cost_usd for entry in entries]
    return {
        "id": row["id"],
        "stage": stage,
        "request_key": last.key,
        "endpoint": last.endpoint,
        "model": last.completion.model or endpoint.model,
        "prompt_version": last.version,
        "attempts": len(entries),
        "prompt_tokens": sum(entry.completion.prompt_tokens for entry in entries),
        "completion_tokens": sum(entry.completion.completion_tokens for entry in entries),
        "cost_usd": None if None in costs else sum(costs),
    }


def _check_share(removed: Dataset, total: int, max_unusable: float, stage: str) -> None:
    if not total or len(removed) <= max_unusable * total:
        return
    reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(removed["reason"]).most_common())
    example = next((f" One of them: {detail}" for detail in removed["detail"] if detail), "")
    raise IncompleteRunError(
        f"{stage}: {len(removed)} of {total} answers are unusable ({reasons}), "
        f"more than the accepted share of {max_unusable:.1%}.{example}",
        "All answers are kept in the journal. Mend the endpoint, prompt or model, or raise `max_unusable`.",
    )
