"""The trained model as a GGUF file, for the runtime of the embedded model: several times as fast on a CPU."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import TrainingError
from ..evaluation.generation.in_process import InProcess
from ..evaluation.generation.models import Model, Served
from ..llm import Endpoint
from ..llm.embedded.weights import packaged_weights
from ..utils.files import read_json, replacing


if TYPE_CHECKING:
    import gguf


__all__ = ["as_gguf", "model_in"]

KIND = "Q8_0"
"""Eight bits per weight: half the time of 16 bits, and an error below that of computing in bfloat16."""


def model_in(folder: str | Path) -> Model:
    """A folder's model, ready to be asked: as a GGUF file if it is a Llama, as the embedded model is."""
    if read_json(Path(folder) / "config.json").get("model_type") != "llama":
        return InProcess(str(folder), batch_size=16, dtype="float32")
    return Served(Endpoint(provider="local", model=str(as_gguf(folder))))


def as_gguf(folder: str | Path, like: Path | None = None) -> Path:
    """Write the weights of a folder as `model.gguf` in it, with all else (tokenizer, template, settings) from `like`.

    For a Llama that was trained from the weights of `like`, the packaged model by default; other models are converted
    by llama.cpp's `convert_hf_to_gguf.py`. Does nothing if the file is newer than the weights.

    Raises:
        TrainingError: If the folder's tensors are not those of `like`.
    """
    import gguf
    from safetensors.numpy import load_file

    weights, path = Path(folder) / "model.safetensors", Path(folder) / "model.gguf"
    if path.exists() and path.stat().st_mtime >= weights.stat().st_mtime:
        return path
    source = _read(like or packaged_weights())
    known = {name: field.contents() for name, field in source.fields.items()}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, known["llama.block_count"])
    heads = {"attn_q": known["llama.attention.head_count"], "attn_k": known["llama.attention.head_count_kv"]}
    tensors = {str(names.get_name(name, (".weight",))): value for name, value in load_file(weights).items()}
    if {name: value.shape for name, value in tensors.items()} != {
        t.name: tuple(t.shape[::-1]) for t in source.tensors
    }:
        raise TrainingError(f"{folder} is not a model of the same form as {like or packaged_weights()}.")
    with replacing(path) as fresh:
        writer = gguf.GGUFWriter(fresh, "llama")
        for name, field in source.fields.items():
            if not name.startswith("GGUF.") and name not in ("general.architecture", "general.file_type"):
                listed = field.types[0] == gguf.GGUFValueType.ARRAY
                writer.add_key_value(name, known[name], field.types[0], field.types[-1] if listed else None)
        writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{KIND}"])
        for name, value in tensors.items():
            kind = gguf.GGMLQuantizationType["F32" if value.ndim == 1 else KIND]
            stored = _permuted(np.float32(value), heads.get(name.split(".")[-2]))
            writer.add_tensor(name, gguf.quants.quantize(stored, kind), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return path


@functools.lru_cache(maxsize=1)
def _read(path: Path) -> "gguf.GGUFReader":
    """A GGUF file, whose vocabulary takes seconds to read."""
    import gguf

    return gguf.GGUFReader(path)


def _permuted(value: np.ndarray, heads: int | None) -> np.ndarray:
    """A tensor as llama.cpp keeps it: of queries and keys, the rows of each head's halves take turns."""
    if heads is None:
        return value
    return value.reshape(heads, 2, -1, value.shape[-1]).swapaxes(1, 2).reshape(value.shape)
