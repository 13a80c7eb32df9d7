"""Sentence embeddings by ONNX Runtime: the same vectors without PyTorch, and faster on a CPU."""

import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..utils.extras import require
from .encoders import PACKAGED, from_hub, identity_of, packaged_model


__all__ = ["OnnxEncoder", "export_onnx"]

FILE = "onnx/model.onnx"
"""Where sentence-transformers and most models on the Hub store their graph."""
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OPSET = 17
READ = ("*.json", "*/config.json")


class OnnxEncoder:
    """A sentence-transformers model as an ONNX graph, loaded when the first text is encoded.

    Reads the same files as sentence-transformers. (Its own `backend="onnx"` needs optimum-onnx, which does not support
    transformers 5.) The arguments are those of [`~star_hf.similarity.options.EncoderOptions`]. Quantized graphs give
    rounded vectors, and the device `"cuda"` needs the package onnxruntime-gpu.

    Raises:
        [`ConfigError`]: When the first text is encoded, if a package or the graph is missing, or the model's layers
            are not supported.
    """

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        file: str = FILE,
        batch_size: int = 16,
        device: str | None = None,
        languages: Sequence[str] | None = None,
    ):
        self.languages = languages
        self.identity = f"{identity_of(model, revision)}:{file}"
        self._model, self._revision, self._file = model, revision, file
        self._batch_size, self._device = batch_size, device
        self._session: Any = None

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        if self._session is None:
            self._load()
        tokens = self._tokenizer.encode_batch([self._prompt + text for text in texts])
        order = sorted(range(len(texts)), key=lambda row: len(tokens[row].ids))
        starts = range(0, len(order), self._batch_size)
        parts = [self._encode([tokens[row] for row in order[start : start + self._batch_size]]) for start in starts]
        return np.concatenate(parts)[np.argsort(order)] if parts else np.empty((0, 0), np.float32)

    def _encode(self, tokens: list[Any]) -> np.ndarray:
        """Vectors of one batch, shape `(texts, dimensions)`."""
        longest = max(len(own.ids) for own in tokens)
        for own in tokens:
            own.pad(longest, pad_id=self._pad)
        ids, mask = (np.array([getattr(own, name) for own in tokens]) for name in ("ids", "attention_mask"))
        fed = dict(zip(INPUTS, (ids, mask, np.zeros_like(ids)), strict=True))
        hidden = self._session.run([self._output], {name: fed[name] for name in self._inputs})[0]
        vectors = hidden if hidden.ndim == 2 else _pool(hidden, mask, self._pooling)
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors.astype(np.float32)

    def _load(self) -> None:
        require("local", "onnxruntime", "tokenizers", what="An ONNX model")
        import onnxruntime
        from tokenizers import Tokenizer

        folder = self._folder()
        self._pooling, longest, self._prompt = _configuration(folder)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        if longest is not None:
            self._tokenizer.enable_truncation(longest)
        self._pad = _read(folder / "config.json").get("pad_token_id") or 0
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)  # like PyTorch; 0 means all
        providers = ["CUDAExecutionProvider"] if (self._device or "").startswith("cuda") else []
        self._session = onnxruntime.InferenceSession(
            folder / self._file, options, providers=[*providers, "CPUExecutionProvider"]
        )
        self._inputs = [given.name for given in self._session.get_inputs()]
        names = [given.name for given in self._session.get_outputs()]
        self._output = "sentence_embedding" if "sentence_embedding" in names else names[0]
        if set(self._inputs) - set(INPUTS):
            raise ConfigError(f"{folder / self._file} has unsupported inputs: {', '.join(self._inputs)}.")

    def _folder(self) -> Path:
        """The model's folder, downloaded from the Hub if needed."""
        folder = Path(self._model)
        if not folder.is_dir():
            from huggingface_hub import snapshot_download

            wanted = [*READ, self._file, f"{self._file}_data"]
            with from_hub(self._model):
                folder = Path(snapshot_download(self._model, revision=self._revision, allow_patterns=wanted))
        if not (folder / self._file).is_file():
            raise ConfigError(
                f"{self._model} has no file {self._file}.",
                "Set `file`, or write one: star_hf.similarity.onnx.export_onnx(folder, model).",
            )
        return folder


def export_onnx(folder: str | Path, model: str | Path | None = None) -> Path:
    """Write the ONNX graph of a sentence-transformers model, and the other files that [`OnnxEncoder`] reads.

    Args:
        folder (`str` or `Path`): Output folder.
        model (`str` or `Path`, *optional*): Hub id or folder; the packaged all-MiniLM-L6-v2 by default.

    Returns:
        `Path`: The folder, which is the `model` of [`OnnxEncoder`].

    Raises:
        [`ConfigError`]: If a package is missing.
    """
    require("local", "sentence_transformers", *(() if model else (PACKAGED,)), what="Writing an ONNX graph")
    require("dev", "onnx", what="Writing an ONNX graph")
    import torch
    from sentence_transformers import SentenceTransformer

    folder = Path(folder)
    (folder / FILE).parent.mkdir(parents=True, exist_ok=True)
    encoder = SentenceTransformer(
        str(model or packaged_model()), device="cpu", model_kwargs={"attn_implementation": "eager"}
    )
    encoder.save(str(folder), create_model_card=False)
    (folder / "model.safetensors").unlink(missing_ok=True)
    network = encoder[0].auto_model.eval()
    example = encoder.tokenizer(["one text", "and a longer one"], padding=True, return_tensors="pt")
    names = [name for name in INPUTS if name in example]
    axes = {name: {0: "texts", 1: "tokens"} for name in (*names, "last_hidden_state")}

    class Hidden(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            return self.network(**dict(zip(names, tensors, strict=True)), return_dict=False)[0]

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation of the exporter, and branches that no text takes
        torch.onnx.export(
            Hidden(),
            tuple(example[name] for name in names),
            folder / FILE,
            input_names=names,
            output_names=["last_hidden_state"],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    return folder


def _pool(hidden: np.ndarray, mask: np.ndarray, pooling: str) -> np.ndarray:
    """One vector per text from one per token, shape `(texts, tokens, dimensions)`, padded on the right."""
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "lasttoken":
        return hidden[np.arange(len(hidden)), mask.sum(axis=1) - 1]
    return np.einsum("ntd,nt->nd", hidden, mask.astype(hidden.dtype)) / mask.sum(axis=1, keepdims=True)


def _configuration(folder: Path) -> tuple[str, int | None, str]:
    """A model's pooling, its maximum length in tokens, and the prompt before each text."""
    modules = _read(folder / "modules.json", [{"type": "Transformer"}, {"type": "Pooling", "path": "1_Pooling"}])
    kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or set(kinds[2:]) - {"Normalize"}:
        raise ConfigError(
            f"{folder}: a model with the layers {', '.join(kinds)} is not supported as an ONNX graph.",
            "Remove `backend: onnx`.",
        )
    pooling = _read(folder / modules[1]["path"] / "config.json")
    modes = {
        "mean": pooling.get("pooling_mode_mean_tokens", not pooling),
        "cls": pooling.get("pooling_mode_cls_token"),
        "lasttoken": pooling.get("pooling_mode_lasttoken"),
    }
    chosen = [pooling["pooling_mode"]] if "pooling_mode" in pooling else [name for name, on in modes.items() if on]
    if len(chosen) != 1 or chosen[0] not in modes:
        raise ConfigError(f"{folder}: pooling must be one of {', '.join(modes)}.", "Remove `backend: onnx`.")
    prompts = _read(folder / "config_sentence_transformers.json")
    prompt = (prompts.get("prompts") or {}).get(prompts.get("default_prompt_name") or "", "")
    longest = _read(folder / "sentence_bert_config.json").get("max_seq_length")
    return chosen[0], longest or _read(folder / "tokenizer_config.json").get("model_max_length"), prompt


def _read(path: Path, default: Any = None) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else default or {}
