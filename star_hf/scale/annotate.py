"""`annotate` in shards: each shard has its own journal, and all answers are collected into the run's journal.

```
shards/<stage>-<time>/
  plan.json                the number of shards; written last
  00000/input.parquet      rows
  00000/journal.sqlite     their answers, beginning with those of the run's journal; one worker at a time writes to it
  00000/rows.parquet       written last, after removed.parquet and provenance.parquet: the shard is done
  logs/                    datatrove's logs
```

`annotate` then reads the columns from the run's journal as usual, so they do not depend on the number of processes.
"""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..errors import BusyError, IncompleteRunError, StarError
from ..llm.batch.ledger import BatchLedger
from ..llm.endpoint import Endpoint
from ..llm.journal import Journal
from ..llm.journal.exchange import import_answers
from ..llm.journal.pages import log_of
from ..llm.trust import TRUSTED
from ..llm.walk import End, Walk
from ..schema import each_row
from ..utils.files import locked, read_json, read_table, write_table, write_text
from ..utils.options import validated
from .executors import Scale, run_tasks
from .jobs import BucketTask, in_bucket
from .shard import ShardTask


__all__ = ["drain_shards"]


def drain_shards(walk: Walk, rows: Dataset, *, scale: Scale, folder: Path) -> None:
    """Answer all open requests of the rows in shards; `annotate` calls this instead of sending them itself.

    A finished shard is not run again, and a request with an answer in any of the journals is not sent again.

    Raises:
        [`IncompleteRunError`]: If shards are not done: they failed, Slurm has not run them yet, or other processes are
            working on them. Call again to continue.
        [`StarError`]: If the run has submitted batches that were not collected yet.
    """
    stage = walk.annotator.stage
    _no_batches(walk)
    busy = [name for place in sorted(folder.glob(f"{stage}-*")) for name in _collect(place, walk.journal)]
    ends = _open_rows(walk, rows)
    if not ends:
        return
    if busy:
        raise IncompleteRunError(
            f"{stage}: other processes are working on {len(busy)} shards.",
            "Run the same command again when they have finished.",
        )
    plans = sorted(folder.glob(f"{stage}-*/plan.json"))
    place = _started(walk, plans, {end.key for end in ends.values()}) or _plan(walk, rows, ends, scale, folder)
    _run(walk, place, scale)
    _collect(place, walk.journal)
    if walk.budget is not None:
        walk.budget.spent_usd = walk.journal.cost()
    waiting = _waiting(place)
    if waiting:
        raise _incomplete(stage, place, waiting, scale)


def _no_batches(walk: Walk) -> None:
    """Shards do not see the run's own batches, so their requests would be sent and paid for twice."""
    if BatchLedger(walk.journal, walk.annotator.stage, str(walk.identity["at"])).open():
        raise StarError(
            f"{walk.annotator.stage}: this run has submitted batches, which shards would pay for again.",
            "Run the same command without `scale` to collect them first.",
        )


def _open_rows(walk: Walk, rows: Dataset) -> dict[int, End]:
    """Each open request once, by its first row, so that equal rows are not sent in two shards."""
    ends, keys = {}, set()
    for index, row in enumerate(each_row(rows)):
        end = walk.follow(row)
        if end.request is not None and end.key not in keys:
            keys.add(end.key)
            ends[index] = end
    return ends


def _started(walk: Walk, plans: list[Path], keys: set[str]) -> Path | None:
    """The folder of a plan whose unfinished shards contain all open requests, if there is one.

    Shards that contain only some of them are an error, since other processes may be working on these.
    """
    for plan in plans:
        shards = [plan.parent / name for name in _waiting(plan.parent)]
        held = {walk.follow(row).key for shard in shards for row in _rows_of(shard)}
        if keys <= held:
            for shard in shards:
                if not _is_begun(shard / "journal.sqlite"):  # its journal was lost
                    _bring_answers(walk, shard)
            return plan.parent
        if keys & held:
            raise IncompleteRunError(
                f"{walk.annotator.stage}: only some of the open rows are in the shards of {plan.parent}.",
                "Finish those shards with the rows that they were made for. Or make sure that no process works on "
                "them, and remove that folder; their answers are in the run's journal already.",
            )
    return None


def _plan(walk: Walk, rows: Dataset, ends: Mapping[int, End], scale: Scale, folder: Path) -> Path:
    """Cut the open rows into shards, each with a journal of the answers that its rows already have."""
    place = folder / f"{walk.annotator.stage}-{time.time_ns()}"
    count = min(scale.shards, len(ends))
    cuts = [len(ends) * number // count for number in range(count + 1)]
    opened = list(ends)
    for number, (start, stop) in enumerate(pairwise(cuts)):
        shard = place / f"{number:05d}"
        write_table(rows.select(opened[start:stop]), shard / "input.parquet")
        _bring_answers(walk, shard)
    plan = {"stage": walk.annotator.stage, "rows": len(ends), "shards": count}
    write_text(place / "plan.json", json.dumps(plan) + "\n")
    return place


@dataclass(frozen=True)
class _Plan:
    shards: int


def _again(place: Path) -> str:
    return (
        f"Make sure that no process works in {place}. Then delete {place} and run the same command again: the answers "
        "of its shards are in the run's journal already."
    )


def _bring_answers(walk: Walk, shard: Path) -> None:
    """Put the answers that the rows of a shard already have into its journal."""
    with Journal(shard / "journal.sqlite") as journal:
        journal.merge(entry for row in _rows_of(shard) for entry in walk.follow(row).entries)


def _rows_of(shard: Path) -> Dataset:
    return read_table(shard / "input.parquet", _again(shard.parent))


def _is_begun(journal: Path) -> bool:
    return (journal.is_file() and journal.stat().st_size > 0) or log_of(journal).exists()


def _waiting(place: Path) -> tuple[str, ...]:
    """The shards that are not done."""
    path, remedy = place / "plan.json", _again(place)
    plan = validated(_Plan, read_json(path, remedy), path, remedy, StarError)
    names = (f"{number:05d}" for number in range(plan.shards))
    return tuple(name for name in names if not (place / name / "rows.parquet").exists())


def _collect(place: Path, journal: Journal) -> list[str]:
    """Import the answers of the shards into the run's journal; a finished shard is imported once.

    Shards that another process is working on are returned, not imported: two hosts must not open the same SQLite file.
    """
    busy = []
    for path in sorted(place.glob("*/journal.sqlite")):
        collected = path.with_name(".home")
        if collected.exists() or not _is_begun(path):
            continue
        try:
            with locked(path.parent):
                import_answers(journal, path)
                if (path.parent / "rows.parquet").exists():
                    collected.touch()
        except BusyError:
            busy.append(path.parent.name)
    return busy


def _run(walk: Walk, place: Path, scale: Scale) -> None:
    """Run the unfinished shards where the executor's workers can see them."""
    logs = f"logs/{time.time_ns()}"
    if scale.remote is None:
        waiting = _waiting(place)
        return run_tasks(_task(walk, place, waiting, scale), len(waiting), scale, place / logs)
    remote = f"{scale.remote.rstrip('/')}/{place.name}"
    with in_bucket(place, remote, _waiting(place)):
        if waiting := _waiting(place):  # the others were finished in the bucket
            task = BucketTask(_task(walk, place, waiting, scale), remote)
            keys = {name: member.api_key() for member in walk.endpoint.members if (name := member.key_variable)}
            keys |= {TRUSTED: hosts} if (hosts := os.environ.get(TRUSTED)) else {}
            run_tasks(task, len(waiting), scale, f"{remote}/{logs}", secrets=keys)


def _task(walk: Walk, place: Path, waiting: tuple[str, ...], scale: Scale) -> ShardTask:
    budget = walk.budget
    share = None if budget is None else max(budget.limit_usd - walk.journal.cost(), 0) / len(waiting)
    endpoint = _divided(walk.endpoint, min(scale.workers, len(waiting)))
    return ShardTask(walk.annotator, endpoint, place.absolute(), waiting, walk.max_reasks, share)


def _divided(endpoint: Endpoint, workers: int) -> Endpoint:
    """The endpoint with a worker's share of the limits per minute."""

    def part(limited: Any) -> dict[str, float]:
        names = ("requests_per_minute", "tokens_per_minute")
        return {name: value / workers for name in names if (value := getattr(limited, name)) is not None}

    pool = tuple(member.model_copy(update=part(member)) for member in endpoint.pool)
    return endpoint.model_copy(update={"pool": pool, **part(endpoint)})


def _incomplete(stage: str, place: Path, waiting: tuple[str, ...], scale: Scale) -> IncompleteRunError:
    problems = [
        path.read_text(encoding="utf-8") for name in waiting if (path := place / name / "problem.txt").exists()
    ]
    if scale.executor == "slurm" and not problems:
        return IncompleteRunError(
            f"{stage}: {len(waiting)} shards were submitted to Slurm.",
            "Run the same command again when the jobs have finished (`squeue --me`).",
        )
    what = problems[0] if problems else f"see the logs in {place / 'logs'}."
    return IncompleteRunError(
        f"{stage}: {len(waiting)} shards are not done. The first: {what}",
        "All answers so far are kept. Run the same command again to continue.",
    )
