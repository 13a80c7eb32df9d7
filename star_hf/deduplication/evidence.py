"""Evidence: which texts are alike. The rules ask for it; one process computes it, shards read it from files."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..similarity.embeddings import embedding_join
from ..similarity.encoders import Encoder
from ..similarity.ngrams import Ragged
from ..similarity.pairs import Matches
from ..similarity.readable import find_readable
from ..similarity.texts import PreparedTexts
from ..similarity.tfidf import tfidf_join, tfidf_weights
from ..similarity.vectors import embed_some
from ..utils.progress import Bar


__all__ = ["ACROSS_NGRAM", "ComputedEvidence", "Evidence"]

ACROSS_NGRAM = 8
"""Words per n-gram against held-out items and other sources, and within sources that set no number."""


class Evidence(Protocol):
    """Which texts are alike. Texts are numbered: held-out items first, then rows in their order.

    `rows` and `references` are text numbers in ascending order. Matches use the same numbers, ordered by `left`, then
    `right`: `left` is one of the rows, and `right` one of the references or, without references, an earlier one of the
    rows. Texts that share an entry of a `Ragged` list are alike.
    """

    def exact(self) -> Ragged:
        """One entry per text, equal where the normalised texts are."""
        ...

    def ngrams(self) -> Ragged:
        """The n-grams of `ACROSS_NGRAM` words of each text."""
        ...

    def ngrams_within(self, rows: np.ndarray, n: int) -> Ragged:
        """The n-grams of some rows of one source."""
        ...

    def tfidf(self, rows: np.ndarray, references: np.ndarray | None, threshold: float) -> Matches:
        """Pairs by TF-IDF cosine."""
        ...

    def embedding(self, rows: np.ndarray, references: np.ndarray | None, threshold: float) -> Matches:
        """Pairs by the cosine of embeddings."""
        ...


class ComputedEvidence:
    """[`Evidence`] that this process computes when it is asked for. `texts` are the held-out items, then the rows.

    Under `paper` texts are compared as they are, and TF-IDF weights are fitted again for each comparison. Otherwise
    texts are compared in folded form ([`~star_hf.utils.folding.fold`]), with weights fitted once on all of them.
    """

    def __init__(self, texts: list[str], *, paper: bool, num_threads: int | None, bar: Bar):
        self._prepared = PreparedTexts.of(texts, folded=not paper)
        self._num_threads = num_threads
        self._bar = bar
        with ThreadPoolExecutor(1) as pool:
            grams = pool.submit(self._prepared.ngrams, ACROSS_NGRAM)
            self._counts = self._prepared.counts()
        self._grams = grams.result()
        self._weights = None if paper else tfidf_weights(self._counts)
        self._vectors = np.empty((0, 0), np.float32)
        self._paper = paper

    def embed(
        self, indices: np.ndarray, encoder: Encoder, threshold: float, cache_dir: str | Path | None
    ) -> dict[str, int]:
        """Encode some texts; the vectors of the others are zero.

        Returns:
            Texts by language or script that the encoder cannot tell apart ([`find_readable`]). They are not encoded,
            except under `paper`.
        """
        texts = self._prepared.texts
        readable, unread = find_readable(
            [texts[index] for index in indices], encoder, threshold, cache_dir, leave_out=not self._paper
        )
        chosen = np.zeros(len(texts), bool)
        chosen[indices] = readable | self._paper
        self._vectors = embed_some(texts, chosen, encoder, cache_dir, self._bar.part("encoding"))
        return unread

    def exact(self) -> Ragged:
        return self._prepared.keys()

    def ngrams(self) -> Ragged:
        return self._grams

    def ngrams_within(self, rows: np.ndarray, n: int) -> Ragged:
        return self._prepared.ngrams(n, rows)

    def tfidf(self, rows: np.ndarray, references: np.ndarray | None, threshold: float) -> Matches:
        known = np.empty(0, np.int64) if references is None else references
        texts = np.r_[known, rows]  # under `paper` the weights are fitted on these only
        weights = tfidf_weights(self._counts[texts]) if self._weights is None else self._weights[texts]
        known, new = None if references is None else weights[: len(known)], weights[len(known) :]
        matches = tfidf_join(new, known, threshold, **self._options("words"))
        return matches.renumbered(rows, rows if references is None else references)

    def embedding(self, rows: np.ndarray, references: np.ndarray | None, threshold: float) -> Matches:
        known = None if references is None else self._vectors[references]
        matches = embedding_join(self._vectors[rows], known, threshold, **self._options("vectors"))
        return matches.renumbered(rows, rows if references is None else references)

    def _options(self, what: str) -> dict[str, Any]:
        return {"num_threads": self._num_threads, "on_progress": self._bar.part(f"comparing {what}")}
