"""Each text is encoded once, whatever interrupts."""

import os

import numpy as np
import pytest

from star_hf.similarity.encoders import SentenceEncoder
from star_hf.similarity.onnx import OnnxEncoder
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


@pytest.mark.parametrize("encoder", [SentenceEncoder, OnnxEncoder])
def test_a_model_that_was_trained_further_is_another(encoder, tmp_path):
    (tmp_path / "onnx").mkdir()
    weights = tmp_path / "onnx" / "model.onnx"
    weights.touch()
    before = encoder(str(tmp_path)).identity
    assert encoder(str(tmp_path)).identity == before
    os.utime(weights, ns=(0, weights.stat().st_mtime_ns + 1))
    assert encoder(str(tmp_path)).identity != before
