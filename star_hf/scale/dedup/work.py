"""What every task knows: parameters, paths, and the names of rows before all rows are numbered."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from ...similarity.encoders import Encoder
from ...similarity.pairs import Matches, concatenate
from ...utils.files import replacing


__all__ = [
    "Banding",
    "Work",
    "at",
    "load",
    "load_pairs",
    "place_of",
    "save",
    "save_array",
    "save_pairs",
    "shard_of",
    "slice_of",
]


@dataclass(frozen=True)
class Banding:
    """How MinHash signatures are split into buckets: two rows are candidates if all hashes of a bucket are equal.

    Of pairs whose sets of terms have a Jaccard similarity of s, `1 - (1 - s ** hashes) ** buckets` become candidates.

    Attributes:
        buckets (`int`): Buckets per row.
        hashes (`int`): Hashes in each.
        common (`float`): Terms in more than this share of all texts are left out of the sets. Their TF-IDF weight is
            low, so the sets without them are closer to the cosine.
    """

    buckets: int = 40
    hashes: int = 2
    common: float = 0.05


@dataclass(frozen=True)
class Work:
    """One deduplication in shards, as it is sent to every task. Shard 0 contains the held-out items.

    The parameters are those of [`~star_hf.scale.deduplicate.deduplicate_shards`]. `shards` counts the parts of the
    rows, which are numbered from 1, and `threads` those of each task.
    """

    folder: Path
    inputs: tuple[Path, ...]
    shards: int
    ngram: tuple[tuple[str, int], ...]
    tfidf_threshold: float
    embedding_threshold: float | None
    encoder: Encoder | None
    banding: Banding | None
    threads: int

    @property
    def held_out(self) -> Path:
        """The held-out items."""
        return self.folder / "held_out.parquet"

    @property
    def unread(self) -> Path:
        """Texts by language or script that the encoder cannot tell apart."""
        return self.folder / "unread.json"

    def survey(self, number: int) -> Path:
        """The counts of an input file."""
        return self.folder / "work" / "survey" / f"{number:05d}.json"

    def routed(self, number: int) -> Path:
        """An input file's rows, one row group for each shard."""
        return self.folder / "work" / "routed" / f"{number:05d}.parquet"

    def shard(self, shard: int, name: str) -> Path:
        """A file of a shard."""
        return self.folder / "work" / "shards" / f"{shard:05d}" / name

    def part(self, kind: str, number: int) -> Path:
        """The `number`-th part of a table about all shards."""
        return self.folder / "work" / kind / f"{number:05d}.npy"

    def parts(self, kind: str) -> list[Path]:
        """All parts of a kind, in order."""
        return [self.part(kind, number) for number in range(self.shards)]

    def output(self, table: str, shard: int) -> Path:
        """A shard's kept or removed rows."""
        return self.folder / table / f"{shard:05d}.parquet"

    def sizes(self) -> np.ndarray:
        """Texts of each shard, the held-out items first."""
        shards = range(self.shards + 1)
        return np.asarray([pq.read_metadata(self.shard(shard, "rows.parquet")).num_rows for shard in shards], np.int64)


def at(shard: int | np.ndarray, places: int | np.ndarray) -> np.ndarray:
    """Names of rows by shard and place: numbers that sort like shards and places."""
    return (np.asarray(shard, np.int64) << 32) | np.asarray(places, np.int64)


def shard_of(names: np.ndarray) -> np.ndarray:
    """The shards of named rows."""
    return names >> 32


def place_of(names: np.ndarray) -> np.ndarray:
    """The places of named rows in their shards."""
    return names & 0xFFFFFFFF


def save(path: Path, *columns: np.ndarray) -> None:
    """Write columns of the same length with 8 bytes per value."""
    save_array(path, np.stack([np.ascontiguousarray(column).view(np.int64) for column in columns]))


def save_array(path: Path, array: np.ndarray) -> None:
    """Write one array atomically."""
    with replacing(path) as fresh, fresh.open("wb") as file:
        np.save(file, array)


def load(path: Path) -> np.ndarray:
    """The array of a file, memory-mapped; of [`save`] int64 of shape `(columns, rows)`."""
    return np.load(path, mmap_mode="r")


def slice_of(paths: list[Path], shard: int) -> np.ndarray:
    """The entries of all files with a first column in a shard; each file is sorted by that column."""
    low, high = at(shard, 0), at(shard + 1, 0)
    found = []
    for path in paths:
        columns = load(path)
        start, stop = np.searchsorted(columns[0], [low, high])
        found.append(np.asarray(columns[:, start:stop]))
    return np.concatenate(found, axis=1)


def save_pairs(path: Path, parts: list[Matches]) -> None:
    """Write pairs of named rows, sorted by their names."""
    save(path, *concatenate(parts).columns())


def load_pairs(columns: np.ndarray) -> Matches:
    """Pairs as [`save_pairs`] wrote them."""
    return Matches(columns[0], columns[1], columns[2].view(np.float64))
