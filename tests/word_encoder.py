"""An encoder for tests: texts with the same words get like vectors, and each text the same one in any company."""

import hashlib

import numpy as np


class WordEncoder:
    """Sums a vector of 32 dimensions for each word, drawn from the word's hash."""

    identity = "words"
    languages = ("*",)

    def __call__(self, texts):
        vectors = np.stack([sum(map(self._drawn, text.lower().split()), self._drawn("")) for text in texts])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    @staticmethod
    def _drawn(word):
        seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        return np.random.default_rng(seed).normal(size=32)


class SlowEncoder(WordEncoder):
    """Says that it has begun with a text, and waits, as long as a file is there."""

    def __init__(self, flag):
        self.flag = flag

    def __call__(self, texts):
        import time

        while self.flag.exists() and any("strike" in text for text in texts):
            self.flag.with_suffix(".begun").touch()
            time.sleep(0.05)
        return super().__call__(texts)
