"""`deduplicate` in shards: Parquet files in, shards of kept and removed rows out, by datatrove's executors.

| stage | tasks | does |
|---|---|---|
| survey, route | input files | bring the rows into one order, in shards |
| index | shards | keys of texts, n-grams and terms |
| match | parts of the key space | which rows share a key, how many texts contain a term |
| weigh | shards | TF-IDF weights |
| compare_words | shards | pairs by TF-IDF; any two shards are compared once |
| *or* sign, bucket, verify | shards, buckets, shards | candidate pairs by MinHash, then their cosines |
| resolve_words | one | the steps of `recommended`, from the keys and pairs |
| sample, measure | shards, one | in which languages the encoder can tell texts apart |
| encode, compare_vectors, resolve_vectors | shards, shards, one | the same by embeddings, for the remaining rows |
| write | shards | `kept/` and `removed/` |

Without MinHash the result equals that of [`~star_hf.transforms.deduplicate.deduplicate`] in one process to the last
bit, except for the rounding of an embedding model, which depends on the texts in a batch.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset
from threadpoolctl import threadpool_limits

from ..deduplication.result import NEEDED, as_collected
from ..errors import ConfigError, SourceError, StarError
from ..schema import COLLECTED
from ..similarity.encoders import Encoder
from ..similarity.options import EncoderOptions, make_encoder
from ..similarity.pairs import check_thresholds
from ..similarity.readable import warn_of
from ..utils.files import locked, read_json, write_json, write_table
from .dedup.index import index, match, weigh
from .dedup.joins import compare_vectors, compare_words, encode, measure, sample, verify
from .dedup.order import route, survey
from .dedup.resolve import resolve_vectors, resolve_words, write
from .dedup.work import Banding, Work
from .executors import Scale, Stage, run_stages


__all__ = ["Banding", "Tally", "deduplicate_shards"]


@dataclass(frozen=True)
class Tally:
    """The counts of a deduplication in shards: kept rows, removed rows by reason, and texts by language or script
    that were compared by words alone, since the encoder cannot tell them apart. `folder` has `kept/` and `removed/`.
    """

    folder: Path
    kept: int
    removed: dict[str, int]
    unread: dict[str, int] = field(default_factory=dict)


def deduplicate_shards(
    inputs: Sequence[str | Path],
    held_out: Dataset,
    folder: str | Path,
    *,
    scale: Scale,
    ngram: Mapping[str, int] | None = None,
    tfidf_threshold: float = 0.6,
    embedding_threshold: float | None = 0.7,
    encoder: Encoder | EncoderOptions | str | None = None,
    banding: Banding | None = None,
    progress: bool = True,
) -> Tally:
    """Deduplicate and decontaminate Parquet files by the profile `recommended`, in shards.

    Finished tasks are skipped: after an interruption, call again to continue.

    Args:
        inputs (`Sequence[str | Path]`): Parquet files with `COLLECTED` columns; kept rows retain other columns. Each
            file must fit into a worker's memory.
        held_out ([`~datasets.Dataset`]): `COLLECTED` columns of the benchmark items.
        folder (`str` or `Path`): Folder of the result and of intermediate files, visible to all workers. `work/` in it
            can be removed at the end.
        scale ([`Scale`]): Where the shards run, and how many there are.
        ngram, tfidf_threshold, embedding_threshold, encoder: As for
            [`~star_hf.transforms.deduplicate.deduplicate`].
        banding ([`Banding`], *optional*): Find the pairs for TF-IDF by MinHash instead of comparing all rows.
        progress (`bool`, defaults to `True`): Whether to show a progress bar.

    Returns:
        [`Tally`]: The counts. `kept/*.parquet` contain the kept rows by source, smallest first, then by `id`, and
        `removed/*.parquet` the others as `REMOVED`.

    Raises:
        [`ConfigError`]: If the folder belongs to a run with other parameters or inputs, a package is missing, or a
            threshold is invalid.
        [`SourceError`]: If an input cannot be read, or a column or value in it is missing.
        [`IncompleteRunError`]: If shards are not done: they failed, or Slurm has not run them yet. Call again to
            continue.
        [`BusyError`]: If another process works in the folder.
    """
    check_thresholds(tfidf_threshold, embedding_threshold)
    work = Work(
        folder=Path(folder).absolute(),
        inputs=tuple(Path(path).absolute() for path in inputs),
        shards=scale.shards,
        ngram=tuple(sorted((ngram or {}).items())),
        tfidf_threshold=tfidf_threshold,
        embedding_threshold=embedding_threshold,
        encoder=make_encoder(encoder) if embedding_threshold is not None else None,
        banding=banding,
        threads=int(scale.options.get("cpus_per_task", 1)),
    )
    rows = _checked(work.inputs)
    with locked(work.folder):
        _begin(work, held_out)
        run_stages(list(_stages(work)), scale, work.folder / "logs", progress)
    return _tally(work, rows)


def _call(
    function: Callable[[Work, int], None], work: Work, first: int, data: Any, rank: int, world_size: int
) -> None:
    """Call a function of the work and a number, as a step of datatrove."""
    with threadpool_limits(work.threads):
        function(work, first + rank)


def _stages(work: Work) -> Iterator[Stage]:
    def stage(function: Callable[[Work, int], None], count: int, first: int = 0) -> Stage:
        return Stage(function.__name__, (partial(_call, function, work, first),), count)

    shards, files = work.shards, len(work.inputs)
    yield stage(survey, files)
    yield stage(route, files)
    yield stage(index, shards + 1)
    yield stage(match, shards)
    yield stage(weigh, shards + 1)
    if work.banding is None:
        yield stage(compare_words, shards, first=1)
    else:
        from .dedup.minhash import buckets, signatures

        yield Stage("sign", signatures(work), shards + 1)
        yield Stage("bucket", buckets(work), work.banding.buckets)
        yield stage(verify, shards, first=1)
    yield stage(resolve_words, 1)
    if work.embedding_threshold is not None:
        yield stage(sample, shards + 1)
        yield stage(measure, 1)
        yield stage(encode, shards + 1)
        yield stage(compare_vectors, shards, first=1)
        yield stage(resolve_vectors, 1)
    yield stage(write, shards, first=1)


def _checked(inputs: Sequence[Path]) -> int:
    """The number of rows in all inputs, each of which must be readable and have all columns and values."""
    if not inputs:
        raise SourceError("There are no Parquet files to deduplicate.", "Pass files, or a folder that contains some.")
    rows = 0
    for path in inputs:
        try:
            file = pq.ParquetFile(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise SourceError(f"{path} cannot be read as Parquet: {error}", "Check the path and the file.") from error
        missing = [name for name in COLLECTED if name not in file.schema_arrow.names]
        if missing:
            raise SourceError(f"{path} has no column {', '.join(missing)}.", NEEDED)
        if holes := _holes(file.metadata):
            raise SourceError(f"{path} has rows with no {' and no '.join(holes)}.", NEEDED)
        rows += file.metadata.num_rows
    return rows


def _holes(metadata: pq.FileMetaData) -> list[str]:
    """The columns of `COLLECTED` with missing values, according to the file's statistics."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    chunks = [group.column(number) for group in groups for number in range(metadata.num_columns)]
    lacking = {chunk.path_in_schema for chunk in chunks if chunk.statistics and chunk.statistics.null_count}
    return [name for name in COLLECTED if name in lacking]


def _begin(work: Work, held_out: Dataset) -> None:
    """Write the plan, or check that it equals the one in the folder."""
    stats = [(str(path), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in work.inputs]
    held_out = as_collected(held_out).select_columns(list(COLLECTED))
    plan = {
        "profile": "recommended",
        "inputs": stats,
        "held_out": held_out["id"][:],
        "shards": work.shards,
        "ngram": work.ngram,
        "tfidf_threshold": work.tfidf_threshold,
        "embedding_threshold": work.embedding_threshold,
        "encoder": work.encoder and work.encoder.identity,
        "banding": work.banding and asdict(work.banding),
    }
    plan, path = json.loads(json.dumps(plan)), work.folder / "plan.json"
    if path.exists():
        begun = read_json(path, f"Delete {work.folder}, then run the same command again: all of it is computed again.")
        other = [name for name in plan if plan[name] != begun.get(name)]
        if other:
            raise ConfigError(
                f"{work.folder} belongs to a run with other {', '.join(other)}.",
                "Use another folder, or remove this one.",
            )
        return
    write_table(held_out, work.held_out)
    write_json(path, plan)


def _tally(work: Work, rows: int) -> Tally:
    shards = range(1, work.shards + 1)
    kept = sum(pq.read_metadata(work.output("kept", shard)).num_rows for shard in shards)
    reasons: Counter[str] = Counter()
    for shard in shards:
        reasons.update(pq.read_table(work.output("removed", shard), columns=["reason"])["reason"].to_pylist())
    if kept + reasons.total() != rows:
        raise StarError(
            f"{work.folder}: {rows} rows in, but {kept} kept and {reasons.total()} removed.",
            "This is a bug in star_hf; please report it.",
        )
    unread = {} if work.embedding_threshold is None else read_json(work.unread)["texts"]
    if work.encoder is not None:
        warn_of(unread, work.encoder)
    return Tally(work.folder, kept, dict(sorted(reasons.items())), unread)
