"""What can be looked at in a published data set: each check says what is wrong and what was seen."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, Features

from ..audit import audit
from ..errors import StarError
from ..utils.text import row_id
from .cards.dataset import size_category
from .cards.sections import parse
from .release import CARD


__all__ = [
    "Check",
    "check_card",
    "check_contamination",
    "check_counts",
    "check_ids",
    "check_rows",
    "check_schema",
    "some",
]

SHOWN = 5
COLUMNS = ("id", "question", "response")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name (`str`): What.
        problems (`tuple[str, ...]`): What is wrong, one sentence each; none where all is well.
        notes (`tuple[str, ...]`): What was seen, or could not be looked at.
    """

    name: str
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def check_schema(features: Mapping[str, Features], rows: Mapping[str, Dataset]) -> Check:
    """Each table's columns and types against those that were published."""
    lost = [table for table in features if table not in rows]
    problems = [f"The table {table} cannot be looked at: its file is missing or damaged." for table in lost]
    for table, content in rows.items():
        expected, found = features[table], content.features
        if list(found) != list(expected):
            problems.append(f"The columns of {table} are {some(found)}, not {some(expected)}.")
        problems += [
            f"{table}.{name} is {found[name]}, not {expected[name]}."
            for name in expected
            if name in found and found[name] != expected[name]
        ]
    columns = [f"{table}: {len(content.features)} columns" for table, content in rows.items()]
    return Check("schema", tuple(problems), tuple(columns))


def check_counts(manifest: Mapping[str, Any], rows: Mapping[str, Dataset]) -> Check:
    """Rows per table, source and category against the manifest."""
    problems = [
        f"{table} has {len(content):,} rows, not {manifest['tables'][table]['rows']:,}."
        for table, content in rows.items()
        if len(content) != manifest["tables"][table]["rows"]
    ]
    if default := rows.get("default"):
        problems += _differences("rows of the source", Counter(default["source"][:]), manifest["sources"])
        labels = Counter(label for labels in default["category"][:] for label in labels)
        problems += _differences("rows of the category", labels, manifest["categories"])
        last = manifest["stages"]["select"]["rows_out"]
        problems += [f"The last stage left {last:,} rows, not {len(default):,}."] if last != len(default) else []
    return Check(
        "counts", tuple(problems), tuple(f"{table}: {len(content):,} rows" for table, content in rows.items())
    )


def _differences(what: str, found: Mapping[str, int], expected: Mapping[str, int]) -> Iterator[str]:
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name, 0) != expected.get(name, 0):
            yield f"{found.get(name, 0):,} {what} {name!r}, not {expected.get(name, 0):,}."


def check_ids(rows: Mapping[str, Dataset], tables: Iterable[str]) -> Check:
    """Ids are unique, made of their questions, and what other tables point to is there, as far as all `tables` are."""
    problems, known = [], set()
    for table in ("default", "benign"):
        if table in rows:
            ids = rows[table]["id"][:]
            known |= set(ids)
            wrong = sum(row_id(question) != id for id, question in zip(ids, rows[table]["question"], strict=True))
            problems += [f"{wrong:,} ids of {table} are not those of their questions."] if wrong else []
            twice = len(ids) - len(set(ids))
            problems += [f"{twice:,} ids of {table} stand there twice."] if twice else []
    if set(rows) == set(tables) and "provenance" in rows:
        lost = set(rows["provenance"]["id"][:]) - known
        problems += [f"provenance names {len(lost):,} ids that are in no table."] if lost else []
    return Check("ids", tuple(problems), (f"{len(known):,} questions",))


def check_card(text: str | None, manifest: Mapping[str, Any], rows: Mapping[str, Dataset]) -> Check:
    """The card can be read, and its numbers are those of the data."""
    if text is None:
        return Check("card", (f"{CARD} is missing.",))
    try:
        card = parse(text, "this repository")
    except StarError as error:
        return Check("card", (error.message,))
    expected = manifest["card"]["sections"]
    gone = [name for name in expected if name not in card.sections]
    problems = [
        f"Its section {name} is of another release."
        for name, generated in card.hashes.items()
        if name not in card.edited and expected.get(name) != generated
    ]
    infos = card.metadata.get("dataset_info", [])
    told = {info.get("config_name", "default"): info for info in ([infos] if isinstance(infos, dict) else infos)}
    for table, content in rows.items():
        problems += _told(table, told.get(table), content)
    if "default" in rows:
        size = size_category(len(rows["default"]))
        problems += (
            [] if card.metadata.get("size_categories") == [size] else [f"It does not say that there are {size}."]
        )
    notes = [f"edited by hand: {some(card.edited)}"] if card.edited else []
    notes += [f"taken out by hand: {some(gone)}"] if gone else []
    return Check("card", tuple(problems), tuple(notes) or (f"{len(card.sections)} sections as generated",))


def _told(table: str, info: Mapping[str, Any] | None, content: Dataset) -> list[str]:
    """What the card says of a table against the table."""
    if info is None:
        return [f"It does not describe the configuration {table}."]
    (split,) = info["splits"]
    problems = []
    if split["num_examples"] != len(content):
        problems.append(f"It says that {table} has {split['num_examples']:,} rows, and it has {len(content):,}.")
    if Features._from_yaml_list(info["features"]) != content.features:
        problems.append(f"It gives {table} other columns than it has.")
    return problems


def check_rows(rows: Dataset, facts: Mapping[str, Any]) -> Check:
    """The rows of such a data set: how many, their columns, and ids that stand once."""
    lost = [name for name in COLUMNS if name not in rows.column_names]
    problems = [f"It has no column {name}." for name in lost]
    if (expected := facts.get("rows", len(rows))) != len(rows):
        problems.append(f"It has {len(rows):,} rows, not {expected:,}.")
    twice = len(rows) - len(set(rows["id"][:])) if "id" in rows.column_names else 0
    problems += [f"{twice:,} ids stand there twice."] if twice else []
    return Check("rows", tuple(problems), (f"{len(rows):,} rows", "without hashes of ours"))


def check_contamination(
    rows: Dataset, policies: Path | None, sources_dir: str | Path | None, benchmarks: tuple[str, ...] | None
) -> Check:
    """An audit of the rows: shared text with benchmarks, and malformed rows."""
    found = audit(rows, sources_dir=sources_dir, benchmarks=benchmarks, policies=policies)
    problems = [
        f"{finding.summary} {finding.rows:,} rows: {some(name for name in finding.details if name)}."
        for finding in found.of("error")
    ]
    names = [f"{name} at {facts['revision']}" for name, facts in found.benchmarks.items()]
    gaps = [finding.summary.split(" was ")[0] for finding in found.of("gap")]
    notes = [f"searched for {some(names)}"] if names else ["no benchmark was searched for"]
    notes += [f"could not be had: {', '.join(gaps)}"] if gaps else []
    return Check("contamination and form", tuple(problems), tuple(notes))


def some(names: Any) -> str:
    """The first few of some names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(str, names[:SHOWN])) + more
