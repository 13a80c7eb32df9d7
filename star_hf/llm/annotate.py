"""The one function that runs an annotator over a `Dataset`: first every answer into the journal, then the columns."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from datasets import Dataset, Features, concatenate_datasets

from ..errors import IncompleteRunError
from ..schema import PROVENANCE, REMOVED, Outcome, as_dataset, each_row, removal
from ..utils.progress import track
from ..utils.text import encodable
from .cost.budget import Budget
from .endpoint import Endpoint
from .journal import Entry, Journal
from .types import Annotator, Unusable
from .walk import Walk, described


__all__ = ["annotate"]

logger = logging.getLogger(__name__)

PART = 500
"""Rows that become columns at a time."""


def annotate(
    rows: Dataset,
    annotator: Annotator,
    endpoint: Endpoint,
    journal: Journal,
    *,
    max_unusable: float = 0.02,
    max_reasks: int = 2,
    accept_unavailable: bool | None = None,
    budget: Budget | None = None,
    progress: bool = True,
    elsewhere: Callable[[Walk, Dataset], None] | None = None,
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
        accept_unavailable (`bool`, *optional*): Whether rows that no try answers leave as `"unavailable"`, within
            `max_unusable`. Otherwise they end the run; `False` differs from nothing in that the error tells of it.
        budget (`Budget`, *optional*): Dollars that may be spent; no request is sent that could exceed them.
        progress (`bool`, defaults to `True`): Whether to show a progress bar.
        elsewhere (`Callable`, *optional*): Has the open rows answered by other processes and brings their answers
            into the journal, such as [`~star_hf.scale.annotate.drain_shards`].

    Returns:
        `Outcome`: rows with the new columns; `removed` with the failure's name as reason; a receipt per row.

    Raises:
        ConfigError: If the endpoint refuses key, model or account.
        IncompleteRunError: If requests stayed unanswered, the budget ended, or more than `max_unusable` of the
            answers are unusable. All answers are kept, and the same call goes on.
    """
    walk = Walk(annotator, endpoint, journal, max_reasks, budget, max_unusable, accept_unavailable)
    with track(f"{annotator.stage}: {endpoint.model}", len(rows), progress) as bar:
        outcome, failure = _assemble(rows, walk, bar), None
        for _ in range(max_reasks + 1):
            if outcome is None:
                failure = elsewhere(walk, rows) if elsewhere else walk.drain(rows, bar)
                outcome = _assemble(rows, walk, bar)
        if outcome is None and failure:
            outcome = _assemble(rows, walk, bar, failure)
    if outcome is None:
        raise IncompleteRunError(
            f"{annotator.stage}: some rows are still open although all their requests were answered.",
            "The annotator must give the same messages, version and schema for the same row each time.",
        )
    _check_share(outcome.removed, len(rows), max_unusable, annotator.stage)
    return outcome


def _assemble(rows: Dataset, walk: Walk, bar: Any, unanswered: Unusable | None = None) -> Outcome | None:
    """The columns, read from the journal alone; `None` as soon as a row has a request that is not answered yet,
    unless there is a word for that.
    """
    stage = walk.annotator.stage
    finished = _Growing(Features({**rows.features, **walk.annotator.features}))
    removed, receipts = _Growing(REMOVED), _Growing(PROVENANCE)
    bar.restart()
    for place, row in enumerate(each_row(rows)):
        # Some rows are put into words anew, so that an annotator that does so otherwise each time is found out.
        end = walk.follow(row, place if place % PART else None)
        result = end.result if end.request is None else unanswered
        if result is None:
            return None
        bar.advance()
        if end.entries:
            receipts.add(_receipt(row, stage, walk.endpoint, end.entries))
        if isinstance(result, Unusable):
            removed.add(removal(row, stage, result.reason, detail=result.detail))
        else:
            finished.add({**row, **_storable(result)})
    return Outcome(finished.dataset(), removed.dataset(), receipts.dataset())


class _Growing:
    """Rows on their way into a `Dataset`, part by part: as Python strings, answers take as much memory again."""

    def __init__(self, features: Features):
        self._features = features
        self._rows: list[Mapping[str, Any]] = []
        self._parts: list[Dataset] = []

    def add(self, row: Mapping[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == PART:
            self._close_part()

    def dataset(self) -> Dataset:
        if self._rows or not self._parts:
            self._close_part()
        return concatenate_datasets(self._parts)

    def _close_part(self) -> None:
        self._parts.append(as_dataset(self._rows, self._features))
        self._rows = []


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
    problems = [Unusable(row["reason"], row["detail"]) for row in removed.select_columns(["reason", "detail"])]
    raise IncompleteRunError(
        f"{stage}: {len(removed)} of {total} answers are unusable, more than the accepted share of "
        f"{max_unusable:.1%}: {described(problems)}",
        "All answers are kept in the journal. Mend the endpoint, prompt or model, or raise `max_unusable`.",
    )
