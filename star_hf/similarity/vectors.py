"""Vectors of texts: each distinct text is encoded once, and its vector is cached under the text's hash."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..utils.files import replacing, sha256_of
from .encoders import Encoder, InParts, Keep


__all__ = ["embed"]

_CHUNK = 4096


def embed(
    texts: Sequence[str],
    encoder: Encoder,
    cache_dir: str | Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Vectors of all texts, float32 of shape `(texts, dimensions)`.

    Each distinct text is encoded once, and never again with the same `cache_dir`. Texts are sorted by length and
    encoded in chunks (from an endpoint: in responses). Each chunk is written to its own file as soon as it is done.
    The order depends only on the texts, so an interrupted run continues with the same chunks.
    """
    keys = [sha256_of(text.encode("utf-8", "surrogatepass")) for text in texts]
    folder = Path(cache_dir, sha256_of(encoder.identity.encode())[:16]) if cache_dir else None
    known = _cached(folder, set(keys)) if folder else {}
    missing = sorted(
        {key: text for key, text in zip(keys, texts, strict=True) if key not in known}.items(),
        key=lambda item: (len(item[1]), item[0]),
    )
    names = [key for key, _ in missing]

    def keep(start: int, vectors: np.ndarray) -> None:
        part = names[start : start + len(vectors)]
        if folder:
            _write(folder, part, vectors)
        known.update(zip(part, vectors, strict=True))
        if on_progress is not None:
            on_progress(start + len(vectors), len(names))

    _encode([text for _, text in missing], encoder, keep)
    return np.stack([known[key] for key in keys]) if keys else np.empty((0, 0), np.float32)


def _encode(texts: list[str], encoder: Encoder, keep: Keep) -> None:
    """Pass all vectors to `keep`: as they arrive if the encoder can do that, else chunk by chunk."""
    if isinstance(encoder, InParts):
        return encoder.in_parts(texts, keep)
    for start in range(0, len(texts), _CHUNK):
        keep(start, np.asarray(encoder(texts[start : start + _CHUNK]), np.float32))


def _cached(folder: Path, wanted: set[str]) -> dict[str, np.ndarray]:
    """The cached vectors of the wanted texts."""
    found = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as stored:
            pairs = zip(stored["keys"].tolist(), stored["vectors"], strict=True)
            found.update((key, vector) for key, vector in pairs if key in wanted)
    return found


def _write(folder: Path, keys: list[str], vectors: np.ndarray) -> None:
    """Write one chunk under the hash of its keys."""
    name = sha256_of("".join(keys).encode())[:32]
    with replacing(folder / f"{name}.npz") as fresh, fresh.open("wb") as file:
        np.savez(file, keys=np.asarray(keys), vectors=vectors)
