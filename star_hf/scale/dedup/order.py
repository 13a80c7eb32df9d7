"""Bring the rows of many files into the order of `recommended`, in shards.

The order is by source, smallest first, then by `id`. Each file is surveyed for the number of rows of each source and a
sample of their ids, from which every task computes the same cuts. Then each file is written again with one row group
for each shard, and each shard reads its row group of each file.
"""

import json
from bisect import bisect_right
from collections import Counter
from itertools import accumulate

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

from ...schema import COLLECTED
from ...utils.files import read_json, replacing, write_text
from .work import Work


__all__ = ["gather", "ranks", "route", "survey"]

SAMPLE = 1_000
"""Ids per file and source from which cuts are chosen."""


def survey(work: Work, number: int) -> None:
    """Count the rows of an input file by source, with a sample of their ids."""
    ids: dict[str, list[str]] = {}
    table = pq.read_table(work.inputs[number], columns=["id", "source"])
    for row_id, source in zip(*(table[name].cast(pa.string()).to_pylist() for name in ("id", "source")), strict=True):
        ids.setdefault(source, []).append(row_id)
    found = {}
    for source, own in ids.items():
        own.sort()
        found[source] = {"rows": len(own), "sample": own[:: -(-len(own) // SAMPLE)]}
    write_text(work.survey(number), json.dumps(found))


def ranks(work: Work) -> dict[str, tuple[int, int]]:
    """The rank of each source, smallest first, and its number of rows."""
    sizes: Counter[str] = Counter()
    for number in range(len(work.inputs)):
        sizes.update({source: found["rows"] for source, found in _survey(work, number).items()})
    ordered = sorted(sizes.items(), key=lambda item: (item[1], item[0]))
    return {source: (rank, size) for rank, (source, size) in enumerate(ordered)}


def route(work: Work, number: int) -> None:
    """Write an input file's rows again, with one row group for each shard."""
    rank, cuts = ranks(work), _cuts(work)
    table = pq.read_table(work.inputs[number])
    for name in COLLECTED:
        table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.string()))
    keys = zip(table["source"].to_pylist(), table["id"].to_pylist(), strict=True)
    places: list[list[int]] = [[] for _ in range(work.shards)]
    for place, (source, row_id) in enumerate(keys):
        places[bisect_right(cuts, (rank[source][0], row_id))].append(place)
    with replacing(work.routed(number)) as fresh, pq.ParquetWriter(fresh, table.schema) as writer:
        for own in places:
            rows = table.take(pa.array(own, pa.int64()))
            writer.write_table(rows, row_group_size=max(len(own), 1))


def gather(work: Work, shard: int) -> pa.Table:
    """Write a shard's rows in order."""
    if shard == 0:
        table = pq.read_table(work.held_out)
    else:
        files = (pq.ParquetFile(work.routed(number)) for number in range(len(work.inputs)))
        table = pa.concat_tables([file.read_row_group(shard - 1) for file in files], promote_options="default")
        ids, questions, sources = (table[name].to_pylist() for name in COLLECTED)
        rank = ranks(work)
        keys = [(rank[source][0], *rest) for source, *rest in zip(sources, ids, questions, strict=True)]
        table = table.take(pa.array(sorted(range(len(keys)), key=keys.__getitem__), pa.int64()))
    with replacing(work.shard(shard, "ids.arrow")) as fresh:
        names = table.select(["id", "source"]).cast(pa.schema({"id": pa.string(), "source": pa.string()}))
        feather.write_feather(names, str(fresh), compression="uncompressed")
    with replacing(work.shard(shard, "rows.parquet")) as fresh:
        pq.write_table(table, fresh)
    return table


def _survey(work: Work, number: int) -> dict[str, dict]:
    return read_json(work.survey(number))


def _cuts(work: Work) -> list[tuple[int, str]]:
    """The first key of each shard except the first, so that all have about the same number of rows."""
    rank = ranks(work)
    weighed = sorted(
        ((rank[source][0], row_id), found["rows"] / len(found["sample"]))
        for number in range(len(work.inputs))
        for source, found in _survey(work, number).items()
        for row_id in found["sample"]
    )
    before = [0.0, *accumulate(weight for _, weight in weighed)]
    total = before.pop() if weighed else 0.0
    wanted = [total * shard / work.shards for shard in range(1, work.shards)]
    return [weighed[min(bisect_right(before, rows), len(weighed) - 1)][0] for rows in wanted] if weighed else []
