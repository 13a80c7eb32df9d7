"""Read any data set as rows of questions and responses, whatever the names of its columns."""

import ast
import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, load_dataset, load_from_disk

from ..errors import SourceError, first_line
from ..sources.formats import FORMATS, decoded, spelled
from ..sources.reading import read_file
from ..utils.network import unreachable
from ..utils.text import listed, row_id


__all__ = ["NAMES", "Rows", "load_rows", "take_roles"]

NAMES = {
    "id": ("id",),
    "messages": ("messages", "conversations", "conversation"),
    "question": ("question", "prompt", "instruction", "query", "problem", "text"),
    "response": ("response", "completion", "output", "answer"),
    "category": ("category", "categories"),
    "source": ("source",),
    "score": ("score", "scores"),
}
"""Column names of each role; the first that exists is used."""


@dataclass(frozen=True)
class Rows:
    """The columns that an audit reads, with one value per row.

    `columns` names the column of each role. A question that is not a string is empty, and where a role has no column,
    its values are `None`. `refused` has the place of each row that cannot be read, and why.
    """

    columns: dict[str, str]
    ids: list[str]
    questions: list[str]
    responses: list[str | None]
    sources: list[str | None]
    categories: list[list[str] | None]
    scores: list[Any]
    refused: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.questions)

    def has(self, role: str) -> bool:
        """Whether there is a column for a role; questions and responses can be in conversations."""
        return role in self.columns or (role in ("question", "response") and "messages" in self.columns)


def load_rows(
    dataset: Dataset | str | Path,
    *,
    name: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> Rows:
    """Read a data set; the arguments are those of [`audit`].

    A file is parquet, jsonl, json, csv, tsv or txt. A folder has such files, or is from `save_to_disk` or of a build
    run. The split is `train` by default, or the only one.
    """
    if isinstance(dataset, Dataset):
        return take_roles(decoded(dataset), columns)
    path = Path(dataset).expanduser()
    if path.is_file() or (path.suffix.lower() in FORMATS and path.parent.is_dir()):
        if name or split or revision:
            raise SourceError(f"{path} is a file without configurations, splits or revisions.", "Omit those options.")
        refused: list[str] = []
        return replace(take_roles(read_file(path, refused=refused), columns), refused=tuple(refused))
    with tempfile.TemporaryDirectory(prefix="star_hf-") as cache:
        loaded = _from_folder(path, name, cache) if path.is_dir() else _from_hub(str(dataset), name, revision)
        if isinstance(loaded, DatasetDict):
            split = split or ("train" if "train" in loaded or len(loaded) > 1 else next(iter(loaded)))
            if split not in loaded:
                raise SourceError(f"{dataset} has no split {split!r}.", f"Use --split {' or '.join(loaded)}.")
            loaded = loaded[split]
        return take_roles(decoded(loaded), columns)


def take_roles(records: Iterable[Mapping[str, Any]], columns: Mapping[str, str] | None = None) -> Rows:
    """Find the column of each role, and read what an audit needs."""
    records = list(records)
    if not records:
        raise SourceError("The data set has no rows.", "Use another file, configuration or split.")
    there = dict.fromkeys(name for record in records[:1000] for name in record)
    columns = dict(columns or {})
    if wrong := [f"{role}={column}" for role, column in columns.items() if role not in NAMES or column not in there]:
        raise SourceError(
            f"Unknown role or column: {', '.join(wrong)}.",
            f"Roles: {', '.join(NAMES)}. Columns: {listed(there) or 'none'}.",
        )
    for role, names in NAMES.items():
        free = [name for name in there if name not in columns.values()]
        known = next((own for name in names if (own := spelled(free, name)) is not None), None)
        if role not in columns and known and not ("messages" in columns and role in ("question", "response")):
            columns[role] = known
    if not {"question", "messages"} & set(columns):
        raise SourceError(
            f"No question column found: the data set has {len(records)} rows and the columns {listed(there)}.",
            "Set it: --column question=NAME.",
        )
    questions = [_said(record, columns, "question", "user") or "" for record in records]
    ids = [record.get(columns.get("id", "")) for record in records]
    return Rows(
        columns=columns,
        ids=[str(id) if id is not None else row_id(text) for id, text in zip(ids, questions, strict=True)],
        questions=questions,
        responses=[_said(record, columns, "response", "assistant") for record in records],
        sources=[_source(record.get(columns.get("source", ""))) for record in records],
        categories=[_labels(record.get(columns.get("category", ""))) for record in records],
        scores=[_structure(record.get(columns.get("score", ""))) for record in records],
    )


def _from_folder(path: Path, name: str | None, cache: str) -> Dataset | DatasetDict:
    path = path / "dataset" if (path / "manifest.json").is_file() and (path / "dataset").is_dir() else path
    try:
        if any((path / file).is_file() for file in ("state.json", "dataset_dict.json")):
            return load_from_disk(str(path))
        return load_dataset(str(path), name, cache_dir=cache)
    except Exception as error:
        remedy = "Rename it: `::` has a meaning in addresses." if "::" in str(path) else "Pass a file in it."
        raise SourceError(f"{path} cannot be read as a data set: {first_line(error)}", remedy) from error


def _from_hub(repo: str, name: str | None, revision: str | None) -> Dataset | DatasetDict:
    try:
        return load_dataset(repo, name, revision=revision)
    except Exception as error:
        if unreachable(error):
            raise SourceError(
                f"{repo} is no file or folder here, and the Hub cannot be reached: {first_line(error)}",
                "Check the path or the network.",
            ) from error
        raise SourceError(
            f"{repo} is not a local file or folder, and cannot be read from the Hub: {first_line(error)}",
            "Check the name and, for a gated or private data set, HF_TOKEN.",
        ) from error


def _said(record: Mapping[str, Any], columns: Mapping[str, str], role: str, speaker: str) -> str | None:
    """A text, or from a conversation all turns of the user or the last turn of the assistant."""
    value = record.get(columns.get(role) or columns.get("messages", ""))
    if not isinstance(value, list):
        return _text(value)
    turns = [turn for turn in value if isinstance(turn, Mapping)]
    spoken = {"user": ("user", "human"), "assistant": ("assistant", "gpt")}[speaker]
    texts = [turn.get("content", turn.get("value")) for turn in turns if turn.get("role", turn.get("from")) in spoken]
    said = [_text(text) or "" for text in texts]
    return "\n".join(said if speaker == "user" else said[-1:]) if said else None


def _text(value: Any) -> str | None:
    """A text, or the texts among the parts of a message."""
    if isinstance(value, list):
        texts = [part.get("text") for part in value if isinstance(part, Mapping)]
        value = "\n".join(text for text in texts if isinstance(text, str))
    return value if isinstance(value, str) else None


def _structure(value: Any) -> Any:
    """A list or a mapping that a csv file holds as text, as JSON or Python writes it; any other value as it is."""
    if not isinstance(value, str) or value.strip()[:1] not in ("[", "{"):
        return value
    for read in (json.loads, ast.literal_eval):
        try:
            return read(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return value


def _source(value: Any) -> str | None:
    return str(value) if isinstance(value, int | float) else _text(value)


def _labels(value: Any) -> list[str] | None:
    value = _structure(value)
    if value is None:
        return None
    return [str(label) for label in value] if isinstance(value, list) else [str(value)]
