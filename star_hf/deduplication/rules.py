"""The steps of deduplication, from which texts are alike to which rows go, wherever the likeness was found.

[`~star_hf.transforms.deduplicate`] says what the steps are.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..similarity.ngrams import first_sharers, first_sharers_among, greedy_sharers
from ..similarity.pairs import Matches, best_per_left, greedy_keep
from .evidence import ACROSS_NGRAM, Evidence
from .result import Removal


__all__ = ["Found", "Steps", "paper_order", "spans_of", "stable_order"]


class Found(NamedTuple):
    """What one step removed.

    Attributes:
        matches (`Matches`): Each row that left, once, and what it left for.
        measure (`str`): `"exact"`, `"ngram"`, `"tfidf"` or `"embedding"`.
        detail (`str`): The step and its parameter.
    """

    matches: Matches
    measure: str
    detail: str


class Steps:
    """The steps, and what they have removed so far.

    Args:
        evidence (`Evidence`): Which texts are alike.
        start (`int`): Number of held-out items.
        spans (`Mapping[str, range]`): The numbers of each source's rows, from `start` on without a gap.
        paper (`bool`): Whether the profile is `paper`.

    Attributes:
        alive (`np.ndarray` of bool): Held-out items and the rows that are still in.
        found (`list[Found]`): What left, step by step; no row is named twice.
    """

    def __init__(self, evidence: Evidence, start: int, spans: Mapping[str, range], *, paper: bool):
        self.evidence, self.start, self.spans, self.paper = evidence, start, spans, paper
        self.alive = np.ones(max((span.stop for span in spans.values()), default=start), bool)
        self.found: list[Found] = []

    def by_words(self, ngram: Mapping[str, int], threshold: float, done: Callable[[], object]) -> None:
        """All steps but e and f.

        Args:
            ngram (`Mapping[str, int]`): Words per n-gram within each source.
            threshold (`float`): Lowest TF-IDF cosine.
            done (`Callable`): Called after each source and once more.
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
        self._remove_greedily(self.evidence.tfidf_among(self.rows, threshold), "tfidf", f"step d, {threshold = }")
        done()

    def by_embeddings(self, threshold: float, done: Callable[[], object]) -> None:
        """Steps e and f; `done` is called after each."""
        steps = (self._embedding_among, self._embedding_held_out)
        for step in steps if self.paper else reversed(steps):
            step(threshold)
            done()

    @property
    def rows(self) -> np.ndarray:
        """Numbers of the rows that are still in."""
        return self._rows(range(self.start, len(self.alive)))

    def removals(self, order: Sequence[int]) -> dict[int, Removal]:
        """Why rows left, by their place among the rows as they came.

        Args:
            order (`Sequence[int]`): That place for each row, in the order of the numbers.
        """
        number = np.r_[np.arange(self.start), self.start + np.asarray(order, np.int64)].tolist()
        return {
            order[left - self.start]: Removal(number[right], similarity, measure, detail)
            for matches, measure, detail in self.found
            for left, right, similarity in zip(*(column.tolist() for column in matches.columns()), strict=True)
        }

    def _ngrams_within(self, span: range, n: int) -> None:
        """Step a."""
        rows = self._rows(span)
        share = first_sharers if self.paper else greedy_sharers
        matches = share(self.evidence.ngrams_within(rows, n))
        self._remove(matches.renumbered(rows, rows), "ngram", f"step a, {n = }")

    def _ngrams_across(self, span: range) -> None:
        """Step b."""
        matches = first_sharers_among(self.evidence.ngrams(), self._references(span), self._rows(span))
        self._remove(matches, "ngram", f"step b, n = {ACROSS_NGRAM}")

    def _tfidf_across(self, span: range, threshold: float) -> None:
        """Step c."""
        references = np.flatnonzero(self._references(span))
        matches = best_per_left(self.evidence.tfidf(self._rows(span), references, threshold))
        self._remove(matches, "tfidf", f"step c, {threshold = }")

    def _embedding_among(self, threshold: float) -> None:
        """Step e."""
        matches = self.evidence.embedding_among(self.rows, threshold)
        self._remove_greedily(matches, "embedding", f"step e, {threshold = }")

    def _embedding_held_out(self, threshold: float) -> None:
        """Step f."""
        matches = best_per_left(self.evidence.embedding(self.rows, np.arange(self.start), threshold))
        self._remove(matches, "embedding", f"step f, {threshold = }")

    def _rows(self, span: range) -> np.ndarray:
        """The rows of a span that are still in."""
        return span.start + np.flatnonzero(self.alive[span.start : span.stop])

    def _references(self, span: range) -> np.ndarray:
        """Mask of held-out items and of the rows before a span that are still in."""
        return self.alive & (np.arange(len(self.alive)) < span.start)

    def _remove_greedily(self, matches: Matches, measure: str, detail: str) -> None:
        keep = greedy_keep(matches, len(self.alive))
        self._remove(best_per_left(matches.where(~keep[matches.left]), keep), measure, detail)

    def _remove(self, matches: Matches, measure: str, detail: str) -> None:
        """Take out the left rows, each for the one match that it has; held-out items stay."""
        matches = matches.where(matches.left >= self.start)
        self.alive[matches.left] = False
        self.found.append(Found(matches, measure, detail))


def paper_order(ids: Sequence[str], questions: Sequence[str], sources: Sequence[str]) -> list[int]:
    """Rows grouped by source, sources and rows as they come."""
    rank = {source: index for index, source in enumerate(dict.fromkeys(sources))}
    return sorted(range(len(sources)), key=[rank[source] for source in sources].__getitem__)


def stable_order(ids: Sequence[str], questions: Sequence[str], sources: Sequence[str]) -> list[int]:
    """Rows by size of source (smallest first), source, `id` and question: the same however the rows were shuffled."""
    size = Counter(sources)
    keys = list(zip((size[source] for source in sources), sources, ids, questions, strict=True))
    return sorted(range(len(keys)), key=keys.__getitem__)


def spans_of(sources: Sequence[str], start: int) -> dict[str, range]:
    """The numbers of each source's rows, where rows are grouped by source and follow `start` held-out items."""
    spans: dict[str, range] = {}
    for source, size in Counter(sources[start:]).items():
        spans[source] = range(start, start + size)
        start += size
    return spans
