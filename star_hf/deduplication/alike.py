"""All pairs of similar rows, found once: after that, either rule and any higher threshold take seconds.

[`~star_hf.transforms.deduplicate.deduplicate`] follows the paper's steps, each of which compares only the remaining
rows. This module compares all rows with each other by four measures, and lets you choose afterwards. Pairs are kept in
memory, 24 bytes each. A text that occurs k times makes k²/2 of them, unless each distinct text is compared only once,
which is enough for groups.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from datasets import Dataset

from ..errors import ConfigError
from ..schema import COLLECTED
from ..similarity.embeddings import embedding_join
from ..similarity.encoders import Encoder
from ..similarity.groups import first_wins, group_trees
from ..similarity.ngrams import Ragged, first_sharers
from ..similarity.options import EncoderOptions, make_encoder
from ..similarity.pairs import Matches, best_per_left, check_thresholds, concatenate
from ..similarity.readable import find_readable
from ..similarity.texts import PreparedTexts
from ..similarity.tfidf import tfidf_join, tfidf_weights
from ..similarity.vectors import embed_some
from ..utils.progress import track
from .result import Deduplication, Removal, as_collected


__all__ = ["Alike", "find_alike"]

Rule = Callable[[Sequence[Ragged], Sequence[Matches], int], list[Matches]]

PREFERENCES = ("rarest", "longest")
"""How [`Alike.one_per_group`] can choose the row that stays."""


@dataclass(frozen=True)
class Alike:
    """Which rows are similar to each other, and which to a held-out item.

    Texts are numbered, held-out items first. Both rules first remove the rows that are similar to a held-out item; no
    other row is then removed because of one of these.

    Attributes:
        rows, held_out ([`~datasets.Dataset`]): What was compared.
        shares (`dict[str, Ragged]`): For `"exact"` and `"ngram"` the entries of each text. Texts that share one are
            similar.
        against (`dict[str, Matches]`): For `"tfidf"` and `"embedding"` the pairs of a row and a held-out item.
        among (`dict[str, Matches]`): The pairs of a row and an earlier row, both by their place in `rows`.
        thresholds (`dict[str, float]`): The thresholds of the search.
        n (`int`): Words per n-gram.
        distinct (`bool`): Whether `among` contains only one row of each distinct text.
        unread (`dict[str, int]`): Texts by language or script that the encoder cannot tell apart.
    """

    rows: Dataset
    held_out: Dataset
    shares: dict[str, Ragged] = field(repr=False)
    against: dict[str, Matches] = field(repr=False)
    among: dict[str, Matches] = field(repr=False)
    thresholds: dict[str, float]
    n: int
    distinct: bool = False
    unread: dict[str, int] = field(default_factory=dict)

    def first_wins(self, *, tfidf: float | None = None, embedding: float | None = None) -> Deduplication:
        """Keep each row that is not similar to an earlier kept row, in the order of the rows.

        Args:
            tfidf, embedding (`float`, *optional*): Lowest cosines; those of the search by default.

        Raises:
            [`ConfigError`]: If a threshold is below that of the search, or only distinct texts were compared.
        """
        if self.distinct:
            raise ConfigError(
                "`first_wins` needs all rows compared, but `distinct=True` compared each distinct text only once.",
                "Call `find_alike` without `distinct`, or call `one_per_group`.",
            )
        order = np.arange(len(self.rows))
        return self._decide(first_wins, order, tfidf, embedding, self.first_wins)

    def one_per_group(
        self,
        prefer: Sequence[str] = PREFERENCES,
        *,
        tfidf: float | None = None,
        embedding: float | None = None,
    ) -> Deduplication:
        """Keep one row of each connected group of similar rows, whatever the order of the rows.

        Args:
            prefer (`Sequence[str]`, defaults to `("rarest", "longest")`): Which row stays: that of the source with the
                fewest rows, that with the longest question; then the one with the smallest `id`.
            tfidf, embedding (`float`, *optional*): Lowest cosines; those of the search by default.

        Raises:
            [`ConfigError`]: If a preference is unknown, or a threshold is below that of the search.
        """
        unknown = [name for name in prefer if name not in PREFERENCES]
        if unknown:
            raise ConfigError(f"Unknown preference {unknown[0]!r}.", f"Preferences: {', '.join(PREFERENCES)}.")
        ids, questions, sources = (self.rows[name][:] for name in COLLECTED)
        size = Counter(sources)
        columns = {"rarest": [size[source] for source in sources], "longest": [-len(text) for text in questions]}
        keys = list(zip(*(columns[name] for name in prefer), ids, questions, sources, strict=True))
        order = np.asarray(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
        return self._decide(group_trees, order, tfidf, embedding, partial(self.one_per_group, prefer))

    def _decide(
        self,
        rule: Rule,
        order: np.ndarray,
        tfidf: float | None,
        embedding: float | None,
        again: Callable[..., Deduplication],
    ) -> Deduplication:
        thresholds = self._higher({"tfidf": tfidf, "embedding": embedding})
        details = {"exact": "equal once normalised", "ngram": f"n = {self.n}"}
        details |= {measure: f"threshold = {threshold}" for measure, threshold in thresholds.items()}
        removals = self._contaminated(thresholds, details)
        start = len(self.held_out)
        order = order[~np.isin(order, list(removals))]
        rank = np.full(len(self.rows), -1)
        rank[order] = np.arange(len(order))
        shares = [share.take(start + order) for share in self.shares.values()]
        among = [_ranked(self.among[name].reaching(value), rank) for name, value in thresholds.items()]
        for measure, matches in zip(details, rule(shares, among, len(order)), strict=True):
            for place, match, similarity in matches.renumbered(order, order + start):
                removals[place] = Removal(match, similarity, measure, details[measure])
        return Deduplication.of(self.rows, self.held_out, removals, again, self.unread)

    def _contaminated(self, thresholds: dict[str, float], details: dict[str, str]) -> dict[int, Removal]:
        """The rows that are similar to a held-out item, each by the first measure that finds it."""
        start, total = len(self.held_out), len(self.held_out) + len(self.rows)
        items, rows = np.arange(total) < start, np.arange(start, total)
        found = {name: first_sharers(share, items, rows) for name, share in self.shares.items()}
        found = {name: Matches(matches.left - start, *matches.columns()[1:]) for name, matches in found.items()}
        found |= {name: best_per_left(self.against[name].reaching(value)) for name, value in thresholds.items()}
        removals: dict[int, Removal] = {}
        for measure, matches in found.items():
            for place, item, similarity in matches:
                removals.setdefault(place, Removal(item, similarity, measure, details[measure]))
        return removals

    def _higher(self, asked: dict[str, float | None]) -> dict[str, float]:
        check_thresholds(*asked.values())
        for measure, threshold in asked.items():
            lowest = self.thresholds.get(measure)
            if threshold is not None and (lowest is None or threshold < lowest):
                known = "did not use this measure" if lowest is None else f"used {lowest}"
                raise ConfigError(
                    f"Unknown pairs by {measure} at {threshold}: the search {known}.",
                    f"Call `find_alike` with `{measure}_threshold={threshold}`.",
                )
        return {name: value if asked[name] is None else asked[name] for name, value in self.thresholds.items()}


def find_alike(
    rows: Dataset,
    held_out: Dataset,
    *,
    ngram: int = 8,
    tfidf_threshold: float = 0.6,
    embedding_threshold: float | None = 0.7,
    encoder: Encoder | EncoderOptions | str | None = None,
    cache_dir: str | Path | None = None,
    num_threads: int | None = None,
    distinct: bool = False,
    progress: bool = True,
) -> Alike:
    """Compare all rows with each other and with held-out items, in folded form, exactly and by all measures.

    Args:
        rows ([`~datasets.Dataset`]): `COLLECTED` columns; ids may repeat.
        held_out ([`~datasets.Dataset`]): `COLLECTED` columns of the benchmark items.
        ngram (`int`, defaults to 8): Rows that share this many consecutive words are similar.
        tfidf_threshold (`float`, defaults to 0.6): Lowest TF-IDF cosine; weights are fitted on all texts.
        embedding_threshold (`float` or `None`, defaults to 0.7): Lowest embedding cosine; `None` skips embeddings.
        encoder, cache_dir, num_threads: As for [`~star_hf.transforms.deduplicate.deduplicate`].
        distinct (`bool`, defaults to `False`): Compare one row of each distinct text (the one with the smallest
            question) for all rows with that text: less memory where texts repeat. Only for groups.
        progress (`bool`, defaults to `True`): Whether to show a progress bar.

    Returns:
        [`Alike`]: The pairs; call [`Alike.first_wins`] or [`Alike.one_per_group`] on it.

    Raises:
        [`ConfigError`], [`SourceError`]: As for [`~star_hf.transforms.deduplicate.deduplicate`].
    """
    check_thresholds(tfidf_threshold, embedding_threshold)
    rows, held_out = as_collected(rows), as_collected(held_out)
    start = len(held_out)
    prepared = PreparedTexts.of([*held_out["question"][:], *rows["question"][:]])
    texts, shares = prepared.texts, {"exact": prepared.keys(), "ngram": prepared.ngrams(ngram)}
    weights = tfidf_weights(prepared.counts())
    asked, text_of = _distinct(shares["exact"].ids[start:], texts[start:]) if distinct else (np.arange(len(rows)),) * 2
    own, items = weights[start:][asked], weights[:start]
    against, among, thresholds, unread = {}, {}, {"tfidf": tfidf_threshold}, {}
    with track("Comparing all rows", 1 + (embedding_threshold is not None), progress) as bar:
        options = {"num_threads": num_threads, "on_progress": bar.part("comparing words")}
        against["tfidf"] = tfidf_join(own, items, tfidf_threshold, **options)
        among["tfidf"] = tfidf_join(own, None, tfidf_threshold, **options)
        bar.advance()
        if embedding_threshold is not None:
            texts = [*texts[:start], *(texts[start + place] for place in asked)]
            model = make_encoder(encoder)
            readable, unread = find_readable(texts, model, embedding_threshold, cache_dir)
            vectors = embed_some(texts, readable, model, cache_dir, bar.part("encoding"))
            own, items = vectors[start:], vectors[:start]
            options = {"num_threads": num_threads, "on_progress": bar.part("comparing vectors")}
            against["embedding"] = embedding_join(own, items, embedding_threshold, **options)
            among["embedding"] = embedding_join(own, None, embedding_threshold, **options)
            thresholds["embedding"] = embedding_threshold
            bar.advance()
    against = {name: _for_all(matches, text_of) for name, matches in against.items()}
    among = {name: matches.renumbered(asked, asked) for name, matches in among.items()}
    return Alike(rows, held_out, shares, against, among, thresholds, ngram, distinct, unread)


def _distinct(keys: np.ndarray, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """One row of each distinct text, whatever the order of the rows, and the number of each row's text."""
    order = np.asarray(sorted(range(len(texts)), key=texts.__getitem__), np.int64)
    _, first, number = np.unique(keys[order], return_index=True, return_inverse=True)
    text_of = np.empty(len(texts), np.int64)
    text_of[order] = number
    return order[first], text_of


def _for_all(matches: Matches, text_of: np.ndarray) -> Matches:
    """The matches of distinct texts, repeated for each row with the text."""
    starts = np.searchsorted(matches.left, np.arange(text_of.max(initial=-1) + 2))
    each = Ragged(starts, np.arange(len(matches))).take(text_of)
    return Matches(each.owners(), matches.right[each.ids], matches.similarity[each.ids])


def _ranked(matches: Matches, rank: np.ndarray) -> Matches:
    """The pairs of ranked rows, by rank, the later one left."""
    left, right = rank[matches.left], rank[matches.right]
    both = (left >= 0) & (right >= 0)
    ranked = Matches(np.maximum(left, right), np.minimum(left, right), matches.similarity)
    return concatenate([ranked.where(both)])
