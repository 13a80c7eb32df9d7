"""Vectors of texts: each distinct text is encoded once, and its vector is cached under the text's hash."""

import logging
import shutil
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..errors import StarError, first_line
from ..utils.files import made_folder, replacing, sha256_of
from .encoders import Encoder, InParts, Keep


__all__ = ["embed", "embed_some"]

logger = logging.getLogger(__name__)

_CHUNK = 4096
NAMES = ("keys", "vectors")
UNREADABLE = (ValueError, KeyError, EOFError, MemoryError, NotImplementedError, zipfile.BadZipFile, zlib.error)
"""What reading a damaged file raises, beside `OSError`."""


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


def embed_some(
    texts: Sequence[str],
    chosen: np.ndarray,
    encoder: Encoder,
    cache_dir: str | Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Vectors of the texts that a boolean mask selects; those of the others are zero, which is similar to nothing."""
    found = embed([texts[place] for place in np.flatnonzero(chosen)], encoder, cache_dir, on_progress)
    vectors = np.zeros((len(texts), found.shape[1]), np.float32)
    vectors[chosen] = found
    return vectors


def _encode(texts: list[str], encoder: Encoder, keep: Keep) -> None:
    """Pass all vectors to `keep`: as they arrive if the encoder can do that, else chunk by chunk."""
    if isinstance(encoder, InParts):
        return encoder.in_parts(texts, keep)
    for start in range(0, len(texts), _CHUNK):
        keep(start, np.asarray(encoder(texts[start : start + _CHUNK]), np.float32))


def _cached(folder: Path, wanted: set[str]) -> dict[str, np.ndarray]:
    """The cached vectors of the wanted texts."""
    found: dict[str, np.ndarray] = {}
    for path in sorted(made_folder(folder).glob("*.npz")):
        try:
            keys, vectors = _stored(path)
        except PermissionError as error:
            raise StarError(f"{path} cannot be read ({error.strerror}).", "Check its permissions.") from None
        except (*UNREADABLE, OSError) as error:
            logger.warning("%s is damaged (%s): its vectors are made again.", path, first_line(error))
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            continue
        found.update((key, vector) for key, vector in zip(keys, vectors, strict=True) if key in wanted)
    if len({len(vector) for vector in found.values()}) > 1:
        raise StarError(
            f"{folder} holds vectors of several lengths.",
            f"The encoder has changed under the same name. Delete {folder}, then run the same command again.",
        )
    return found


def _stored(path: Path) -> tuple[list[str], np.ndarray]:
    """The keys and the vectors in a file. Raises one of `UNREADABLE`, or an `OSError`."""
    with zipfile.ZipFile(path) as file:
        keys, vectors = (np.lib.format.read_array(file.open(f"{name}.npy"), allow_pickle=False) for name in NAMES)
    if keys.dtype.kind != "U" or vectors.dtype != np.float32 or vectors.ndim != 2 or keys.shape != vectors.shape[:1]:
        raise ValueError("not one vector per key")
    if not np.isfinite(vectors).all():
        raise ValueError("a vector that is not finite")
    return keys.tolist(), vectors


def _write(folder: Path, keys: list[str], vectors: np.ndarray) -> None:
    """Write one chunk under the hash of its keys."""
    name = sha256_of("".join(keys).encode())[:32]
    with replacing(folder / f"{name}.npz") as fresh, fresh.open("wb") as file:
        np.savez(file, keys=np.asarray(keys), vectors=vectors)
