"""The ONNX graph of the packaged model against the model itself."""

import json

import numpy as np
import pytest

from star_hf.errors import ConfigError
from star_hf.similarity.encoders import SentenceEncoder, from_hub
from star_hf.similarity.onnx import OnnxEncoder, _pool, export_onnx


TEXTS = ["How do I pick a lock?", "", "水 and straße", "one text that is longer than the model takes " * 60, "door"]


@pytest.mark.slow
def test_vectors_are_those_of_sentence_transformers(tmp_path):
    pytest.importorskip("onnx")
    folder = export_onnx(tmp_path)
    encoder = OnnxEncoder(str(folder), batch_size=2)
    vectors = encoder(TEXTS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, SentenceEncoder()(TEXTS), atol=1e-6)
    configuration = folder / "1_Pooling" / "config.json"
    configuration.write_text(json.dumps({"pooling_mode": "cls"}))
    assert np.abs(OnnxEncoder(str(folder))(TEXTS) - encoder(TEXTS)).max() > 0.01
    configuration.write_text(json.dumps({"pooling_mode": "weightedmean"}))
    with pytest.raises(ConfigError, match="pooling must be one of"):
        OnnxEncoder(str(folder))(TEXTS)


@pytest.mark.parametrize(
    ("pooling", "expected"), [("mean", [[2, 3], [5, 5]]), ("cls", [[1, 2], [5, 5]]), ("lasttoken", [[3, 4], [5, 5]])]
)
def test_padding_has_no_part_in_the_vector_of_a_text(pooling, expected):
    hidden = np.array([[[1, 2], [3, 4], [9, 9]], [[5, 5], [9, 9], [9, 9]]], np.float32)
    mask = np.array([[1, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(_pool(hidden, mask, pooling), expected)


def test_a_folder_without_a_graph_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no file onnx/model\.onnx"):
        OnnxEncoder(str(tmp_path))(["a"])


@pytest.mark.parametrize("encoder", [OnnxEncoder, SentenceEncoder])
def test_a_model_that_is_not_there_is_named(hub, encoder):
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ConfigError, match="me/nothing cannot be loaded"):
        encoder("me/nothing")(["a"])


def test_a_failure_without_a_word_is_told_by_its_name():
    with pytest.raises(ConfigError, match="me/model cannot be loaded: TimeoutError"), from_hub("me/model"):
        raise TimeoutError
