"""Run an annotator over a `Dataset`: all answers go into the journal first, then a `Dataset.map` reads the columns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, Value

from ..errors import IncompleteRunError
from ..schema import PROVENANCE, REMOVED, Outcome, as_dataset, each_row, in_memory, removal, rows_of
from ..utils.progress import quiet_datasets, track
from ..utils.text import encodable_values
from .cost.budget import Budget
from .endpoint import Endpoint
from .journal import Entry, Journal
from .types import Annotator, Unusable
from .walk import Walk, again, described


__all__ = ["annotate", "answers_of", "check_share"]

PART, AT_ONCE = 250, 1_000
"""Rows that become columns at a time, and rows of one map: `datasets` doubles its buffer in memory as it grows."""

CHECK_EVERY = 500
"""Every how many rows the messages are rendered again, to detect an annotator that renders a row differently."""

REASON, DETAIL = "failure.reason", "failure.detail"
"""Columns of [`answers_of`] that no annotator's columns can collide with, as those of receipts."""

Elsewhere = Callable[[Walk, Dataset], Unusable | None]


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
    elsewhere: Elsewhere | None = None,
) -> Outcome:
    """Ask a model about every row, add the annotator's columns, and account for every row.

    All answers are in the journal before the columns are read from it, so a killed run continues where it stopped
    and ends with the same bytes (not with the embedded model, whose answers depend on their neighbours in a batch).

    Args:
        rows ([`~datasets.Dataset`]): Rows with the columns that the annotator reads, and `id`, `question`, `source`.
        annotator (`Annotator`): What to ask, and how to read the answer.
        endpoint (`Endpoint`): The model to ask.
        journal (`Journal`): Where answers are kept.
        max_unusable (`float`, defaults to 0.02): Largest accepted share of rows without a usable answer.
        max_reasks (`int`, defaults to 2): How often a malformed answer is asked again, with what was wrong with it.
        accept_unavailable (`bool`, *optional*): Whether rows that stay unanswered are removed as `"unavailable"`,
            within `max_unusable`. Otherwise they fail the run; with `False` the error mentions this option.
        budget (`Budget`, *optional*): Dollars that may be spent; no request is sent that could exceed them.
        progress (`bool`, defaults to `True`): Whether to show a progress bar.
        elsewhere (`Callable`, *optional*): Answers the open rows in other processes and merges their answers into
            the journal, such as [`~star_hf.scale.annotate.drain_shards`].

    Returns:
        `Outcome`: rows with the new columns; `removed` with the failure's name as reason; a receipt per row.

    Raises:
        ConfigError: If the endpoint rejects the key, the model or the account.
        IncompleteRunError: If requests stayed unanswered, the budget ended, or more than `max_unusable` of the
            answers are unusable. All answers are kept, and the same call continues.
    """
    walk = Walk(annotator, endpoint, journal, max_reasks, budget, max_unusable, accept_unavailable)
    answers = answers_of(walk, rows, progress, elsewhere)
    outcome = _outcome(rows, answers, annotator)
    reasons, details = outcome.removed["reason"][:], outcome.removed["detail"][:]
    check_share(list(map(Unusable, reasons, details)), len(rows), max_unusable, annotator.stage, journal)
    return outcome


def answers_of(walk: Walk, rows: Dataset, progress: bool = True, elsewhere: Elsewhere | None = None) -> Dataset:
    """As [`annotate`], but all rows are kept and no share of them fails the run.

    Returns:
        [`~datasets.Dataset`]: One row for each of `rows`, in memory: the annotator's columns (null where there is no
        usable answer), `failure.reason`, `failure.detail`, and the receipt's columns as `receipt.<name>`.
    """
    with track(f"{walk.annotator.stage}: {walk.endpoint.model}", len(rows), progress) as bar:
        answers = _settled(rows, walk, bar, elsewhere)
        rejected = answers.data.table.filter(pc.field(REASON) == "invalid_request")
        if walk.forget_rejected(rejected[_receipt_column("request_key")].to_pylist(), len(rows)):
            answers = _settled(rows, walk, bar, elsewhere)
    return answers


def _settled(rows: Dataset, walk: Walk, bar: Any, elsewhere: Elsewhere | None) -> Dataset:
    """Ask for what is open until every row has its end."""
    answers, unanswered = _read(rows, walk, bar), None
    for _ in range(walk.max_reasks + 1):
        if answers is None:
            unanswered = elsewhere(walk, rows) if elsewhere else walk.drain(rows, bar)
            answers = _read(rows, walk, bar)
    if answers is None and unanswered:
        answers = _read(rows, walk, bar, unanswered)
    if answers is None:
        raise IncompleteRunError(
            f"{walk.annotator.stage}: some rows are still open although all their requests were answered.",
            "The annotator must give the same messages, version and schema for the same row each time.",
        )
    return answers


def check_share(failures: list[Unusable], total: int, max_unusable: float, stage: str, journal: Journal) -> None:
    """Raise an `IncompleteRunError` if more than `max_unusable` of `total` rows have no usable answer."""
    if not total or len(failures) <= max_unusable * total:
        return
    raise IncompleteRunError(
        f"{stage}: {len(failures)} of {total} answers are unusable, more than the accepted share of "
        f"{max_unusable:.1%}: {described(failures)}",
        f"All answers are kept in the journal. {again(failures, stage, journal.path)}"
        "Fix the endpoint, prompt or model, or raise `max_unusable`.",
    )


class _OpenRowError(Exception):
    """A row has a request that is not answered yet."""


@dataclass
class _Reader:
    """The function of `Dataset.map` that reads the answers of a batch from the journal, and does nothing else."""

    walk: Walk
    bar: Any
    unanswered: Unusable | None

    @property
    def features(self) -> Features:
        receipt = {_receipt_column(name): kind for name, kind in PROVENANCE.items()}
        text = Value("string")
        return Features({**self.walk.annotator.features, REASON: text, DETAIL: text, **receipt})

    def __call__(self, batch: Mapping[str, list], places: list[int], start: int) -> dict[str, list]:
        columns: dict[str, list] = {name: [] for name in self.features}
        for place, row in zip(places, rows_of(batch), strict=True):
            answer = self._answer(row, start + place)
            for name, values in columns.items():
                values.append(answer.get(name))
            self.bar.advance()
        return columns

    def _answer(self, row: Mapping[str, Any], place: int) -> dict[str, Any]:
        end = self.walk.follow(row, place if place % CHECK_EVERY else None)
        result = end.result if end.request is None else self.unanswered
        if result is None:
            raise _OpenRowError
        receipt = _receipt(row, self.walk, end.entries) if end.entries else {}
        columns = {_receipt_column(name): value for name, value in receipt.items()}
        if isinstance(result, Unusable):
            return {**columns, REASON: result.reason, DETAIL: result.detail}
        return {**columns, **encodable_values(result)}


def _read(rows: Dataset, walk: Walk, bar: Any, unanswered: Unusable | None = None) -> Dataset | None:
    """The answers to all rows; `None` if a row has an open request and there is no name for that."""
    reader = _Reader(walk, bar, unanswered)
    bar.restart()
    parts = [reader.features.arrow_schema.empty_table()]
    try:
        with quiet_datasets():
            for start in range(0, len(rows), AT_ONCE):
                part = rows.select(range(start, min(start + AT_ONCE, len(rows)))).map(
                    reader,
                    with_indices=True,
                    batched=True,
                    batch_size=PART,
                    fn_kwargs={"start": start},
                    remove_columns=rows.column_names,
                    features=reader.features,
                    keep_in_memory=True,
                    load_from_cache_file=False,
                    new_fingerprint="answers",  # so that the reader is not hashed, which its journal does not allow
                )
                parts.append(part.data.table.combine_chunks())  # a copy without the buffer's free half
    except _OpenRowError:
        return None
    return in_memory(pa.concat_tables(parts).columns, reader.features)


def _outcome(rows: Dataset, answers: Dataset, annotator: Annotator) -> Outcome:
    """Split the rows by whether they have an answer; receipts are in the order of the rows."""
    features = Features({**rows.features, **annotator.features})
    given, new = rows.with_format("arrow")[:], answers.data.table
    columns = [(new if name in annotator.features else given)[name] for name in features]
    reasons = answers[REASON][:]
    usable = [place for place, reason in enumerate(reasons) if reason is None]
    failed = [place for place, reason in enumerate(reasons) if reason is not None]
    details = answers.select(failed)[DETAIL][:]
    removed = [
        removal(row, annotator.stage, reasons[place], detail=detail)
        for place, row, detail in zip(failed, each_row(rows.select(failed)), details, strict=True)
    ]
    paid = [place for place, stage in enumerate(answers[_receipt_column("stage")][:]) if stage is not None]
    receipts = new.select([_receipt_column(name) for name in PROVENANCE]).take(pa.array(paid, pa.int64()))
    finished = in_memory(columns, features)
    return Outcome(
        finished if len(usable) == len(rows) else finished.select(usable),
        as_dataset(removed, REMOVED),
        in_memory(receipts.columns, PROVENANCE),
    )


def _receipt_column(name: str) -> str:
    return f"receipt.{name}"


def _receipt(row: Mapping[str, Any], walk: Walk, entries: list[Entry]) -> dict[str, Any]:
    last = entries[-1]
    costs = [entry.cost_usd for entry in entries]
    return {
        "id": row.get("id"),
        "stage": walk.annotator.stage,
        "request_key": last.key,
        "endpoint": last.endpoint,
        "model": last.completion.model or walk.endpoint.model,
        "prompt_version": last.version,
        "attempts": len(entries),
        "prompt_tokens": sum(entry.completion.prompt_tokens for entry in entries),
        "completion_tokens": sum(entry.completion.completion_tokens for entry in entries),
        "cost_usd": None if None in costs else sum(costs),
    }
