"""Which model exactly: its folder, on disk or from the Hub, and a fingerprint of all that it computes with."""

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
"""Files of a model folder that can change an answer. Records of its training are none of them."""
FETCHED = (*COMPUTED_WITH, "*.safetensors.index.json")


@dataclass(frozen=True)
class Weights:
    """A model as files.

    Attributes:
        name (`str`): As the user named it.
        folder (`Path`): Where its files lie.
        revision (`str` or `None`): The Hub's commit; `None` for a folder of one's own.
    """

    name: str
    folder: Path
    revision: str | None = None


def locate(model: str, revision: str | None = None) -> Weights:
    """Find a model's folder; one on the Hub is fetched into the Hub's cache.

    Args:
        model (`str`): A folder, or a Hub id.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.

    Raises:
        ConfigError: If it is neither, or the folder holds no safetensors.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return Weights(model, _checked(folder))
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = Path(snapshot_download(model, revision=revision, allow_patterns=list(FETCHED)))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"{model!r} is neither a folder nor a model that can be had from the Hub: {reason}",
            "Check the name, and for a gated model HF_TOKEN; a model behind a server is given with `--base-url`.",
        ) from error
    return Weights(model, _checked(found), found.name)


def fingerprint(folder: Path) -> str:
    """SHA-256 over the content of every file that the model computes with, and for an adapter of its base model, too.

    Retrained weights at the same path therefore never meet an old answer. Takes as long as reading the files.
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
            f"{folder} holds no *.safetensors, so there are no weights to evaluate.",
            "Name the folder that `save_pretrained` wrote; other formats can be served and given with `--base-url`.",
        )
    return folder
