"""`annotate` beyond one process: open rows go out in shards with a journal each, answers come home into one journal.

```
shards/<stage>-<time>/
  plan.json                how many shards there are; made last, so that a plan is whole or is not
  00000/input.parquet      rows
  00000/journal.sqlite     their answers, those of the run's journal first; one worker at a time writes to it
  00000/rows.parquet       with removed.parquet and provenance.parquet: the shard is done
  logs/                    datatrove's
```

The columns are read from the run's journal in the end, as `annotate` reads them. So they are the same whether one
process or a thousand asked.
"""

import json
import os
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from datasets import Dataset
from filelock import FileLock, Timeout

from ..errors import IncompleteRunError, StarError
from ..llm.batch.ledger import Ledger
from ..llm.endpoint import Endpoint
from ..llm.journal import Journal
from ..llm.journal.exchange import import_answers
from ..llm.walk import End, Walk
from ..schema import each_row
from .executors import Scale, run_tasks
from .jobs import CarriedTask, carried
from .shard import ShardTask, read_rows


__all__ = ["drain_shards"]


def drain_shards(walk: Walk, rows: Dataset, *, scale: Scale, folder: Path) -> None:
    """Answer all open requests of the rows in shards; what `annotate` calls instead of asking itself.

    A shard that is done is not run again, and no answer that the run's journal or a shard's holds is asked again.

    Args:
        walk (`Walk`): Annotator, endpoint, journal and budget of the run.
        rows ([`~datasets.Dataset`]): All rows of the stage.
        scale (`Scale`): Where the shards run.
        folder (`Path`): Where the shards lie; all workers must see it.

    Raises:
        IncompleteRunError: If shards are not done: they failed, Slurm has yet to run them, or other processes are at
            work on them. The same call goes on.
        StarError: If the run has batches with its provider that were not collected yet.
    """
    stage = walk.annotator.stage
    _no_batches(walk)
    plans = sorted(folder.glob(f"{stage}-*/plan.json"))
    busy = [name for plan in plans for name in _bring_home(plan.parent, walk.journal)]
    ends = _open_rows(walk, rows)
    if not ends:
        return
    if busy:
        raise IncompleteRunError(
            f"{stage}: {len(busy)} shards are in the hands of other processes.",
            "Run the same command again when they have ended.",
        )
    place = _under_way(walk, plans, {end.key for end in ends.values()}) or _plan(walk, rows, ends, scale, folder)
    _run(walk, place, scale)
    _bring_home(place, walk.journal)
    if walk.budget is not None:
        walk.budget.spent_usd = walk.journal.cost()
    waiting = _waiting(place)
    if waiting:
        raise _incomplete(stage, place, waiting, scale)


def _no_batches(walk: Walk) -> None:
    """Shards know nothing of the run's own batches, and would ask once more for what these will answer."""
    if Ledger(walk.journal, walk.annotator.stage, str(walk.identity["at"])).open():
        raise StarError(
            f"{walk.annotator.stage}: batches of this run are on their way, which shards would pay for again.",
            "Collect them first: run the same command without `scale`.",
        )


def _open_rows(walk: Walk, rows: Dataset) -> dict[int, End]:
    """Each open request once, by the first row that has it: equal rows must not be asked about in two shards."""
    ends, keys = {}, set()
    for index, row in enumerate(each_row(rows)):
        end = walk.follow(row)
        if end.request is not None and end.key not in keys:
            keys.add(end.key)
            ends[index] = end
    return ends


def _under_way(walk: Walk, plans: list[Path], keys: set[str]) -> Path | None:
    """The plan whose shards hold all open requests, if there is one.

    Raises:
        IncompleteRunError: If shards hold a part of them only: other processes may be working on it.
    """
    for plan in plans:
        shards = (read_rows(plan.parent / name / "input.parquet") for name in _waiting(plan.parent))
        held = {walk.follow(row).key for rows in shards for row in rows}
        if keys <= held:
            return plan.parent
        if keys & held:
            raise IncompleteRunError(
                f"{walk.annotator.stage}: some of the open rows are in shards of {plan.parent}, and others are not.",
                "Finish those shards with the rows that they were made for, or see to it that nothing works on them "
                "and remove that folder; the answers that they had are in the run's journal already.",
            )
    return None


def _plan(walk: Walk, rows: Dataset, ends: Mapping[int, End], scale: Scale, folder: Path) -> Path:
    """Cut the open rows into shards, each with a journal of what its rows were answered already."""
    place = folder / f"{walk.annotator.stage}-{time.time_ns()}"
    count = min(scale.shards, len(ends))
    cuts = [len(ends) * number // count for number in range(count + 1)]
    opened = list(ends)
    for number, (start, stop) in enumerate(pairwise(cuts)):
        shard = place / f"{number:05d}"
        shard.mkdir(parents=True)
        rows.select(opened[start:stop]).to_parquet(shard / "input.parquet")
        with Journal(shard / "journal.sqlite") as journal:
            journal.merge(entry for index in opened[start:stop] for entry in ends[index].entries)
    plan = {"stage": walk.annotator.stage, "rows": len(ends), "shards": count}
    (place / "plan.new").write_text(json.dumps(plan) + "\n", encoding="utf-8")
    os.replace(place / "plan.new", place / "plan.json")
    return place


def _waiting(place: Path) -> tuple[str, ...]:
    """The shards that are not done."""
    count = json.loads((place / "plan.json").read_text(encoding="utf-8"))["shards"]
    names = (f"{number:05d}" for number in range(count))
    return tuple(name for name in names if not (place / name / "rows.parquet").exists())


def _bring_home(place: Path, journal: Journal) -> list[str]:
    """Take the answers of the shards into the run's journal, each shard that is done once.

    Returns:
        `list[str]`: Shards that another process is at work on. Theirs are left: SQLite does not let two hosts have one
        journal open.
    """
    busy = []
    for path in sorted(place.glob("*/journal.sqlite")):
        taken = path.with_name(".home")
        if taken.exists():
            continue
        try:
            with FileLock(path.with_name(".lock"), blocking=False):
                import_answers(journal, path)
                if (path.parent / "rows.parquet").exists():
                    taken.touch()
        except Timeout:
            busy.append(path.parent.name)
    return busy


def _run(walk: Walk, place: Path, scale: Scale) -> None:
    """Have the shards that are not done run, where the executor's workers can see them."""
    logs = f"logs/{time.time_ns()}"
    if scale.remote is None:
        waiting = _waiting(place)
        return run_tasks(_task(walk, place, waiting, scale), len(waiting), scale, place / logs)
    remote = f"{scale.remote.rstrip('/')}/{place.name}"
    with carried(place, remote, _waiting(place)):
        if waiting := _waiting(place):  # others were done in the bucket already
            task = CarriedTask(_task(walk, place, waiting, scale), remote)
            keys = {name: member.api_key() for member in walk.endpoint.members if (name := member.key_variable)}
            run_tasks(task, len(waiting), scale, f"{remote}/{logs}", secrets=keys)


def _task(walk: Walk, place: Path, waiting: tuple[str, ...], scale: Scale) -> ShardTask:
    budget = walk.budget
    share = None if budget is None else max(budget.limit_usd - walk.journal.cost(), 0) / len(waiting)
    endpoint = _divided(walk.endpoint, min(scale.workers, len(waiting)))
    return ShardTask(walk.annotator, endpoint, place.absolute(), waiting, walk.max_reasks, share)


def _divided(endpoint: Endpoint, workers: int) -> Endpoint:
    """The endpoint with a worker's part of what may be asked in a minute."""

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
            f"{stage}: {len(waiting)} shards were handed to Slurm.",
            "Run the same command again when the jobs have ended (`squeue --me`).",
        )
    what = problems[0] if problems else f"see the logs in {place / 'logs'}."
    return IncompleteRunError(
        f"{stage}: {len(waiting)} shards are not done. The first: {what}",
        "All answers so far are kept. Run the same command again to go on.",
    )
