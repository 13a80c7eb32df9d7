"""The trained head: from the vectors, phrases and n-grams of a text to the probabilities of three classes."""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from .....similarity.encoders import Encoder
from ....types import Part
from .phrases import phrase_features, plain


__all__ = ["FILE", "HASHED", "Head", "features", "head_of", "version", "views"]

FILE = Path(__file__).with_name("head.npz")
VIEWS = ((25, 3.0), (80, 3.0), (-25, 2.0))
"""The words of which each vector is made, from the start or the end, and the vector's weight."""

BEGINNING = 60
"""The words whose n-grams count."""

HASHED = 2**14
"""The columns of each kind of n-gram."""


class Head(NamedTuple):
    """A linear layer: `weights` of shape `(features, 3)`, and `bias` of shape `(3,)`, calibrated."""

    weights: np.ndarray
    bias: np.ndarray

    def probabilities(self, features: np.ndarray | sparse.csr_array) -> np.ndarray:
        """Of full compliance, partial refusal and full refusal, shape `(texts, 3)`."""
        scores = features @ self.weights + self.bias
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)


def views(text: str) -> list[str]:
    """The opening of a text, as much of the whole as counts, and its end."""
    words = plain(text).split()
    return [" ".join(words[:count] if count > 0 else words[count:]) for count, _ in VIEWS]


def features(texts: Sequence[str], encoder: Encoder) -> sparse.csr_array:
    """What the head reads of each text, side by side, shape `(texts, features)`.

    The vectors of its views and its phrases, then the hashed words and pairs of words of its beginning, then hashed
    parts of these words.
    """
    seen = [views(text) for text in texts]
    every = list(dict.fromkeys(view for own in seen for view in own))
    place = {view: number for number, view in enumerate(every)}
    vectors = np.asarray(encoder(every))
    parts = [weight * vectors[[place[own[number]] for own in seen]] for number, (_, weight) in enumerate(VIEWS)]
    beginnings = [" ".join(plain(text).split()[:BEGINNING]) for text in texts]
    hashed = [vectorizer.transform(beginnings) for vectorizer in _hashers()]
    phrases = np.array([phrase_features(text) for text in texts])
    return sparse.csr_array(sparse.hstack([np.hstack([*parts, phrases]), *hashed]))


@cache
def _hashers() -> tuple[Any, ...]:
    """Of words and pairs of words, and of three to five letters within a word; rows of length one."""
    from sklearn.feature_extraction.text import HashingVectorizer

    options = {"n_features": HASHED, "alternate_sign": False}
    return (
        HashingVectorizer(ngram_range=(1, 2), token_pattern=r"[a-z']+|[^\w\s]", **options),
        HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), **options),
    )


@cache
def head_of(part: Part) -> Head:
    """The packaged head for answers, or for thoughts."""
    with np.load(FILE, allow_pickle=False) as stored:
        return Head(*(stored[f"{part}_{name}"].astype(np.float64) for name in Head._fields))


@cache
def version() -> str:
    """The first 8 hex digits of the SHA-256 of the packaged heads."""
    return hashlib.sha256(FILE.read_bytes()).hexdigest()[:8]
