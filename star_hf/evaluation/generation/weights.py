"""The exact model: its folder, on disk or from the Hub, and a fingerprint of all files that it computes with."""

import hashlib
import json
from pathlib import Path

from ...errors import ConfigError, IncompleteRunError
from ...utils.files import sha256_of
from ...utils.network import NETWORK_ERRORS, unreachable


__all__ = ["fingerprint", "locate"]

COMPUTED_WITH = (
    "*.safetensors",
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer*",
    "*.model",
    "*.tiktoken",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "*.py",
)
"""Files of a model folder that can change an answer; records of its training cannot."""
FETCHED = (*COMPUTED_WITH, "*.safetensors.index.json")


def locate(model: str, revision: str | None = None) -> tuple[Path, str | None]:
    """A model's folder, and the Hub's commit. A model on the Hub is downloaded into the Hub's cache.

    Raises [`ConfigError`] if there is no such model, or it has no safetensors.
    """
    folder, commit = Path(model).expanduser(), None
    if not folder.is_dir():
        folder = _downloaded(model, revision)
        commit = folder.name
    if not any(folder.glob("*.safetensors")):
        raise ConfigError(
            f"{folder} has no *.safetensors, so there are no weights to evaluate.",
            "Pass a folder written by `save_pretrained`; serve other formats and pass `--base-url`.",
        )
    return folder, commit


def _downloaded(model: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(FETCHED)))
    except (HFValidationError, *NETWORK_ERRORS) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if unreachable(error):
            raise IncompleteRunError(
                f"{model!r} is no folder here, and the Hub cannot be reached: {reason}",
                "Check the path or the network, then run the same command again; for a model behind a server pass "
                "`--base-url`.",
            ) from error
        raise ConfigError(
            f"{model!r} is neither a folder nor a model that the Hub provides: {reason}",
            "Check the name, and for a gated model HF_TOKEN; for a model behind a server pass `--base-url`.",
        ) from error


def fingerprint(folder: Path) -> str:
    """SHA-256 over the content of every file that the model computes with; for an adapter also of its base model.

    So retrained weights at the same path never find an old answer. Takes as long as reading the files.
    """
    digest = hashlib.sha256()
    files = {path for pattern in COMPUTED_WITH for path in folder.glob(pattern) if path.is_file()}
    for path in sorted(files, key=lambda path: path.name):
        digest.update(f"{path.name} {sha256_of(path)}\n".encode())
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        config = json.loads(adapter.read_text(encoding="utf-8"))
        base, _ = locate(config["base_model_name_or_path"], config.get("revision"))
        digest.update(fingerprint(base).encode())
    return digest.hexdigest()
