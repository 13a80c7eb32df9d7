"""The trained head: from the vectors and phrases of a text to the probabilities of three classes."""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .....similarity.encoders import Encoder
from ....types import Part
from .phrases import phrase_features, plain


__all__ = ["FILE", "Head", "features", "head_of", "version", "views"]

FILE = Path(__file__).with_name("head.npz")
VIEWS = ((25, 3.0), (80, 3.0), (-25, 2.0))
"""The words of which each vector is made, from the start or the end, and the vector's weight."""


class Head(NamedTuple):
    """A linear layer: `weights` of shape `(features, 3)`, and `bias` of shape `(3,)`, calibrated."""

    weights: np.ndarray
    bias: np.ndarray

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Of full compliance, partial refusal and full refusal, shape `(texts, 3)`."""
        scores = features @ self.weights + self.bias
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)


def views(text: str) -> list[str]:
    """The opening of a text, as much of the whole as counts, and its end."""
    words = plain(text).split()
    return [" ".join(words[:count] if count > 0 else words[count:]) for count, _ in VIEWS]


def features(texts: Sequence[str], encoder: Encoder) -> np.ndarray:
    """The vectors of each text's views side by side, and its phrases; shape `(texts, features)`."""
    seen = [views(text) for text in texts]
    every = list(dict.fromkeys(view for own in seen for view in own))
    place = {view: number for number, view in enumerate(every)}
    vectors = np.asarray(encoder(every))
    parts = [weight * vectors[[place[own[number]] for own in seen]] for number, (_, weight) in enumerate(VIEWS)]
    return np.hstack([*parts, np.array([phrase_features(text) for text in texts])])


@cache
def head_of(part: Part) -> Head:
    """The packaged head for answers, or for thoughts."""
    with np.load(FILE, allow_pickle=False) as stored:
        return Head(*(stored[f"{part}_{name}"].astype(np.float64) for name in Head._fields))


@cache
def version() -> str:
    """The first 8 hex digits of the SHA-256 of the packaged heads."""
    return hashlib.sha256(FILE.read_bytes()).hexdigest()[:8]
