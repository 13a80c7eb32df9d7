"""Texts prepared once for every measure: comparable form, equality keys, words, n-grams and term counts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from ..utils.folding import fold
from ..utils.text import normalise
from .ngrams import Ragged, ngram_ids, split_words
from .scripts import unspaced
from .tfidf import count_terms, list_terms


__all__ = ["PreparedTexts", "Units"]


class Units(NamedTuple):
    """The words of texts, or the units of a kind of script without spaces, by number; `per_word` make a word."""

    numbers: Ragged
    names: list[str]
    per_word: int


@dataclass(frozen=True)
class PreparedTexts:
    """Texts, split into words once: the word numbers of each text, and in `vocabulary` the words by number.

    `units` has the other units of texts in scripts without spaces, and `folded` says whether texts are folded and
    their terms split by script ([`fold`], [`~star_hf.similarity.scripts.split_by_script`]).
    """

    texts: list[str]
    words: Ragged
    vocabulary: list[str]
    units: tuple[Units, ...]
    folded: bool

    @classmethod
    def of(cls, texts: Iterable[str], *, folded: bool = True) -> "PreparedTexts":
        """Prepare texts, by default folded."""
        texts = [fold(text) for text in texts] if folded else list(texts)
        return cls(texts, *split_words(texts), _units_of(texts) if folded else (), folded)

    @property
    def all_units(self) -> tuple[Units, ...]:
        """The words, then the other units."""
        return Units(self.words, self.vocabulary, 1), *self.units

    def keys(self) -> Ragged:
        """One number per text, equal where the normalised texts are equal."""
        known: dict[str, int] = {}
        keys = [known.setdefault(normalise(text), len(known)) for text in self.texts]
        return Ragged(np.arange(len(keys) + 1), np.asarray(keys, np.int64))

    def ngrams(self, n: int, rows: np.ndarray | None = None) -> Ragged:
        """Numbers of the runs of `n` words, or of as many units as about `n` words have, of all texts or of some."""
        grams = None
        for units in self.all_units:
            own = ngram_ids(units.numbers if rows is None else units.numbers.take(rows), n * units.per_word)
            grams = own if grams is None else grams.beside(own)
        return grams

    def counts(self) -> sp.csr_matrix:
        """Term counts, shape `(texts, terms)`."""
        return count_terms(self.words, self.vocabulary, by_script=self.folded)

    def terms(self) -> list[str]:
        """The terms that [`counts`] counts, in the order of its columns."""
        return list_terms(self.vocabulary, by_script=self.folded)


def _units_of(texts: Sequence[str]) -> tuple[Units, ...]:
    """The units of each kind of script that occurs."""
    rows = [row for row, text in enumerate(texts) if not text.isascii()]
    found = []
    for kind in zip(*(unspaced(texts[row]) for row in rows), strict=True):
        names: dict[str, int] = {}
        ids = [names.setdefault(unit, len(names)) for units, _ in kind for unit in units]
        lengths = np.zeros(len(texts), np.int64)
        lengths[rows] = [len(units) for units, _ in kind]
        if names:
            numbers = Ragged(np.r_[0, np.cumsum(lengths)], np.asarray(ids, np.int64))
            found.append(Units(numbers, list(names), kind[0][1]))
    return tuple(found)
