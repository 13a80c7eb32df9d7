"""From pairs to removed rows, by the steps of one process, and the kept and removed rows of each shard."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

from ...deduplication.evidence import ACROSS_NGRAM
from ...deduplication.rules import Steps
from ...schema import COLLECTED, REMOVED
from ...similarity.ngrams import Ragged
from ...similarity.pairs import Matches, concatenate
from ...utils.files import replacing, write_text
from .order import ranks
from .work import Work, load, load_pairs, place_of, save, shard_of, slice_of


__all__ = ["resolve_vectors", "resolve_words", "write"]


def resolve_words(work: Work, part: int = 0) -> None:
    """All steps except those of embeddings, for all rows, in one task."""
    steps = _steps(work)
    steps.by_words(dict(work.ngram), work.tfidf_threshold)
    _save_found(work, "words", steps)


def resolve_vectors(work: Work, part: int = 0) -> None:
    """The steps of embeddings, for the remaining rows, in one task."""
    steps = _steps(work)
    steps.alive[steps.evidence.numbers(load(work.part("words", part))[0])] = False
    steps.by_embeddings(work.embedding_threshold)
    _save_found(work, "vectors", steps)


def write(work: Work, shard: int) -> None:
    """Write a shard's kept rows, and its removed rows with what each of them matched."""
    rows = pq.read_table(work.shard(shard, "rows.parquet"))
    kinds = ("words",) if work.embedding_threshold is None else ("words", "vectors")
    found = [_removed(work, shard, rows, kind) for kind in kinds]
    places = np.concatenate([places for places, _ in found])
    removed = pa.concat_tables([table for _, table in found]).take(pa.array(np.argsort(places)))
    kept = rows.take(pa.array(np.setdiff1d(np.arange(len(rows)), places)))
    for name, table in (("removed", removed), ("kept", kept)):
        with replacing(work.output(name, shard)) as fresh, pq.ParquetWriter(fresh, table.schema) as writer:
            if len(table):  # `load_dataset` fails on an empty row group
                writer.write_table(table)


class _ShardEvidence:
    """[`~star_hf.deduplication.evidence.Evidence`] that the shards found, numbered as in one process."""

    def __init__(self, work: Work):
        self._work = work
        self._keys, self._pairs = cache(self._read_keys), cache(self._read_pairs)
        self.offsets = np.r_[0, np.cumsum(work.sizes())]

    def numbers(self, names: np.ndarray) -> np.ndarray:
        """The numbers of named rows."""
        return self.offsets[shard_of(names)] + place_of(names)

    def names(self, numbers: np.ndarray) -> np.ndarray:
        """The names of numbered rows."""
        shards = np.searchsorted(self.offsets, numbers, side="right") - 1
        return (shards << 32) | (numbers - self.offsets[shards])

    def exact(self) -> Ragged:
        return self._keys("exact")

    def ngrams(self) -> Ragged:
        return self._keys("ngrams")

    def ngrams_within(self, rows: np.ndarray, n: int) -> Ragged:
        return self._keys("ngrams" if n == ACROSS_NGRAM else "within").take(rows)

    def tfidf(self, rows: np.ndarray, references: np.ndarray | None, threshold: float) -> Matches:
        return self._between("tfidf", rows, references)

    def embedding(self, rows: np.ndarray, references: np.ndarray | None, threshold: float) -> Matches:
        return self._between("embedding", rows, references)

    def _read_keys(self, kind: str) -> Ragged:
        """The keys that several rows share."""
        owners, groups, count = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
        for path in self._work.parts(kind):
            names, group = load(path)
            owners.append(self.numbers(names))
            groups.append(group + count)
            count += int(group.max(initial=-1)) + 1
        owner, group = np.concatenate(owners), np.concatenate(groups)
        order = np.argsort(owner, kind="stable")
        return Ragged(np.r_[0, np.cumsum(np.bincount(owner, minlength=self.offsets[-1]))], group[order])

    def _read_pairs(self, kind: str) -> Matches:
        pairs = concatenate(load_pairs(load(path)) for path in self._work.parts(kind))
        return Matches(self.numbers(pairs.left), self.numbers(pairs.right), pairs.similarity)

    def _between(self, kind: str, rows: np.ndarray, references: np.ndarray | None) -> Matches:
        pairs = self._pairs(kind)
        if not len(rows):
            return pairs.where(slice(0))
        pairs = pairs.where(slice(*np.searchsorted(pairs.left, [rows[0], rows[-1] + 1])))
        asked, known = np.zeros((2, self.offsets[-1]), bool)
        asked[rows], known[rows if references is None else references] = True, True
        return pairs.where(asked[pairs.left] & known[pairs.right])


def _steps(work: Work) -> Steps:
    evidence = _ShardEvidence(work)
    start = stop = int(evidence.offsets[1])
    spans = {}
    for source, (_, size) in ranks(work).items():
        start, stop = stop, stop + size
        spans[source] = range(start, stop)
    return Steps(evidence, int(evidence.offsets[1]), spans, paper=False)


def _save_found(work: Work, kind: str, steps: Steps) -> None:
    """Write the removed rows with their match, similarity and step, sorted by removed row."""
    evidence: _ShardEvidence = steps.evidence
    columns = [
        (evidence.names(found.matches.left), evidence.names(found.matches.right), found.matches.similarity)
        for found in steps.found
    ]
    step = np.repeat(np.arange(len(columns)), [len(left) for left, *_ in columns])
    left, right, similarity = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.argsort(left)
    write_text(_labels(work, kind), json.dumps([[found.measure, found.detail] for found in steps.found]))
    save(work.part(kind, 0), *(column[order] for column in (left, right, similarity, step)))


def _removed(work: Work, shard: int, rows: pa.Table, kind: str) -> tuple[np.ndarray, pa.Table]:
    """Places of the rows that the steps removed, and their records."""
    left, right, similarity, step = slice_of([work.part(kind, 0)], shard)
    labels = json.loads(_labels(work, kind).read_text(encoding="utf-8"))
    gone = rows.select(list(COLLECTED)).take(pa.array(place_of(left)))
    matched = _identities(work, right)
    reasons = [
        f"{labels[number][0]}_{'duplicate' if other else 'contamination'}"
        for number, other in zip(step.tolist(), shard_of(right).tolist(), strict=True)
    ]
    columns = {
        **{name: gone[name] for name in COLLECTED},
        "stage": ["deduplicate"] * len(left),
        "reason": reasons,
        "matched_id": matched["id"],
        "matched_source": matched["source"],
        "similarity": np.minimum(similarity.view(np.float64), 1.0),
        "detail": [labels[number][1] for number in step.tolist()],
    }
    return place_of(left), pa.Table.from_pydict(columns, schema=REMOVED.arrow_schema)


def _identities(work: Work, names: np.ndarray) -> pa.Table:
    """Ids and sources of named rows."""
    order = np.argsort(shard_of(names), kind="stable")
    parts = [pa.schema({"id": pa.string(), "source": pa.string()}).empty_table()]
    for shard in np.unique(shard_of(names)).tolist():
        table = feather.read_table(work.shard(shard, "ids.arrow"), memory_map=True)
        parts.append(table.take(pa.array(place_of(names[order][shard_of(names[order]) == shard]))))
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    return pa.concat_tables(parts).take(pa.array(back))


def _labels(work: Work, kind: str) -> Path:
    return work.part(kind, 0).with_suffix(".json")
