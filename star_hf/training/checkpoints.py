"""What a checkpoint was trained from, and which one to resume: the newest whole one, of the same training."""

import contextlib
import hashlib
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..errors import TrainingError
from ..utils.files import read_json, write_json


__all__ = ["IDENTITY", "check_same", "hash_of_rows", "hash_of_weights", "is_whole", "newest_whole", "save_identity"]

IDENTITY = "star_identity.json"
"""File of a checkpoint with the hashes of data, labels and base weights, and the recipe."""
SAMPLE = 1 << 20
WORDS = {"data": "the data", "labels": "the token ids and labels", "base": "the base weights", "recipe": "the recipe"}
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")


def hash_of_rows(rows: Dataset) -> str:
    """SHA-256 of the values of all columns, in the rows' order."""
    sha = hashlib.sha256()
    for row in rows:
        sha.update(repr(sorted(row.items())).encode("utf-8", "surrogatepass"))
    return sha.hexdigest()


def hash_of_weights(folder: str | Path, commit: str | None = None) -> str | None:
    """What tells a model's weights from others: the commit on the Hub, or a hash of the files in a local folder.

    Of each file the name, the size, and the first and last MiB count. `None` if neither is known.
    """
    files = sorted(path for path in Path(folder).glob("*") if path.suffix in (".safetensors", ".bin", ".gguf"))
    if not files:
        return commit
    sha = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        sha.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            sha.update(file.read(SAMPLE))
            file.seek(max(0, size - SAMPLE))
            sha.update(file.read(SAMPLE))
    return sha.hexdigest()


def save_identity(folder: str | Path, identity: Mapping[str, Any]) -> None:
    """Write what a checkpoint is trained from into its folder, before anything else is in it."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    write_json(Path(folder) / IDENTITY, dict(identity))


def check_same(folder: str | Path, identity: Mapping[str, Any]) -> None:
    """Refuse to resume a checkpoint of another training.

    Raises:
        [`TrainingError`]: With what differs, and for the recipe the options and their values.
    """
    path = Path(folder) / IDENTITY
    if not path.is_file():
        raise TrainingError(
            f"{folder} does not say what it was trained from: it has no {IDENTITY}.",
            "Start again without `resume_from_checkpoint`, in a new `output_dir`.",
        )
    there = read_json(path, "Remove this checkpoint, or start again in a new `output_dir`.", TrainingError)
    different = [words for name, words in WORDS.items() if name != "recipe" and there.get(name) != identity[name]]
    before, now = there.get("recipe", {}), identity["recipe"]
    changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    different += [f"`{name}` ({before.get(name)!r} there, {now.get(name)!r} now)" for name in changed]
    if different:
        raise TrainingError(
            f"{folder} is a checkpoint of another training. Different: {', '.join(different)}.",
            "Restore what differs, or start again without `resume_from_checkpoint`, in a new `output_dir`.",
        )


def newest_whole(folder: str | Path) -> tuple[Path | None, list[Path]]:
    """The last whole checkpoint in a training's output folder, and later ones that are not whole."""
    places = [path for path in Path(folder).glob("checkpoint-*") if path.is_dir() and _CHECKPOINT.fullmatch(path.name)]
    broken = []
    for path in sorted(places, key=lambda path: int(path.name.partition("-")[2]), reverse=True):
        if is_whole(path):
            return path, broken
        broken.append(path)
    return None, broken


def is_whole(folder: str | Path) -> bool:
    """Whether a checkpoint was saved to its end: a kill or a full disk leaves the last files out, or cuts one."""
    folder = Path(folder)
    try:
        state = read_json(folder / "trainer_state.json", "")
        steps = state["global_step"]
    except Exception:  # missing, cut or of another kind
        return False
    weights = [*folder.rglob("*.safetensors"), *folder.rglob("*.bin"), *folder.rglob("*.distcp")]
    identity = {}
    with contextlib.suppress(Exception):  # an old checkpoint; resuming names what is missing
        identity = read_json(folder / IDENTITY, "")
    states = len(list(folder.glob("rng_state*.pth")))
    return (
        steps == int(folder.name.partition("-")[2])
        and bool(weights or list(folder.rglob("*model_states.pt")))
        and states >= identity.get("processes", 1)
        and all(_file_is_whole(path) for path in _saved(folder))
    )


def _saved(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.suffix in (".pt", ".pth", ".bin", ".safetensors"):
            yield path


def _file_is_whole(path: Path) -> bool:
    """Whether a file of tensors ends where it says: PyTorch's are ZIP archives with their list at the end."""
    if path.name == "training_args.bin" or path.suffix != ".safetensors":
        return zipfile.is_zipfile(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
        if not 0 < header <= size - 8:
            return False
        ends = [int(end) for end in re.findall(rb'"data_offsets":\s*\[\d+,\s*(\d+)\]', file.read(header))]
    return size == 8 + header + max(ends, default=0)
