"""Looking after a journal: what is in it, and what may go."""

from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ...errors import StarError
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
    """Some of a journal's answers: those that meet every condition that is given.

    Args:
        stages (`tuple[str, ...]`): Asked by one of these annotators.
        versions (`tuple[str, ...]`): Whose prompt version starts with one of these.
        outcomes (`tuple[str, ...]`): That ended in one of these outcomes.
        before (`float`, *optional*): That came before this time, in seconds since 1970.
    """

    stages: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    before: float | None = None

    def sql(self) -> tuple[str, list[Any]]:
        """The condition as SQL, and its parameters."""
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
    """What one stage had from one model.

    Attributes:
        stage, endpoint, model (`str`): Who asked, where, and what the provider says answered.
        version (`str`): The prompt version, or `""` where all versions are counted together.
        outcomes (`dict[str, int]`): Answers by the name of their outcome.
        prompt_tokens, completion_tokens (`int`): As billed.
        cost_usd (`float` or `None`): Dollars, `None` where no answer has a price.
        unpriced (`int`): Answers whose price was not known.
        first, last (`float`): When the first and the last answer came, in seconds since 1970.
        latency_s (`float`): Mean seconds from sending to the whole answer.
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
        """How many answers there are in all."""
        return sum(self.outcomes.values())


def usage(journal: Journal, selection: Selection = EVERYTHING, by_version: bool = False) -> list[Usage]:
    """Answers, outcomes, tokens, dollars and times per stage, endpoint and model, in that order.

    Args:
        journal (`Journal`): Where the answers are.
        selection (`Selection`, *optional*): Which answers to count; all of them by default.
        by_version (`bool`, defaults to `False`): Whether to count each prompt version by itself.

    Returns:
        `list[Usage]`: One for each stage, endpoint and model, and prompt version where asked for.
    """
    where, parameters = selection.sql()
    query = _USAGE.format(version="version" if by_version else "''", where=where)
    rows = journal.execute(query, parameters).fetchall()
    return [_usage(names, list(group)) for names, group in groupby(rows, key=lambda row: row[:4])]


def prune(journal: Journal, selection: Selection) -> int:
    """Remove answers for good and give their space back to the disk.

    They are asked, and paid, again when a run needs them. Not for a journal that a run is using at the moment.

    Args:
        journal (`Journal`): Where the answers are.
        selection (`Selection`): Which answers go; at least one condition must be given.

    Returns:
        `int`: How many went.

    Raises:
        StarError: If the selection names no condition, or the file cannot be written.
    """
    if selection == EVERYTHING:
        raise StarError("Nothing says which answers to remove.", "Give a stage, prompt version, outcome or age.")
    where, parameters = selection.sql()
    removed = journal.execute(f"DELETE FROM responses WHERE {where}", parameters).rowcount
    journal.execute("VACUUM")
    journal.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return removed


def _usage(names: tuple[str, str, str, str], rows: list[tuple[Any, ...]]) -> Usage:
    """Add up a group's outcomes; each row is one outcome."""
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
