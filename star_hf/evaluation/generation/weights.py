"""The exact model: its folder, on disk or from the Hub, and a fingerprint of all files that it computes with."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import ConfigError


__all__ = ["Weights", "fingerprint", "locate"]

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


@dataclass(frozen=True)
class Weights:
    """A model as files.

    Attributes:
        folder (`Path`): The folder of its files.
        revision (`str` or `None`): The Hub's commit; `None` for a local folder.
    """

    folder: Path
    revision: str | None = None


def locate(model: str, revision: str | None = None) -> Weights:
    """Find a model's folder; a model on the Hub is downloaded into the Hub's cache.

    Args:
        model (`str`): A folder, or a Hub id.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.

    Raises:
        ConfigError: If it is neither, or the folder has no safetensors.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return Weights(_checked(folder))
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = Path(snapshot_download(model, revision=revision, allow_patterns=list(FETCHED)))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"{model!r} is neither a folder nor a model that the Hub provides: {reason}",
            "Check the name, and for a gated model HF_TOKEN; for a model behind a server pass `--base-url`.",
        ) from error
    return Weights(_checked(found), found.name)


def fingerprint(folder: Path) -> str:
    """SHA-256 over the content of every file that the model computes with; for an adapter also of its base model.

    So retrained weights at the same path never find an old answer. Takes as long as reading the files.
    """
    digest = hashlib.sha256()
    for path in _files(folder):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.name} {content}\n".encode())
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        config = json.loads(adapter.read_text(encoding="utf-8"))
        base = locate(config["base_model_name_or_path"], config.get("revision"))
        digest.update(fingerprint(base.folder).encode())
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    found = {path for pattern in COMPUTED_WITH for path in folder.glob(pattern) if path.is_file()}
    yield from sorted(found, key=lambda path: path.name)


def _checked(folder: Path) -> Path:
    if not any(folder.glob("*.safetensors")):
        raise ConfigError(
            f"{folder} has no *.safetensors, so there are no weights to evaluate.",
            "Pass a folder written by `save_pretrained`; serve other formats and pass `--base-url`.",
        )
    return folder
