"""The rows of a recipe: loaded, brought into columns, and cut down to the part that the recipe selects."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset, DatasetDict, Features, Value

from ..errors import ConfigError, TrainingError
from .recipe import Recipe, RecipeArguments


__all__ = ["digest", "limit_rows", "load_columns", "load_rows", "origins"]


def load_rows(recipe: Recipe) -> Dataset:
    """The rows of a recipe for fine-tuning: `question` and `response`, which may be `None` with a `primer`."""
    star = recipe.star
    rows = load_columns(recipe.data, star.train_split, ("question",) if star.primer else ("question", "response"))
    if "response" not in rows.column_names:
        rows = rows.add_column("response", [None] * len(rows), feature=Value("string"))
    return limit_rows(_selected(rows, star), star)


def load_columns(mixture: Any, split: str, wanted: Sequence[str]) -> Dataset:
    """The rows of a mixture of data sets in TRL's form, each with the `wanted` columns of text.

    A data set with `messages` gives its first question and the last answer, so that general reasoning data can be
    mixed in.
    """
    from trl import get_dataset

    if not mixture.datasets:
        raise ConfigError("The recipe names no data set.", "Set `datasets: [{path: UCSC-VLAA/STAR-1}]`.")
    try:
        loaded: DatasetDict = get_dataset(mixture)
    except (OSError, ValueError) as error:
        raise ConfigError(f"The data sets of the recipe cannot be loaded: {error}") from None
    if split not in loaded:
        raise TrainingError(f"The data have no split {split!r}, only {', '.join(loaded)}.", "Set `train_split`.")
    rows = loaded[split]
    if "messages" in rows.column_names:
        texts = dict.fromkeys(("question", "response"), Value("string"))  # a whole batch may lack one of them
        features = Features({name: kind for name, kind in rows.features.items() if name != "messages"} | texts)
        rows = rows.map(
            _from_messages, remove_columns="messages", features=features, load_from_cache_file=False, desc="Messages"
        )
    if missing := set(wanted) - set(rows.column_names):
        raise TrainingError(
            f"The data have no column {', '.join(sorted(missing))}, only {', '.join(rows.column_names)}.",
            "Rename the columns to STAR-1's, or build the data with `star-hf build`.",
        )
    for name in wanted:
        if getattr(kind := rows.features[name], "dtype", None) not in ("string", "large_string", "null"):
            raise TrainingError(f"The column {name} is not text: {kind}.", "Give one text per row.")
    return rows


def limit_rows(rows: Dataset, star: RecipeArguments) -> Dataset:
    """At most `max_rows` of the rows: the first ones, or random ones with `sample_seed`."""
    if star.sample_seed is not None:
        rows = rows.shuffle(seed=star.sample_seed)
    return rows if star.max_rows is None else rows.select(range(min(star.max_rows, len(rows))))


def digest(rows: Dataset, columns: Sequence[str] = ("question", "response")) -> str:
    """SHA-256 of the texts of these columns in row order; a missing text counts as empty."""
    sha = hashlib.sha256()
    for row in rows.select_columns(list(columns)):
        for text in row.values():
            sha.update((text or "").encode("utf-8", "surrogatepass") + b"\0")
    return sha.hexdigest()


def origins(mixture: Any, rows: int, sha256: str) -> list[dict[str, Any]]:
    """The data sets of a mixture for the training record, with the hash over all rows trained on."""
    count = rows if len(mixture.datasets) == 1 else None  # unknown by data set in a mixture
    return [
        {"path": entry.path, "name": entry.name, "split": entry.split, "sha256": sha256, "rows": count}
        for entry in mixture.datasets
    ]


def _from_messages(row: Mapping[str, Any]) -> dict[str, Any]:
    """Question and response of a conversation; other rows of the mixture have them already."""
    texts = {role: [] for role in ("user", "assistant")}
    for message in row["messages"] or ():
        texts.get(message["role"], []).append(message["content"])
    found = {"question": texts["user"][:1], "response": texts["assistant"][-1:]}
    return {name: row.get(name) or (text[0] if text else None) for name, text in found.items()}


def _selected(rows: Dataset, star: Any) -> Dataset:
    """The rows with the marks and from the sources of the recipe."""
    low, high, sources, before = star.min_score, star.max_score, star.sources, len(rows)
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
