"""Local data of a recipe: files, folders of `save_to_disk`, and the line of a file that cannot be read."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..utils.files import read_json


__all__ = ["broken_line", "local"]

BUILDERS = {".jsonl": "json", ".json": "json", ".ndjson": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "text"}
"""Which builder of `datasets` reads a file, by its suffix without the compression's."""
PACKED = (".gz", ".xz", ".bz2", ".zst", ".zip")


def local(entry: Any) -> Any:
    """An entry of a recipe's `datasets` as `load_dataset` takes it, if it names a local file or a saved data set."""
    path = Path(str(entry.path))
    if path.is_file():
        suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in PACKED]
        if suffixes and suffixes[-1] in BUILDERS:
            return replace(entry, path=BUILDERS[suffixes[-1]], data_files=[str(path)])
    split = str(entry.split).partition("[")[0]
    for folder in (path, path / split):  # a saved `Dataset`, or one of a saved `DatasetDict`
        if (folder / "state.json").is_file():
            state = read_json(folder / "state.json", "Save the data set again.")
            files = [str(folder / file["filename"]) for file in state["_data_files"]]
            return replace(entry, path="arrow", data_files={split: files})
    return _card_folder(entry, path, split) if (path / "README.md").is_file() and not entry.data_dir else entry


def _card_folder(entry: Any, path: Path, split: str) -> Any:
    """The files of a folder with a card. By the folder's name `datasets` would find rows that it has cached, even if
    the files have changed since."""
    from datasets import load_dataset_builder

    try:
        builder = load_dataset_builder(str(path), entry.name)
    except Exception:  # loading itself says what is wrong
        return entry
    files = [str(file) for file in (builder.config.data_files or {}).get(split, ())]
    return (
        replace(entry, path=builder.__module__.rpartition(".")[2], name=None, data_files={split: files})
        if files
        else entry
    )


def broken_line(path: str) -> str | None:
    """The first line of a JSON Lines file that is not a JSON object, as `"<file>, line <n>: <why>"`."""
    file = Path(path)
    names = file.name.lower()
    if not file.is_file() or not names.removesuffix(".gz").endswith((".jsonl", ".ndjson")):
        return None
    with gzip.open(file, "rb") if names.endswith(".gz") else file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                if line.strip():
                    json.dumps(json.loads(line), ensure_ascii=False).encode()
            except (ValueError, RecursionError) as error:
                return f"{path}, line {number}: {error}"
    return None
