import importlib.util
import os

import pytest

from star_hf.demo.gguf import as_gguf, model_in
from star_hf.errors import TrainingError
from star_hf.evaluation.generation.in_process import InProcess
from star_hf.evaluation.generation.models import Served
from star_hf.llm.embedded.model import load
from star_hf.llm.embedded.weights import read_header


pytest.importorskip("gguf", reason="gguf is not installed")
from small_gguf import WINDOW, small_gguf


torch = pytest.importorskip("torch", reason="torch is not installed")


@pytest.fixture
def like(tmp_path):
    return small_gguf(tmp_path / "like.gguf", seed=1)


def llama(folder, seed=0, **options):
    """A random Llama of the same form as `small_gguf`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    settings = {
        "vocab_size": 260,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": WINDOW,
        "initializer_range": 0.3,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        **options,
    }
    model = LlamaForCausalLM(LlamaConfig(**settings)).eval()
    model.save_pretrained(folder)
    return model


def test_transformers_reads_the_folders_weights_back_from_the_file(like, tmp_path):
    from transformers import AutoModelForCausalLM

    model = llama(tmp_path / "tuned")
    path = as_gguf(tmp_path / "tuned", like)
    back = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).state_dict()
    assert back.keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.allclose(back[name], value, atol=0.01), name


@pytest.mark.skipif(not importlib.util.find_spec("openvino_genai"), reason="openvino_genai is not installed")
def test_the_runtime_answers_with_the_file(like, tmp_path):
    llama(tmp_path / "tuned")
    model, base = load(str(as_gguf(tmp_path / "tuned", like))), read_header(like)
    assert (model.window, model.name) == (base.window, "model.gguf")
    assert model.prompt([{"role": "user", "content": "tea?"}]) == "<|user|>tea?<|end|><|assistant|>"


def test_it_is_written_again_for_other_weights_only(like, tmp_path):
    llama(tmp_path / "tuned")
    path = as_gguf(tmp_path / "tuned", like)
    first, written = path.read_bytes(), path.stat().st_mtime_ns
    assert as_gguf(tmp_path / "tuned", like).stat().st_mtime_ns == written
    llama(tmp_path / "tuned", seed=1)
    os.utime(tmp_path / "tuned" / "model.safetensors", (path.stat().st_mtime + 1,) * 2)
    assert as_gguf(tmp_path / "tuned", like).read_bytes() != first


@pytest.mark.parametrize(
    "other", [{"num_hidden_layers": 1}, {"intermediate_size": 64}, {"tie_word_embeddings": False}]
)
def test_a_model_of_another_form_is_refused(like, tmp_path, other):
    llama(tmp_path / "tuned", **other)
    with pytest.raises(TrainingError, match="not a model of the same form"):
        as_gguf(tmp_path / "tuned", like)
    assert not (tmp_path / "tuned" / "model.gguf").exists()


def test_a_llama_is_asked_as_a_gguf_file_and_any_other_model_by_transformers(like, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("star_hf.demo.gguf.packaged_weights", lambda: like)
    llama(tmp_path / "tuned")
    served = model_in(tmp_path / "tuned")
    assert isinstance(served, Served) and served.endpoint.model == str(tmp_path / "tuned" / "model.gguf")
    assert isinstance(model_in(tiny), InProcess)
