"""Decontamination as a `Dataset.filter`: each row is compared with held-out items alone, so batches do not matter."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from datasets import Dataset

from ..errors import ConfigError
from ..llm.step import column_of
from ..similarity.encoders import Encoder
from ..similarity.ngrams import split_words
from ..similarity.options import EncoderOptions, make_encoder
from ..similarity.pairs import TOLERANCE, check_thresholds
from ..similarity.readable import counts_as, tells_apart, warn_of
from ..similarity.scripts import unspaced
from ..similarity.tfidf import count_terms, list_terms, tfidf_weights
from ..similarity.vectors import embed, embed_some
from ..utils.folding import fold
from ..utils.language import UNCLEAR, language_or_script
from ..utils.text import normalise


__all__ = ["NotLike"]

CHUNK = 256
"""Rows that are compared with all held-out items at a time, which bounds memory."""


class NotLike:
    """Keeps the rows whose question is not like a held-out item by any measure.

    As [`~star_hf.transforms.deduplicate.deduplicate`] compares rows with held-out items, but TF-IDF weights are
    fitted on the held-out items alone: whether a row stays does not depend on other rows. Texts are compared in
    folded form ([`~star_hf.utils.folding.fold`]).

    Args:
        held_out ([`~datasets.Dataset`] or iterable of `str`): Benchmark items, with the column `column`, or texts.
        ngram (`int` or `None`, defaults to 8): A row goes if it shares this many words in a row with an item.
        tfidf_threshold (`float` or `None`, defaults to 0.6): Lowest TF-IDF cosine at which a row goes.
        embedding_threshold (`float`, *optional*): Lowest embedding cosine at which a row goes.
        encoder ([`Encoder`], [`EncoderOptions`] or `str`, *optional*): The embedding model; the packaged
            all-MiniLM-L6-v2 by default.
        column (`str`, defaults to `"question"`): The column with the text.

    Raises:
        ConfigError: If a threshold or `ngram` is invalid, or `held_out` has no such column.

    Example:

    ```python
    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"question": ["What is a lock?", "How do I open a lock?"]})
    >>> rows.filter(NotLike(["what  is a LOCK?"]), batched=True)["question"][:]
    ['How do I open a lock?']
    ```
    """

    def __init__(
        self,
        held_out: Dataset | Iterable[str],
        *,
        ngram: int | None = 8,
        tfidf_threshold: float | None = 0.6,
        embedding_threshold: float | None = None,
        encoder: Encoder | EncoderOptions | str | None = None,
        column: str = "question",
    ):
        check_thresholds(tfidf_threshold, embedding_threshold)
        if ngram is not None and ngram < 1:
            raise ConfigError(f"Invalid n-gram length {ngram}: must be 1 or more.", "Use 8, as the paper does.")
        if isinstance(held_out, str):
            raise ConfigError("The held-out items are one text.", "Give a list of texts, or a Dataset.")
        if isinstance(held_out, Dataset):
            if column not in held_out.column_names:
                columns = ", ".join(held_out.column_names)
                raise ConfigError(f"The held-out items have no column `{column}`; their columns are {columns}.")
            held_out = held_out[column][:]
        self.ngram, self.column, self.encoder = ngram, column, encoder
        self.tfidf_threshold, self.embedding_threshold = tfidf_threshold, embedding_threshold
        self._items = sorted({fold(text or "") for text in held_out})

    def __call__(self, rows: Mapping[str, Any]) -> bool | list[bool]:
        """Whether a row stays, or a list of that for a batch."""
        texts = column_of(rows, self.column, "Name the column with the text: `column=`.")
        return self._stays(texts) if isinstance(texts, list) else self._stays([texts])[0]

    def __getstate__(self) -> dict[str, Any]:
        """All but what is computed from the held-out items, so that fingerprints stay the same after use."""
        return {name: value for name, value in vars(self).items() if name not in COMPUTED}

    def _stays(self, texts: list[str | None]) -> list[bool]:
        folded = [fold(text or "") for text in texts]
        stays = np.array([normalise(text) not in self._exact for text in folded], bool)
        if self.ngram is not None:
            stays &= [self._ngrams.isdisjoint(_windows(text, self.ngram)) for text in folded]
        for start in range(0, len(texts), CHUNK):
            part = slice(start, start + CHUNK)
            if self.tfidf_threshold is not None:
                stays[part] &= self._highest_tfidf(folded[part]) < self.tfidf_threshold - TOLERANCE
            if self.embedding_threshold is not None:
                highest = self._highest_embedding(folded[part], self.embedding_threshold)
                stays[part] &= highest < self.embedding_threshold - TOLERANCE
        return stays.tolist()

    def _highest_tfidf(self, texts: list[str]) -> np.ndarray:
        """The highest cosine of each text with an item; a term that no item has is weighed as a rarest one."""
        known, frequency, items = self._terms
        words, vocabulary = split_words(texts)
        counts = count_terms(words, vocabulary, by_script=True)
        places = np.array([known.get(term, -1) for term in list_terms(vocabulary, by_script=True)], np.int64)
        found = np.flatnonzero(places >= 0)
        own = np.zeros(counts.shape[1], np.int64)
        own[found] = frequency[places[found]]
        weights = tfidf_weights(counts, own, len(self._items))
        if not self._items or not len(found):
            return np.zeros(len(texts))
        return (weights[:, found] @ items[places[found]]).max(axis=1).toarray().ravel()

    def _highest_embedding(self, texts: list[str], threshold: float) -> np.ndarray:
        """The highest cosine of each text with an item; 0 where the encoder cannot tell texts of its language apart.

        That is measured on the items of the language, or else on the text alone, so it is the same in any company.
        """
        readable = np.zeros(len(texts), bool)
        for place, text in enumerate(texts):
            group = self._group_of(text)
            items = self._groups.get(group)
            if group not in self._told and items:
                self._told[group] = tells_apart(group, items, self._encoder, threshold)
            told = self._told[group] if items else tells_apart(group, [text], self._encoder, threshold)
            if not told and group not in self._warned:
                self._warned.add(group)
                warn_of({group: 1}, self._encoder)
            readable[place] = told
        if not self._items or not readable.any():
            return np.zeros(len(texts))
        return (embed_some(texts, readable, self._encoder) @ self._vectors.T).max(axis=1)

    @cached_property
    def _exact(self) -> set[str]:
        return {normalise(text) for text in self._items}

    @cached_property
    def _ngrams(self) -> set[tuple[str, ...]]:
        return {window for text in self._items for window in _windows(text, self.ngram or 0)}

    @cached_property
    def _terms(self) -> tuple[dict[str, int], np.ndarray, sp.csr_matrix]:
        """The items' terms by number, in how many items each is, and the weights, shape `(terms, items)`."""
        words, vocabulary = split_words(self._items)
        counts = count_terms(words, vocabulary, by_script=True)
        frequency = np.bincount(counts.indices, minlength=counts.shape[1])
        known = {term: number for number, term in enumerate(list_terms(vocabulary, by_script=True))}
        return known, frequency, tfidf_weights(counts).T.tocsr()

    @cached_property
    def _groups(self) -> dict[str, list[str]]:
        """The items by language or script."""
        groups: dict[str, list[str]] = {}
        for item in self._items:
            groups.setdefault(self._group_of(item), []).append(item)
        return groups

    def _group_of(self, text: str) -> str:
        group = language_or_script(text)
        return self._usual if group == UNCLEAR else group

    @cached_property
    def _usual(self) -> str:
        """The language that texts of an unclear one count as."""
        return counts_as(Counter(map(language_or_script, self._items)))

    @cached_property
    def _told(self) -> dict[str, bool]:
        """Whether the encoder can tell the items of a language or script apart, as far as it was measured."""
        return {}

    @cached_property
    def _warned(self) -> set[str]:
        return set()

    @cached_property
    def _encoder(self) -> Encoder:
        return make_encoder(self.encoder)

    @cached_property
    def _vectors(self) -> np.ndarray:
        return embed(self._items, self._encoder)


COMPUTED = {name for name, value in vars(NotLike).items() if isinstance(value, cached_property)}


def _windows(text: str, n: int) -> Iterator[tuple[str, ...]]:
    """The runs of `n` words, and of as many units of scripts without spaces as about `n` words have."""
    for units, per_word in ((text.lower().split(), 1), *unspaced(text)):
        size = n * per_word
        yield from (tuple(units[start : start + size]) for start in range(len(units) - size + 1))
