"""What is in a journal, and removing answers from it."""

from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ...errors import StarError
from .checks import damaged
from .pages import YEAR_10000, copy_of
from .store import Journal


__all__ = ["Selection", "Usage", "prune", "usage"]

_USAGE = """
SELECT stage, endpoint, json_extract(completion, '$.model') AS model, {version} AS prompt,
    json_extract(completion, '$.outcome') AS outcome, COUNT(*),
    SUM(json_extract(completion, '$.prompt_tokens')), SUM(json_extract(completion, '$.completion_tokens')),
    SUM(cost_usd), COUNT(cost_usd), MIN(created_at), MAX(created_at), SUM(json_extract(completion, '$.latency_s'))
FROM responses WHERE {where} GROUP BY stage, endpoint, model, prompt, outcome
ORDER BY stage, endpoint, model, prompt, outcome
"""


@dataclass(frozen=True)
class Selection:
    """Some of a journal's answers: those that meet all given conditions.

    The stage is one of `stages`, the prompt version starts with one of `versions`, the outcome is one of `outcomes`,
    and the answer arrived `before` this time, in seconds since 1970.
    """

    stages: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    before: float | None = None

    def sql(self) -> tuple[str, list[Any]]:
        """The conditions as SQL, and their parameters."""
        conditions: dict[str, tuple[Any, ...]] = {
            "stage = ?": self.stages,
            "instr(version, ?) = 1": self.versions,
            "json_extract(completion, '$.outcome') = ?": self.outcomes,
            "created_at < ?": () if self.before is None else (self.before,),
        }
        given = {condition: values for condition, values in conditions.items() if values}
        clauses = [f"({' OR '.join([condition] * len(values))})" for condition, values in given.items()]
        return " AND ".join(clauses) or "TRUE", [value for values in given.values() for value in values]


EVERYTHING = Selection()


@dataclass(frozen=True)
class Usage:
    """The answers of one model to one stage.

    Attributes:
        version (`str`): The prompt version, or `""` if all versions are counted together.
        outcomes (`dict[str, int]`): Number of answers by outcome.
        cost_usd (`float` or `None`): Dollars; `None` if no answer has a price.
        unpriced (`int`): Answers without a known price.
        first, last (`float`): When the first and the last answer arrived, in seconds since 1970.
        latency_s (`float`): Mean seconds from sending a request to the end of its answer.
    """

    stage: str
    endpoint: str
    model: str
    version: str
    outcomes: dict[str, int]
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    unpriced: int
    first: float
    last: float
    latency_s: float

    @property
    def answers(self) -> int:
        """Number of all answers."""
        return sum(self.outcomes.values())


def usage(journal: Journal, selection: Selection = EVERYTHING, by_version: bool = False) -> list[Usage]:
    """Answers, outcomes, tokens, dollars and times per stage, endpoint and model (and prompt version, `by_version`),
    in that order."""
    where, parameters = selection.sql()
    query = _USAGE.format(version="version" if by_version else "''", where=where)
    rows = list(journal.rows(query, parameters))
    if not all(0 <= at < YEAR_10000 for row in rows for at in row[10:12]):
        raise damaged(journal.path, "it has an answer of no possible time")
    return [_usage(names, list(group)) for names, group in groupby(rows, key=lambda row: row[:4])]


def prune(journal: Journal, selection: Selection) -> int:
    """Remove answers permanently and free their space on disk.

    They are asked, and paid, again when a run needs them. Must not be called while a run uses the journal. Returns how
    many answers were removed.

    Raises:
        StarError: If the selection has no condition, or the file cannot be written.
    """
    if selection == EVERYTHING:
        raise StarError("The selection has no condition.", "Give a stage, prompt version, outcome or age.")
    where, parameters = selection.sql()
    removed = journal.execute(f"DELETE FROM responses WHERE {where}", parameters).rowcount
    journal.execute("VACUUM")
    journal.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    copy_of(journal.path).unlink(missing_ok=True)
    return removed


def _usage(names: tuple[str, str, str, str], rows: list[tuple[Any, ...]]) -> Usage:
    """Add up the outcomes of a group; each row is one outcome."""
    outcomes = {row[4]: row[5] for row in rows}
    answers, priced = sum(outcomes.values()), sum(row[9] for row in rows)
    stage, endpoint, model, version = names
    return Usage(
        stage=stage,
        endpoint=endpoint,
        model=model,
        version=version,
        outcomes=outcomes,
        prompt_tokens=sum(row[6] for row in rows),
        completion_tokens=sum(row[7] for row in rows),
        cost_usd=sum(row[8] or 0.0 for row in rows) if priced else None,
        unpriced=answers - priced,
        first=min(row[10] for row in rows),
        last=max(row[11] for row in rows),
        latency_s=sum(row[12] for row in rows) / answers,
    )
