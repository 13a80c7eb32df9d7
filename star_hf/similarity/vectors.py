"""Vectors of texts: each distinct text is encoded once, and its vector is stored by the text's content."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from .encoders import Encoder, InParts, Keep


__all__ = ["embed"]

_CHUNK = 4096


def embed(
    texts: Sequence[str],
    encoder: Encoder,
    cache_dir: str | Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Vectors of all texts; each distinct text is encoded once, and never again with the same `cache_dir`.

    Texts are sorted by length and encoded in chunks, and each chunk is stored in a file of its own as soon as it is
    done; of an endpoint, each answer. The order depends on nothing but the texts, so an interrupted run goes on with
    the very same chunks.

    Args:
        texts (`Sequence[str]`): Any number of texts.
        encoder (`Encoder`): The model.
        cache_dir (`str` or `Path`, *optional*): Folder to store vectors in.
        on_progress (`Callable`, *optional*): Called with how many texts are encoded, and how many have to be.

    Returns:
        `np.ndarray` of float32, shape `(texts, dimensions)`.
    """
    keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts]
    folder = Path(cache_dir, hashlib.sha256(encoder.identity.encode()).hexdigest()[:16]) if cache_dir else None
    known = _stored(folder, set(keys)) if folder else {}
    missing = sorted(
        {key: text for key, text in zip(keys, texts, strict=True) if key not in known}.items(),
        key=lambda item: (len(item[1]), item[0]),
    )
    names = [key for key, _ in missing]

    def keep(start: int, vectors: np.ndarray) -> None:
        part = names[start : start + len(vectors)]
        if folder:
            _store(folder, part, vectors)
        known.update(zip(part, vectors, strict=True))
        if on_progress is not None:
            on_progress(start + len(vectors), len(names))

    _encode([text for _, text in missing], encoder, keep)
    return np.stack([known[key] for key in keys]) if keys else np.empty((0, 0), np.float32)


def _encode(texts: list[str], encoder: Encoder, keep: Keep) -> None:
    """Hand over all vectors: as they come where the encoder can tell, else chunk by chunk."""
    if isinstance(encoder, InParts):
        return encoder.in_parts(texts, keep)
    for start in range(0, len(texts), _CHUNK):
        keep(start, np.asarray(encoder(texts[start : start + _CHUNK]), np.float32))


def _stored(folder: Path, wanted: set[str]) -> dict[str, np.ndarray]:
    """The stored vectors of those texts that have one."""
    return {key: vector for path in sorted(folder.glob("*.npz")) for key, vector in _read(path) if key in wanted}


def _read(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    with np.load(path, allow_pickle=False) as stored:
        return zip(stored["keys"].tolist(), stored["vectors"], strict=True)


def _store(folder: Path, keys: list[str], vectors: np.ndarray) -> None:
    """Write one chunk under the hash of its keys; the file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256("".join(keys).encode()).hexdigest()[:32]
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
        np.savez(file, keys=np.asarray(keys), vectors=vectors)
    os.replace(file.name, folder / f"{name}.npz")
