"""Rules: the steps of both profiles, which turn evidence into the rows to remove.

The table in [`~star_hf.transforms.deduplicate`] lists the steps.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..similarity.ngrams import first_sharers, greedy_sharers
from ..similarity.pairs import Matches, best_per_left, greedy_keep
from .evidence import ACROSS_NGRAM, Evidence
from .result import Removal


__all__ = ["Found", "Steps", "paper_order", "spans_of", "stable_order"]


def paper_order(ids: Sequence[str], questions: Sequence[str], sources: Sequence[str]) -> list[int]:
    """The order of `paper`: rows grouped by source, sources and rows as they come."""
    rank = {source: index for index, source in enumerate(dict.fromkeys(sources))}
    return sorted(range(len(sources)), key=[rank[source] for source in sources].__getitem__)


def stable_order(ids: Sequence[str], questions: Sequence[str], sources: Sequence[str]) -> list[int]:
    """The order of `recommended`, for shuffled rows too: size of source (smallest first), source, `id`, question."""
    size = Counter(sources)
    keys = list(zip((size[source] for source in sources), sources, ids, questions, strict=True))
    return sorted(range(len(keys)), key=keys.__getitem__)


def spans_of(sources: Sequence[str], start: int) -> dict[str, range]:
    """The numbers of each source's rows, for rows that are grouped by source and follow `start` held-out items."""
    spans: dict[str, range] = {}
    for source, size in Counter(sources[start:]).items():
        spans[source] = range(start, start + size)
        start += size
    return spans


class Found(NamedTuple):
    """The rows that one step removed, each once with its match; `measure` and `detail` as in [`Removal`]."""

    matches: Matches
    measure: str
    detail: str


class Steps:
    """The steps of a profile, and what they removed so far.

    Each source's rows are a span of numbers, from `start` on, the number of held-out items, without gaps. `alive`
    marks the held-out items and the remaining rows, and `found` has the removed rows, step by step; each row occurs
    once.
    """

    def __init__(self, evidence: Evidence, start: int, spans: Mapping[str, range], *, paper: bool):
        self.evidence, self.start, self.spans, self.paper = evidence, start, spans, paper
        self.alive = np.ones(max((span.stop for span in spans.values()), default=start), bool)
        self.found: list[Found] = []

    def by_words(self, ngram: Mapping[str, int], threshold: float, done: Callable[[], object] = lambda: None) -> None:
        """All steps except e and f; `done` is called after each source and once more.

        `ngram` has the words per n-gram within each source, and `threshold` is the lowest TF-IDF cosine.
        """
        if not self.paper:
            self._remove(first_sharers(self.evidence.exact()), "exact", "step exact")
        for source, span in self.spans.items():
            n = ngram.get(source) or ACROSS_NGRAM
            if self.paper:
                self._ngrams_within(span, n)
            self._ngrams_across(span)
            self._tfidf_across(span, threshold)
            if not self.paper:
                self._ngrams_within(span, n)
            done()
        self._remove_greedily(self.evidence.tfidf(self.rows, None, threshold), "tfidf", f"step d, {threshold = }")
        done()

    def by_embeddings(self, threshold: float, done: Callable[[], object] = lambda: None) -> None:
        """Steps e and f; `done` is called after each."""
        steps = (self._embedding_among, self._embedding_held_out)
        for step in steps if self.paper else reversed(steps):
            step(threshold)
            done()

    @property
    def rows(self) -> np.ndarray:
        """Numbers of the remaining rows."""
        return self._rows(range(self.start, len(self.alive)))

    def removals(self, order: Sequence[int]) -> dict[int, Removal]:
        """Why rows were removed, by their place in the input, which `order` gives for each row by number."""
        number = np.r_[np.arange(self.start), self.start + np.asarray(order, np.int64)].tolist()
        return {
            order[left - self.start]: Removal(number[right], similarity, measure, detail)
            for matches, measure, detail in self.found
            for left, right, similarity in matches
        }

    def _ngrams_within(self, span: range, n: int) -> None:
        """Step a."""
        rows = self._rows(span)
        share = first_sharers if self.paper else greedy_sharers
        matches = share(self.evidence.ngrams_within(rows, n))
        self._remove(matches.renumbered(rows, rows), "ngram", f"step a, {n = }")

    def _ngrams_across(self, span: range) -> None:
        """Step b."""
        matches = first_sharers(self.evidence.ngrams(), self._references(span), self._rows(span))
        self._remove(matches, "ngram", f"step b, n = {ACROSS_NGRAM}")

    def _tfidf_across(self, span: range, threshold: float) -> None:
        """Step c."""
        references = np.flatnonzero(self._references(span))
        matches = best_per_left(self.evidence.tfidf(self._rows(span), references, threshold))
        self._remove(matches, "tfidf", f"step c, {threshold = }")

    def _embedding_among(self, threshold: float) -> None:
        """Step e."""
        matches = self.evidence.embedding(self.rows, None, threshold)
        self._remove_greedily(matches, "embedding", f"step e, {threshold = }")

    def _embedding_held_out(self, threshold: float) -> None:
        """Step f."""
        matches = best_per_left(self.evidence.embedding(self.rows, np.arange(self.start), threshold))
        self._remove(matches, "embedding", f"step f, {threshold = }")

    def _rows(self, span: range) -> np.ndarray:
        """The remaining rows of a span."""
        return span.start + np.flatnonzero(self.alive[span.start : span.stop])

    def _references(self, span: range) -> np.ndarray:
        """Mask of the held-out items and of the remaining rows before a span."""
        return self.alive & (np.arange(len(self.alive)) < span.start)

    def _remove_greedily(self, matches: Matches, measure: str, detail: str) -> None:
        keep = greedy_keep(matches, len(self.alive))
        self._remove(best_per_left(matches.where(~keep[matches.left]), keep), measure, detail)

    def _remove(self, matches: Matches, measure: str, detail: str) -> None:
        """Remove the left rows, each with its one match; held-out items stay."""
        matches = matches.where(matches.left >= self.start)
        self.alive[matches.left] = False
        self.found.append(Found(matches, measure, detail))
