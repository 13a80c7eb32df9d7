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
from dataclasses import replace
from pathlib import Path

import numpy as np
from datasets import Dataset
from scipy.sparse import csr_matrix

from ..errors import ConfigError
from ..progress import track
from ..schema import COLLECTED
from ..similarity.embeddings import embedding_join, embedding_self_join
from ..similarity.encoders import Encoder, SentenceEncoder
from ..similarity.ngrams import Ragged, first_sharers, first_sharers_among, greedy_sharers, ngram_ids, split_words
from ..similarity.pairs import Matches, best_per_left, greedy_keep
from ..similarity.tfidf import count_terms, tfidf_weights, threshold_join, threshold_self_join
from ..similarity.vectors import embed
from ..text import normalise
from .deduplication import Deduplication, Removal


__all__ = ["ACROSS_NGRAM", "STEPS", "deduplicate"]

STEPS = {"paper": ("a", "b", "c", "d", "e", "f"), "recommended": ("exact", "b", "c", "a", "d", "f", "e")}
"""The steps of each profile in their order; `detail` of a removed row begins with `step <name>`."""

ACROSS_NGRAM = 8
"""Words per n-gram against held-out items and other sources, and within sources that name no number."""


def deduplicate(
    rows: Dataset,
    held_out: Dataset,
    *,
    profile: str = "recommended",
    ngram: Mapping[str, int] | None = None,
    tfidf_threshold: float = 0.6,
    embedding_threshold: float | None = 0.7,
    encoder: Encoder | str | None = None,
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
        encoder ([`Encoder`] or `str`, *optional*): The embedding model, or its id on the Hub or folder. By default
            the packaged all-MiniLM-L6-v2.
        cache_dir (`str` or `Path`, *optional*): Where to keep embeddings for the next run.
        num_threads (`int`, *optional*): Threads for the TF-IDF joins; all processors by default.
        progress (`bool`, defaults to `True`): Whether to show a progress bar.

    Returns:
        [`Deduplication`]: Kept rows and removed rows, both in the order of `rows`. A `matched_id` names a held-out
        item, or a row that preceded this one and was kept, or itself left for a match that is named in turn.

    Raises:
        ConfigError: If the profile is unknown.
        StarError: If the embedding model's packages are not installed.
    """
    if profile not in STEPS:
        raise ConfigError(f"There is no profile {profile!r}.", f"Profiles: {', '.join(STEPS)}.")
    paper = profile == "paper"
    columns = [rows[name][:] for name in COLLECTED]
    order = (_paper_order if paper else _stable_order)(*columns)
    search = _Search(rows, columns, order, held_out, paper, num_threads)
    spans = search.spans()
    with track("Deduplicating", len(spans) + 3, progress) as bar:
        if not paper:
            search.exact()
        for source, span in spans.items():
            n = (ngram or {}).get(source) or ACROSS_NGRAM
            if paper:
                search.ngrams_within(span, n)
            search.ngrams_across(span)
            search.tfidf_across(span, tfidf_threshold)
            if not paper:
                search.ngrams_within(span, n)
            bar.advance()
        search.tfidf_all(tfidf_threshold)
        bar.advance()
        if embedding_threshold is not None:
            search.embed(
                SentenceEncoder(encoder) if encoder is None or isinstance(encoder, str) else encoder, cache_dir
            )
            steps = [search.embedding_all, search.embedding_held_out]
            for step in steps if paper else reversed(steps):
                step(embedding_threshold)
                bar.advance()
    return search.result()


def _paper_order(ids: list[str], questions: list[str], sources: list[str]) -> list[int]:
    """Rows grouped by source, sources and rows as they come."""
    rank = {source: index for index, source in enumerate(dict.fromkeys(sources))}
    return sorted(range(len(sources)), key=[rank[source] for source in sources].__getitem__)


def _stable_order(ids: list[str], questions: list[str], sources: list[str]) -> list[int]:
    """Rows by size of source (smallest first), source, `id` and question: the same however the rows were shuffled."""
    size = Counter(sources)
    keys = list(zip((size[source] for source in sources), sources, ids, questions, strict=True))
    return sorted(range(len(keys)), key=keys.__getitem__)


class _Search:
    """The steps, over held-out items and rows in one numbering, and what they have removed so far.

    Attributes:
        start (`int`): Number of held-out items: they are `0 .. start - 1`, rows come after.
        alive (`np.ndarray` of bool): Held-out items and the rows that are still in.
        found (`dict[int, Removal]`): Why each removed row left, in this numbering.
    """

    def __init__(
        self,
        rows: Dataset,
        columns: list[list[str]],
        order: list[int],
        held_out: Dataset,
        paper: bool,
        num_threads: int | None,
    ):
        self.rows, self.held_out, self.order, self.paper, self.num_threads = rows, held_out, order, paper, num_threads
        self.start = len(held_out)
        texts, self.sources = (
            [*held_out[name][:], *map(column.__getitem__, order)]
            for name, column in zip(("question", "source"), columns[1:], strict=True)
        )
        self.texts = texts if paper else [unicodedata.normalize("NFKC", text) for text in texts]
        self.alive = np.ones(len(texts), bool)
        self.found: dict[int, Removal] = {}
        self.words, vocabulary = split_words(self.texts)
        self.grams = ngram_ids(self.words, ACROSS_NGRAM)
        self.counts = count_terms(self.words, vocabulary)
        self.weights = None if paper else tfidf_weights(self.counts)
        self.vectors = np.empty((0, 0), np.float32)

    def spans(self) -> dict[str, range]:
        """The numbers of each source's rows."""
        spans: dict[str, range] = {}
        for index in range(self.start, len(self.sources)):
            source = self.sources[index]
            spans[source] = range(spans[source].start if source in spans else index, index + 1)
        return spans

    def exact(self) -> None:
        """Equal once normalised, however few words there are."""
        known: dict[str, int] = {}
        keys = np.asarray([known.setdefault(normalise(text), len(known)) for text in self.texts], np.int64)
        self._remove(first_sharers(Ragged(np.arange(len(keys) + 1), keys)), "exact", "step exact")

    def ngrams_within(self, span: range, n: int) -> None:
        """Step a."""
        rows = self._rows(span)
        share = first_sharers if self.paper else greedy_sharers
        matches = share(ngram_ids(self.words.take(rows), n))
        self._remove(matches.renumbered(rows, rows), "ngram", f"step a, n = {n}")

    def ngrams_across(self, span: range) -> None:
        """Step b."""
        matches = first_sharers_among(self.grams, self._references(span), self._rows(span))
        self._remove(matches, "ngram", f"step b, n = {ACROSS_NGRAM}")

    def tfidf_across(self, span: range, threshold: float) -> None:
        """Step c."""
        references, rows = np.flatnonzero(self._references(span)), self._rows(span)
        weights = self._weights(np.r_[references, rows])
        known, new = weights[: len(references)], weights[len(references) :]
        matches = best_per_left(threshold_join(new, known, threshold, num_threads=self.num_threads))
        self._remove(matches.renumbered(rows, references), "tfidf", f"step c, threshold = {threshold}")

    def tfidf_all(self, threshold: float) -> None:
        """Step d."""
        rows = self._rows(range(self.start, len(self.texts)))
        matches = threshold_self_join(self._weights(rows), threshold, num_threads=self.num_threads)
        self._remove_greedily(matches, rows, "tfidf", f"step d, threshold = {threshold}")

    def embed(self, encoder: Encoder, cache_dir: str | Path | None) -> None:
        """Vectors of the held-out items and of the rows that are still in; zeros for the others."""
        alive = np.flatnonzero(self.alive)
        vectors = embed([self.texts[index] for index in alive], encoder, cache_dir)
        self.vectors = np.zeros((len(self.texts), vectors.shape[1]), np.float32)
        self.vectors[alive] = vectors

    def embedding_all(self, threshold: float) -> None:
        """Step e."""
        rows = self._rows(range(self.start, len(self.texts)))
        matches = embedding_self_join(self.vectors[rows], threshold)
        self._remove_greedily(matches, rows, "embedding", f"step e, threshold = {threshold}")

    def embedding_held_out(self, threshold: float) -> None:
        """Step f."""
        rows = self._rows(range(self.start, len(self.texts)))
        matches = best_per_left(embedding_join(self.vectors[rows], self.vectors[: self.start], threshold))
        self._remove(matches.renumbered(rows, np.arange(self.start)), "embedding", f"step f, threshold = {threshold}")

    def result(self) -> Deduplication:
        """Kept and removed rows by their place among the rows as they came."""
        number = np.r_[np.arange(self.start), self.start + np.asarray(self.order, np.int64)].tolist()
        removals = {
            self.order[index - self.start]: replace(removal, match=number[removal.match])
            for index, removal in self.found.items()
        }
        return Deduplication.of(self.rows, self.held_out, removals)

    def _rows(self, span: range) -> np.ndarray:
        """The rows of a span that are still in."""
        return span.start + np.flatnonzero(self.alive[span.start : span.stop])

    def _references(self, span: range) -> np.ndarray:
        """Mask of held-out items and of the rows before a span that are still in."""
        return self.alive & (np.arange(len(self.alive)) < span.start)

    def _weights(self, indices: np.ndarray) -> csr_matrix:
        """TF-IDF rows of some texts, with weights fitted on them in `paper`, on everything in `recommended`."""
        return tfidf_weights(self.counts[indices]) if self.weights is None else self.weights[indices]

    def _remove_greedily(self, matches: Matches, rows: np.ndarray, measure: str, detail: str) -> None:
        keep = greedy_keep(matches, len(rows))
        matches = best_per_left(matches.where(~keep[matches.left]), keep)
        self._remove(matches.renumbered(rows, rows), measure, detail)

    def _remove(self, matches: Matches, measure: str, detail: str) -> None:
        """Take out the left rows, each for the one match that it has; held-out items stay."""
        for left, right, similarity in zip(*(column.tolist() for column in matches.columns()), strict=True):
            if left >= self.start:
                self.alive[left] = False
                self.found[left] = Removal(right, similarity, measure, detail)
