"""The rows that a recipe names: loaded, brought into columns, and cut down to the part that it asks for."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset, DatasetDict, Features, Value

from ..errors import ConfigError, TrainingError
from .recipe import Arguments, RecipeArguments


__all__ = ["digest", "few", "load_columns", "load_rows", "origins"]


def load_rows(arguments: Arguments) -> Dataset:
    """The rows of all data sets of the recipe, with `question` and `response`.

    With a `primer` a response may be missing.

    Raises:
        ConfigError: If the recipe names none.
        TrainingError: If a column is missing, or no row is left of those that the recipe asks for.
    """
    star = arguments.star
    rows = load_columns(arguments.data, star.train_split, ("question",) if star.primer else ("question", "response"))
    if "response" not in rows.column_names:
        rows = rows.add_column("response", [None] * len(rows), feature=Value("string"))
    return few(_asked_for(rows, star), star)


def load_columns(mixture: Any, split: str, wanted: Sequence[str]) -> Dataset:
    """The rows of a mixture, which must have these columns; conversations are taken apart into them.

    A data set with `messages` gives its first question and the last answer to it, so that general reasoning data in
    the usual form can be mixed in.

    Args:
        mixture (`DatasetMixtureConfig`): TRL's: paths, configurations, columns and shares.
        split (`str`): The split.
        wanted (`Sequence[str]`): Columns that all rows must have.

    Raises:
        ConfigError: If it names no data set, or one cannot be loaded or mixed as it says.
        TrainingError: If a column or the split is missing, or a column holds something else than text.
    """
    from trl import get_dataset

    if not mixture.datasets:
        raise ConfigError("The recipe names no data set.", "Set `datasets: [{path: UCSC-VLAA/STAR-1}]`.")
    try:
        loaded: DatasetDict = get_dataset(mixture)
    except (OSError, ValueError) as error:
        raise ConfigError(f"The data sets of the recipe cannot be loaded: {error}") from None
    if split not in loaded:
        raise TrainingError(f"The data have no split {split!r}; they have {', '.join(loaded)}.", "Set `train_split`.")
    rows = loaded[split]
    if "messages" in rows.column_names:
        rows = _without_messages(rows)
    if missing := set(wanted) - set(rows.column_names):
        raise TrainingError(
            f"The data have no column {', '.join(sorted(missing))}; they have {', '.join(rows.column_names)}.",
            "Rename the columns to STAR-1's, or build the data with `star-hf build`.",
        )
    for name in wanted:
        if getattr(kind := rows.features[name], "dtype", None) not in ("string", "large_string", "null"):
            raise TrainingError(f"The column {name} is no text: {kind}.", "Give one text per row.")
    return rows


def few(rows: Dataset, star: RecipeArguments) -> Dataset:
    """At most `max_rows` of the rows: the first, or with `sample_seed` any."""
    if star.sample_seed is not None:
        rows = rows.shuffle(seed=star.sample_seed)
    return rows if star.max_rows is None else rows.select(range(min(star.max_rows, len(rows))))


def digest(rows: Dataset, columns: Sequence[str] = ("question", "response")) -> str:
    """SHA-256 of all texts that are learnt from, in their order; one that is missing counts as empty."""
    sha = hashlib.sha256()
    for row in rows.select_columns(list(columns)):
        for text in row.values():
            sha.update((text or "").encode("utf-8", "surrogatepass") + b"\0")
    return sha.hexdigest()


def origins(mixture: Any, rows: int, sha256: str) -> list[dict[str, Any]]:
    """What a record says of the data sets: where they are, and the hash over all rows that were learnt from."""
    alone = len(mixture.datasets) == 1
    return [
        {"path": entry.path, "name": entry.name, "split": entry.split, "sha256": sha256}
        | {"rows": rows if alone else None}
        for entry in mixture.datasets
    ]


def _without_messages(rows: Dataset) -> Dataset:
    texts = dict.fromkeys(("question", "response"), Value("string"))  # thousands may come without one of them
    features = Features({name: kind for name, kind in rows.features.items() if name != "messages"} | texts)
    return rows.map(
        _from_messages, remove_columns="messages", features=features, load_from_cache_file=False, desc="Messages"
    )


def _from_messages(row: Mapping[str, Any]) -> dict[str, Any]:
    """Question and response of a row that is a conversation; other rows of the mixture have theirs already."""
    texts = {role: [] for role in ("user", "assistant")}
    for message in row["messages"] or ():
        texts.get(message["role"], []).append(message["content"])
    said = {"question": texts["user"][:1], "response": texts["assistant"][-1:]}
    return {name: row.get(name) or (found[0] if found else None) for name, found in said.items()}


def _asked_for(rows: Dataset, star: Any) -> Dataset:
    """The rows with the marks and of the sources that the recipe asks for."""
    low, high, sources = star.min_score, star.max_score, star.sources
    for option, column in (("sources", "source"), ("min_score", "score"), ("max_score", "score")):
        if getattr(star, option) is not None and column not in rows.column_names:
            raise TrainingError(
                f"The recipe asks for `{option}`, and the data have no column {column}.",
                f"Name it in `columns` of the data set: [question, response, {column}].",
            )
    keep = [True] * len(rows)
    if sources is not None:
        keep = [source in sources for source in rows["source"][:]]
    if low is not None or high is not None:
        marks = [_lowest(score) for score in rows["score"][:]]
        keep = [
            kept and mark is not None and (low is None or mark >= low) and (high is None or mark <= high)
            for kept, mark in zip(keep, marks, strict=True)
        ]
    if rows and not any(keep):
        raise TrainingError(
            f"None of {len(rows)} rows is one that the recipe asks for.",
            "Look at its `min_score`, `max_score` and `sources`.",
        )
    return rows if all(keep) else rows.select([place for place, kept in enumerate(keep) if kept])


def _lowest(score: Mapping[str, int | None] | None) -> int | None:
    """The lowest mark of a row that has all its marks; no mark is not a low one."""
    marks = list((score or {}).values())
    return min(marks) if marks and None not in marks else None
