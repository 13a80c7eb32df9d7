"""Candidates for TF-IDF by datatrove's MinHash, for more rows than can be compared with each other.

A row's set is its terms without the most common ones. datatrove signs each shard's rows and finds rows that share a
bucket. All pairs of such a group are candidates, and [`~star_hf.scale.dedup.joins.verify`] computes their cosines. So
the pairs found are exact, but pairs without a shared bucket are missed.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.utils.hashing import HashConfig
from datatrove.utils.text import TextNormConfig
from datatrove.utils.word_tokenizers import WordTokenizer

from .index import load_weights, present
from .work import Work, at, load, save


__all__ = ["buckets", "signatures"]

_AS_IT_IS = TextNormConfig(
    lowercase=False,
    norm_whitespace=False,
    remove_punctuation=False,
    norm_unicode_diacritics=False,
    norm_numbers=False,
    norm_weekdays=False,
    norm_monthnames=False,
)


def signatures(work: Work) -> tuple[Any, ...]:
    """The pipeline that signs the rows of a shard."""
    return partial(_documents, work), MinhashDedupSignature(
        str(work.folder / "work" / "signatures"), _config(work), Terms()
    )


def buckets(work: Work) -> tuple[Any, ...]:
    """The pipeline that finds the candidate pairs of a bucket."""
    source, target = (str(work.folder / "work" / name) for name in ("signatures", "buckets"))
    return MinhashDedupBuckets(source, target, config=_config(work), lines_to_buffer=1_000), partial(_candidates, work)


def _documents(work: Work, data: Any, rank: int, world_size: int) -> Iterator[Document]:
    """A shard's rows as documents of term names. A row that repeats an earlier one has none."""
    rows, terms = load_weights(work, rank)
    frequency = load(work.shard(rank, "vocabulary.npy"))[1]
    common = frequency > work.banding.common * work.sizes().sum()
    stays = set(present(work, rank).tolist())
    for place in range(rows.shape[0]):
        own = rows.indices[rows.indptr[place] : rows.indptr[place + 1]] if place in stays else rows.indices[:0]
        rare = own[~common[own]]
        yield Document(" ".join(map(str, terms[rare if len(rare) else own].tolist())), str(place))


class Terms(WordTokenizer):
    """Splits a document into the names of its terms."""

    def word_tokenize(self, text: str) -> list[str]:
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        return [text]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        return [(0, len(text))]


def _candidates(work: Work, data: Any, rank: int, world_size: int) -> None:
    """Write all pairs of each group of a bucket, from datatrove's matches of consecutive rows."""
    matches = np.fromfile(work.folder / "work" / "buckets" / f"{rank:05d}_00.dups", "<u4").reshape(-1, 4)
    one, other = at(matches[:, 0], matches[:, 1]), at(matches[:, 2], matches[:, 3])
    begins = np.flatnonzero(np.r_[True, one[1:] != other[:-1]][: len(one)])
    sizes = np.diff(np.r_[begins, len(one)]) + 1
    pairs = [np.empty((2, 0), np.int64)]
    for size in np.unique(sizes).tolist():
        starts = begins[sizes == size]
        members = np.column_stack([one[starts], *(other[starts + step] for step in range(size - 1))])
        left, right = np.tril_indices(size, -1)
        pairs.append(np.sort(np.stack([members[:, right].ravel(), members[:, left].ravel()]), axis=0))
    right, left = np.concatenate(pairs, axis=1)
    order = np.lexsort((right, left))
    save(work.part("candidates", rank), left[order], right[order])


def _config(work: Work) -> MinhashConfig:
    banding = work.banding
    return MinhashConfig(
        n_grams=1,
        num_buckets=banding.buckets,
        hashes_per_bucket=banding.hashes,
        norm_config=_AS_IT_IS,
        hash_config=HashConfig(precision=32),
    )
