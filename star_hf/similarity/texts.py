"""Texts prepared once for every measure: Unicode form, equality keys, words, n-grams and term counts."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from ..utils.text import normalise
from .ngrams import Ragged, ngram_ids, split_words
from .tfidf import count_terms


__all__ = ["PreparedTexts", "to_nfkc"]


def to_nfkc(texts: Iterable[str]) -> list[str]:
    """The texts in Unicode's NFKC form, in which compatible characters such as `ﬁ` and `fi` are equal."""
    return [unicodedata.normalize("NFKC", text) for text in texts]


@dataclass(frozen=True)
class PreparedTexts:
    """Texts, split into words once: the word numbers of each text, and in `vocabulary` the words by number."""

    texts: list[str]
    words: Ragged
    vocabulary: list[str]

    @classmethod
    def of(cls, texts: Iterable[str], *, nfkc: bool = True) -> "PreparedTexts":
        """Prepare texts, by default in NFKC form."""
        texts = to_nfkc(texts) if nfkc else list(texts)
        return cls(texts, *split_words(texts))

    def keys(self) -> Ragged:
        """One number per text, equal where the normalised texts are equal."""
        known: dict[str, int] = {}
        keys = [known.setdefault(normalise(text), len(known)) for text in self.texts]
        return Ragged(np.arange(len(keys) + 1), np.asarray(keys, np.int64))

    def ngrams(self, n: int, rows: np.ndarray | None = None) -> Ragged:
        """Numbers of the `n`-grams of all texts, or of some."""
        return ngram_ids(self.words if rows is None else self.words.take(rows), n)

    def counts(self) -> sp.csr_matrix:
        """Term counts, shape `(texts, terms)`."""
        return count_terms(self.words, self.vocabulary)
