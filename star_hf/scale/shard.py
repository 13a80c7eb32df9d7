"""One shard, as a worker runs it."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BusyError, StarError
from ..llm.annotate import annotate
from ..llm.cost.budget import Budget
from ..llm.endpoint import Endpoint
from ..llm.journal import Journal
from ..llm.types import Annotator
from ..utils.files import locked, read_table, write_table


__all__ = ["TABLES", "ShardTask"]

logger = logging.getLogger(__name__)

TABLES = ("removed", "provenance", "rows")
"""The tables of a finished shard, in the order of writing: `rows` is last, since it marks the shard as done."""


@dataclass(frozen=True)
class ShardTask:
    """One shard, as an executor runs it: rows in, rows and journal out.

    The annotator must be picklable, and the endpoint's key is read from the worker's environment. `shards` are the
    names of the shards by rank, and `budget_usd` is what each of them may spend.
    """

    annotator: Annotator
    endpoint: Endpoint
    folder: Path
    shards: tuple[str, ...]
    max_reasks: int
    budget_usd: float | None = None

    def __call__(self, data: Any, rank: int, world_size: int) -> None:
        """Run the shard of a rank. Errors go to its `problem.txt`, since a task that raises ends the others."""
        place = self.folder / self.shards[rank]
        try:
            with locked(place):
                self._run(place)
        except BusyError:
            logger.warning("shard %s is being worked on by another process", place.name)
        except StarError as error:
            (place / "problem.txt").write_text(str(error), encoding="utf-8")
            logger.error("shard %s: %s", place.name, error)

    def _run(self, place: Path) -> None:
        if (place / "rows.parquet").exists():
            return
        budget = None if self.budget_usd is None else Budget(self.budget_usd)
        rows = read_table(place / "input.parquet")
        with Journal(place / "journal.sqlite") as journal:
            outcome = annotate(
                rows,
                self.annotator,
                self.endpoint,
                journal,
                max_unusable=1.0,  # the share is checked for all shards together
                max_reasks=self.max_reasks,
                budget=budget,
                progress=False,
            )
        for name in TABLES:
            write_table(getattr(outcome, name), place / f"{name}.parquet")
        (place / "problem.txt").unlink(missing_ok=True)
