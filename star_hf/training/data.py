"""The rows of a recipe: loaded, brought into columns, and cut down to the part that the recipe selects."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from datasets import Dataset, DatasetDict, Value
from datasets.exceptions import DatasetGenerationError, DatasetsError

from ..errors import ConfigError, TrainingError
from ..utils.network import NETWORK_ERRORS
from .conversations import in_turns
from .local_data import broken_line, local
from .recipe import Recipe, RecipeArguments


__all__ = ["digest", "limit_rows", "load_columns", "load_rows", "origins"]


def load_rows(recipe: Recipe) -> Dataset:
    """The rows of a recipe for fine-tuning: `question`, `response`, which may be `None` with a `primer`, and `history`
    where a row has messages before its question."""
    star = recipe.star
    wanted = ("question",) if star.primer else ("question", "response")
    rows = load_columns(recipe.data, star.train_split, wanted, history=True)
    if "response" not in rows.column_names:
        rows = rows.add_column("response", [None] * len(rows), feature=Value("string"))
    return limit_rows(_selected(rows, star), star)


def load_columns(mixture: Any, split: str, wanted: Sequence[str], history: bool = False) -> Dataset:
    """The rows of a mixture of data sets in TRL's form, each with the `wanted` columns of text.

    A data set may also be a file or a folder of `save_to_disk`. A conversation (`messages`) gives one row for each
    turn of the assistant, with the messages before its question as `history`; a thought in a column or field of its
    own (`reasoning_content`, `thinking`) becomes part of the response.

    Raises:
        [`ConfigError`]: If a data set cannot be loaded.
        [`TrainingError`]: If the split or a column is missing; or if there are messages before a question, and the
            training takes no `history`.
    """
    from trl import get_dataset

    if not mixture.datasets:
        raise ConfigError("The recipe names no data set.", "Set `datasets: [{path: UCSC-VLAA/STAR-1}]`.")
    if mixture.streaming:
        raise ConfigError("`streaming` is set, but a training reads all rows first.", "Remove it.")
    try:
        loaded: DatasetDict = get_dataset(replace(mixture, datasets=[local(entry) for entry in mixture.datasets]))
    except (*NETWORK_ERRORS, ValueError, DatasetsError, DatasetGenerationError) as error:
        raise ConfigError(f"The data sets of the recipe cannot be loaded: {_reason(error, mixture)}") from None
    if split not in loaded:
        raise TrainingError(f"The data have no split {split!r}, only {', '.join(loaded)}.", "Set `train_split`.")
    rows = in_turns(loaded[split])
    if missing := set(wanted) - set(rows.column_names):
        raise TrainingError(
            f"The data have no column {', '.join(sorted(missing))}, only {', '.join(rows.column_names)}.",
            "Rename the columns to STAR-1's, or build the data with `star-hf build`.",
        )
    for name in wanted:
        if getattr(kind := rows.features[name], "dtype", None) not in ("string", "large_string", "null"):
            raise TrainingError(f"The column {name} is not text: {kind}.", "Give one text per row.")
    if "history" in rows.column_names and not history:
        if any(rows["history"][:]):
            raise TrainingError(
                "The data have messages before a question (a system message, or several turns), which this kind of "
                "training does not take.",
                "Give single questions, or use supervised fine-tuning.",
            )
        rows = rows.remove_columns("history")
    return rows


def _reason(error: Exception, mixture: Any) -> str:
    """Why the data sets cannot be loaded: the first broken line of a local file, if that is the reason."""
    for entry in mixture.datasets:
        for file in [entry.path, *(entry.data_files or [])] if isinstance(entry.data_files, list) else [entry.path]:
            if (found := broken_line(file)) is not None:
                return found
    return str(error.__cause__ or error)


def limit_rows(rows: Dataset, star: RecipeArguments) -> Dataset:
    """At most `max_rows` of the rows: the first ones, or random ones with `sample_seed`."""
    if star.sample_seed is not None:
        rows = rows.shuffle(seed=star.sample_seed)
    return rows if star.max_rows is None else rows.select(range(min(star.max_rows, len(rows))))


def digest(rows: Dataset, columns: Sequence[str] = ("question", "response")) -> str:
    """SHA-256 of the texts of these columns in row order, and of the messages before a question; a missing text counts
    as empty."""
    sha, more = hashlib.sha256(), ["history"] if "history" in rows.column_names else []
    for row in rows.select_columns([*columns, *more]):
        if not row.setdefault("history", None):
            del row["history"]
        for value in row.values():
            text = value if isinstance(value, str) else json.dumps(value) if value else ""
            sha.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return sha.hexdigest()


def origins(mixture: Any, rows: int, sha256: str) -> list[dict[str, Any]]:
    """The data sets of a mixture for the training record, with the hash over all rows trained on."""
    count = rows if len(mixture.datasets) == 1 else None  # unknown by data set in a mixture
    return [
        {"path": entry.path, "name": entry.name, "split": entry.split, "sha256": sha256, "rows": count}
        for entry in mixture.datasets
    ]


def _selected(rows: Dataset, star: Any) -> Dataset:
    """The rows with the marks and from the sources of the recipe."""
    low, high, before = star.min_score, star.max_score, len(rows)
    sources = [star.sources] if isinstance(star.sources, str) else star.sources
    for option, column in (("sources", "source"), ("min_score", "score"), ("max_score", "score")):
        if getattr(star, option) is not None and column not in rows.column_names:
            raise TrainingError(
                f"The recipe sets `{option}`, but the data have no column {column}.",
                f"Name it in `columns` of the data set: [question, response, {column}].",
            )

    def in_range(score: Mapping[str, int | None] | None) -> bool:
        marks = list((score or {}).values())
        if not marks or None in marks:  # a missing mark is not a low mark
            return False
        return (low is None or min(marks) >= low) and (high is None or min(marks) <= high)

    options = {"keep_in_memory": True, "load_from_cache_file": False, "desc": "Selecting"}
    if sources is not None:
        rows = rows.filter(lambda source: source in sources, input_columns="source", **options)
    if low is not None or high is not None:
        rows = rows.filter(in_range, input_columns="score", **options)
    if before and not len(rows):
        raise TrainingError(
            f"The recipe selects none of {before} rows.", "Check its `min_score`, `max_score` and `sources`."
        )
    return rows
