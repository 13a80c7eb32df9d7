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
    return entry


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
