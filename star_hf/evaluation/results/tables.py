"""Tables of answers and verdicts: chosen, ordered, and merged."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets

from ...schema import each_row
from ..grading.judges.base import Judge
from ..grading.panel import PANEL, panel
from ..tasks.benchmarks import place_of
from .results import Results


__all__ = ["in_order", "judge_records", "judged_pairs", "merged_verdicts", "of_benchmarks", "on_same"]

KEY = ("benchmark", "item_id", "sample")


def of_benchmarks(rows: Dataset, benchmarks: Iterable[str]) -> Dataset:
    """The rows of some benchmarks."""
    return rows.select(np.flatnonzero(np.isin(rows["benchmark"][:], list(benchmarks))))


def judged_pairs(verdicts: Dataset) -> list[tuple[str, str]]:
    """Benchmark and judge of each verdict."""
    return list(zip(verdicts["benchmark"][:], verdicts["judge"][:], strict=True))


def on_same(verdicts: Dataset, before: Dataset, now: Dataset) -> tuple[Dataset, Dataset]:
    """The verdicts on responses that are there now as they were before, in every column, and the other verdicts."""
    old, new = ({tuple(row[name] for name in KEY): row for row in each_row(rows)} for rows in (before, now))
    keys = zip(*(verdicts[name][:] for name in KEY), strict=True)
    same = np.array([key in new and new[key] == old.get(key) for key in keys], dtype=bool)
    return verdicts.select(np.flatnonzero(same)), verdicts.select(np.flatnonzero(~same))


def in_order(rows: Dataset) -> Dataset:
    """The rows in the order of the benchmarks."""
    return rows.select(np.argsort([place_of(name) for name in rows["benchmark"][:]], kind="stable"))


def merged_verdicts(there: Dataset, fresh: Dataset, with_panel: bool) -> Dataset:
    """Verdicts with fresh ones in place of the same judges' on the same benchmarks, and the panel's made anew."""
    replaced, pairs = set(judged_pairs(fresh)), judged_pairs(there)
    kept = [n for n, pair in enumerate(pairs) if pair not in replaced and pair[1] != PANEL]
    merged = concatenate_datasets([fresh, there.select(kept)])
    if with_panel:
        merged = concatenate_datasets([merged, panel(merged)])
    return in_order(merged)


def judge_records(before: Results | None, verdicts: Dataset, judges: Sequence[Judge]) -> list[dict[str, Any]]:
    """`Results.judges`: those of before that still have verdicts, those of now, and the panel."""
    there = verdicts.unique("judge")
    records = {record["name"]: record for record in (before.judges if before else ()) if record["name"] in there}
    records |= {judge.name: judge.record() for judge in judges}
    if PANEL in there:
        records[PANEL] = {"name": PANEL, "model": None, "at": "the majority of the others"}
    return list(records.values())
