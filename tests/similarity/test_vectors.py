"""Each text is encoded once, whatever interrupts."""

import os

import numpy as np
import pytest

from star_hf.similarity.encoders import SentenceEncoder
from star_hf.similarity.onnx import OnnxEncoder
from star_hf.similarity.options import EncoderOptions, make_encoder
from star_hf.similarity.vectors import embed


class Counting:
    """An encoder that remembers what it was asked and may stop after some texts."""

    identity = "counting"

    def __init__(self, stop_after=10**9):
        self.asked, self.stop_after = [], stop_after

    def __call__(self, texts):
        if len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked.extend(texts)
        return np.array([[len(text), 1.0] for text in texts], np.float32)


def test_each_text_is_encoded_once_even_across_an_interruption(tmp_path, monkeypatch):
    monkeypatch.setattr("star_hf.similarity.vectors._CHUNK", 2)
    texts = ["ccc", "a", "bb", "a", "dddd", "eeeee"]
    with pytest.raises(KeyboardInterrupt):
        embed(texts, Counting(stop_after=2), tmp_path)
    second = Counting()
    vectors = embed(texts, second, tmp_path)
    assert vectors[:, 0].tolist() == [3, 1, 2, 1, 4, 5]
    assert second.asked == ["ccc", "dddd", "eeeee"]
    third = Counting()
    np.testing.assert_array_equal(embed(texts[::-1], third, tmp_path), vectors[::-1])
    assert third.asked == []
    other = Counting()
    other.identity = "another model"
    embed(["a"], other, tmp_path)
    assert other.asked == ["a"]


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_another_revision_of_a_model_is_another(backend):
    options = {"model": "me/model", "backend": backend}
    names = [make_encoder(EncoderOptions(**options, revision=one)).identity for one in (None, "v1", "v2")]
    assert len(set(names)) == 3 and "v1" in names[1] and "v2" in names[2]


def test_vectors_of_any_model_have_length_one(monkeypatch):
    """sentence-transformers scales them only if it is told to, unless the model has a layer for it."""

    class Model:
        def encode(self, texts, *, normalize_embeddings=False, **options):
            vectors = np.array([[3.0 * len(text), 4.0 * len(text)] for text in texts], np.float32)
            return vectors / np.linalg.norm(vectors, axis=1, keepdims=True) if normalize_embeddings else vectors

    encoder = SentenceEncoder("me/model")
    monkeypatch.setattr(encoder, "_load", Model)
    np.testing.assert_allclose(encoder(["a", "bb"]), [[0.6, 0.8]] * 2)


@pytest.mark.parametrize("encoder", [SentenceEncoder, OnnxEncoder])
def test_a_model_that_was_trained_further_is_another(encoder, tmp_path):
    (tmp_path / "onnx").mkdir()
    weights = tmp_path / "onnx" / "model.onnx"
    weights.touch()
    before = encoder(str(tmp_path)).identity
    assert encoder(str(tmp_path)).identity == before
    os.utime(weights, ns=(0, weights.stat().st_mtime_ns + 1))
    assert encoder(str(tmp_path)).identity != before
