"""Deduplicate the corpus and decontaminate it against held-out benchmarks (paper, Section 2.1).

Reasons in `removed` are `<measure>_contamination` where the match is a held-out item, else `<measure>_duplicate`;
`detail` names the step and its parameter:

| step | measure | a row goes if it is like | `paper` | `recommended` |
|---|---|---|---|---|
| exact | `exact` | a held-out item or an earlier row, once normalised | not done | first of all |
| a | `ngram` | an earlier row of its source (shares n words in a row) | kept or not | kept only, and after c |
| b | `ngram` | a held-out item or a kept row of an earlier source (8 words) | | |
| c | `tfidf` | one of those (cosine) | weights refitted per source | weights fitted once |
| d | `tfidf` | an earlier kept row of any source | weights refitted | weights fitted once |
| e | `embedding` | an earlier kept row of any source | | after f |
| f | `embedding` | a held-out item | | |

"Earlier" is the order of the rows in `paper`. In `recommended` it is the smallest source first, then `id`, so the
result does not depend on the order of the rows, and texts are compared in Unicode's NFKC form.
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from scipy.sparse import csr_matrix

from ..deduplication.result import Deduplication, Removal, as_collected
from ..deduplication.rules import ACROSS_NGRAM, Steps
from ..errors import ConfigError
from ..schema import COLLECTED
from ..similarity.embeddings import embedding_join, embedding_self_join
from ..similarity.encoders import Encoder
from ..similarity.ngrams import Ragged, ngram_ids, split_words
from ..similarity.options import EncoderOptions, make_encoder
from ..similarity.pairs import Matches, check_thresholds
from ..similarity.tfidf import count_terms, tfidf_weights, threshold_join, threshold_self_join
from ..similarity.vectors import embed
from ..utils.progress import Bar, track
from ..utils.text import normalise


__all__ = ["STEPS", "deduplicate", "stable_order"]

STEPS = {"paper": ("a", "b", "c", "d", "e", "f"), "recommended": ("exact", "b", "c", "a", "d", "f", "e")}
"""The steps of each profile in their order; `detail` of a removed row begins with `step <name>`."""


def deduplicate(
    rows: Dataset,
    held_out: Dataset,
    *,
    profile: str = "recommended",
    ngram: Mapping[str, int] | None = None,
    tfidf_threshold: float = 0.6,
    embedding_threshold: float | None = 0.7,
    encoder: Encoder | EncoderOptions | str | None = None,
    cache_dir: str | Path | None = None,
    num_threads: int | None = None,
    progress: bool = True,
) -> Deduplication:
    """Remove rows that are near-duplicates of other rows or of held-out items (paper, Section 2.1).

    Args:
        rows ([`~datasets.Dataset`]): `COLLECTED` columns, in the catalogue's order; ids may repeat.
        held_out ([`~datasets.Dataset`]): `COLLECTED` columns of the benchmark items to keep clear of.
        profile (`str`, defaults to `"recommended"`): `"paper"` or `"recommended"`, as in the module's table.
        ngram (`Mapping[str, int]`, *optional*): Words per n-gram within each source, 8 for sources not named.
        tfidf_threshold (`float`, defaults to 0.6): Lowest TF-IDF cosine that counts as alike.
        embedding_threshold (`float` or `None`, defaults to 0.7): Lowest embedding cosine that counts as alike; `None`
            leaves steps e and f out.
        encoder ([`Encoder`], [`EncoderOptions`] or `str`, *optional*): The embedding model, or what names one, such
            as an id on the Hub or `openai:text-embedding-3-small`. By default the packaged all-MiniLM-L6-v2.
        cache_dir (`str` or `Path`, *optional*): Where to keep embeddings for the next run.
        num_threads (`int`, *optional*): Threads for the joins; all processors by default.
        progress (`bool`, defaults to `True`): Whether to show a progress bar.

    Returns:
        [`Deduplication`]: Kept rows and removed rows, both in the order of `rows`. A `matched_id` names a held-out
        item, or a row that preceded this one and was kept, or itself left for a match that is named in turn.

    Raises:
        ConfigError: If the profile is unknown, or a threshold is none of a cosine.
        SourceError: If a column of `COLLECTED` is not there, or a value in it.
        StarError: If the embedding model's packages are not installed.
    """
    if profile not in STEPS:
        raise ConfigError(f"There is no profile {profile!r}.", f"Profiles: {', '.join(STEPS)}.")
    check_thresholds(tfidf_threshold, embedding_threshold)
    rows, held_out = as_collected(rows), as_collected(held_out)
    paper = profile == "paper"
    columns = [rows[name][:] for name in COLLECTED]
    order = (_paper_order if paper else stable_order)(*columns)
    texts, sources = (
        [*held_out[name][:], *map(column.__getitem__, order)]
        for name, column in zip(("question", "source"), columns[1:], strict=True)
    )
    spans = _spans(sources, len(held_out))
    with track("Deduplicating", len(spans) + (1 if embedding_threshold is None else 3), progress) as bar:
        computed = _Computed(texts, paper, num_threads, bar)
        steps = Steps(computed, len(held_out), spans, paper=paper)
        steps.by_words(ngram or {}, tfidf_threshold, bar.advance)
        if embedding_threshold is not None:
            encoder = make_encoder(encoder)
            computed.embed(np.flatnonzero(steps.alive), encoder, cache_dir)
            steps.by_embeddings(embedding_threshold, bar.advance)
    return Deduplication.of(rows, held_out, _removals(steps, order))


def _paper_order(ids: list[str], questions: list[str], sources: list[str]) -> list[int]:
    """Rows grouped by source, sources and rows as they come."""
    rank = {source: index for index, source in enumerate(dict.fromkeys(sources))}
    return sorted(range(len(sources)), key=[rank[source] for source in sources].__getitem__)


def stable_order(ids: list[str], questions: list[str], sources: list[str]) -> list[int]:
    """Rows by size of source (smallest first), source, `id` and question: the same however the rows were shuffled."""
    size = Counter(sources)
    keys = list(zip((size[source] for source in sources), sources, ids, questions, strict=True))
    return sorted(range(len(keys)), key=keys.__getitem__)


def _spans(sources: list[str], start: int) -> dict[str, range]:
    """The numbers of each source's rows, which lie side by side after the held-out items."""
    spans: dict[str, range] = {}
    for source, size in Counter(sources[start:]).items():
        spans[source] = range(start, start + size)
        start += size
    return spans


def _removals(steps: Steps, order: list[int]) -> dict[int, Removal]:
    """Why rows left, by their place among the rows as they came."""
    number = np.r_[np.arange(steps.start), steps.start + np.asarray(order, np.int64)].tolist()
    return {
        order[left - steps.start]: Removal(number[right], similarity, measure, detail)
        for matches, measure, detail in steps.found
        for left, right, similarity in zip(*(column.tolist() for column in matches.columns()), strict=True)
    }


class _Computed:
    """[`~star_hf.deduplication.rules.Evidence`] that is computed where it is asked for."""

    def __init__(self, texts: list[str], paper: bool, num_threads: int | None, bar: Bar):
        self._texts = texts if paper else [unicodedata.normalize("NFKC", text) for text in texts]
        self._num_threads = num_threads
        self._bar = bar
        self._words, vocabulary = split_words(self._texts)
        with ThreadPoolExecutor(1) as pool:
            grams = pool.submit(ngram_ids, self._words, ACROSS_NGRAM)
            self._counts = count_terms(self._words, vocabulary)
        self._grams = grams.result()
        self._weights = None if paper else tfidf_weights(self._counts)
        self._vectors = np.empty((0, 0), np.float32)

    def embed(self, indices: np.ndarray, encoder: Encoder, cache_dir: str | Path | None) -> None:
        """Make the vectors of some texts; zeros for the others."""
        vectors = embed([self._texts[index] for index in indices], encoder, cache_dir, self._bar.part("encoding"))
        self._vectors = np.zeros((len(self._texts), vectors.shape[1]), np.float32)
        self._vectors[indices] = vectors

    def exact(self) -> Ragged:
        known: dict[str, int] = {}
        keys = np.asarray([known.setdefault(normalise(text), len(known)) for text in self._texts], np.int64)
        return Ragged(np.arange(len(keys) + 1), keys)

    def ngrams(self) -> Ragged:
        return self._grams

    def ngrams_within(self, rows: np.ndarray, n: int) -> Ragged:
        return ngram_ids(self._words.take(rows), n)

    def tfidf(self, rows: np.ndarray, references: np.ndarray, threshold: float) -> Matches:
        weights = self._weighed(np.r_[references, rows])
        known, new = weights[: len(references)], weights[len(references) :]
        matches = threshold_join(new, known, threshold, **self._options("words"))
        return matches.renumbered(rows, references)

    def tfidf_among(self, rows: np.ndarray, threshold: float) -> Matches:
        matches = threshold_self_join(self._weighed(rows), threshold, **self._options("words"))
        return matches.renumbered(rows, rows)

    def embedding(self, rows: np.ndarray, references: np.ndarray, threshold: float) -> Matches:
        vectors, known = self._vectors[rows], self._vectors[references]
        matches = embedding_join(vectors, known, threshold, **self._options("vectors"))
        return matches.renumbered(rows, references)

    def embedding_among(self, rows: np.ndarray, threshold: float) -> Matches:
        matches = embedding_self_join(self._vectors[rows], threshold, **self._options("vectors"))
        return matches.renumbered(rows, rows)

    def _options(self, what: str) -> dict[str, Any]:
        return {"num_threads": self._num_threads, "on_progress": self._bar.part(f"comparing {what}")}

    def _weighed(self, indices: np.ndarray) -> csr_matrix:
        """TF-IDF rows of some texts, with weights fitted on them in `paper`, on everything in `recommended`."""
        return tfidf_weights(self._counts[indices]) if self._weights is None else self._weights[indices]
