"""Put rows of many files into one order, in shards: the order in which `recommended` compares them.

That is by source, smallest first, then by `id`. Each file tells how many rows of each source it has, with a sample of
their ids; from these every task knows the same cuts. Then each file is written again with one row group for each
shard, and a shard reads its own row group of each file.
"""

import json
from bisect import bisect_right
from collections import Counter
from itertools import accumulate

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

from ...schema import COLLECTED
from .work import Work, fresh


__all__ = ["gather", "ranks", "route", "survey"]

SAMPLE = 1_000
"""Ids per file and source that cuts are chosen from."""


def survey(work: Work, number: int) -> None:
    """Count the rows of an input file by source, and note some of their ids."""
    ids: dict[str, list[str]] = {}
    table = pq.read_table(work.inputs[number], columns=["id", "source"])
    for row_id, source in zip(*(table[name].cast(pa.string()).to_pylist() for name in ("id", "source")), strict=True):
        ids.setdefault(source, []).append(row_id)
    found = {}
    for source, own in ids.items():
        own.sort()
        found[source] = {"rows": len(own), "sample": own[:: -(-len(own) // SAMPLE)]}
    with fresh(work.survey(number)) as new:
        new.write_text(json.dumps(found), encoding="utf-8")


def ranks(work: Work) -> dict[str, tuple[int, int]]:
    """Of each source its place, smallest first, and its rows."""
    sizes: Counter[str] = Counter()
    for number in range(len(work.inputs)):
        sizes.update({source: found["rows"] for source, found in _survey(work, number).items()})
    ordered = sorted(sizes.items(), key=lambda item: (item[1], item[0]))
    return {source: (rank, size) for rank, (source, size) in enumerate(ordered)}


def route(work: Work, number: int) -> None:
    """Write an input file's rows again, in one row group for each shard."""
    rank, cuts = ranks(work), _cuts(work)
    table = pq.read_table(work.inputs[number])
    for name in COLLECTED:
        table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.string()))
    keys = zip(table["source"].to_pylist(), table["id"].to_pylist(), strict=True)
    places: list[list[int]] = [[] for _ in range(work.shards)]
    for place, (source, row_id) in enumerate(keys):
        places[bisect_right(cuts, (rank[source][0], row_id))].append(place)
    with fresh(work.routed(number)) as new, pq.ParquetWriter(new, table.schema) as writer:
        for own in places:
            rows = table.take(pa.array(own, pa.int64()))
            writer.write_table(rows, row_group_size=max(len(own), 1))


def gather(work: Work, shard: int) -> pa.Table:
    """Write a shard's rows in their order; ties are rows with nothing between them."""
    if shard == 0:
        table = pq.read_table(work.held_out)
    else:
        files = (pq.ParquetFile(work.routed(number)) for number in range(len(work.inputs)))
        table = pa.concat_tables([file.read_row_group(shard - 1) for file in files], promote_options="default")
        ids, questions, sources = (table[name].to_pylist() for name in COLLECTED)
        rank = ranks(work)
        keys = [(rank[source][0], *rest) for source, *rest in zip(sources, ids, questions, strict=True)]
        table = table.take(pa.array(sorted(range(len(keys)), key=keys.__getitem__), pa.int64()))
    with fresh(work.shard(shard, "ids.arrow")) as new:
        names = table.select(["id", "source"]).cast(pa.schema({"id": pa.string(), "source": pa.string()}))
        feather.write_feather(names, str(new), compression="uncompressed")
    with fresh(work.shard(shard, "rows.parquet")) as new:
        pq.write_table(table, new)
    return table


def _survey(work: Work, number: int) -> dict[str, dict]:
    return json.loads(work.survey(number).read_text(encoding="utf-8"))


def _cuts(work: Work) -> list[tuple[int, str]]:
    """The first key of each shard but the first; each has about as many rows as every other."""
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
