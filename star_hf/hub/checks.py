"""The checks of a published data set: each lists what is wrong and what it found."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset, Features

from ..audit import audit
from ..cards.sections import parse
from ..errors import StarError
from ..pipeline.card import size_category
from ..utils.text import counted, row_id
from .release import CARD


__all__ = [
    "ReleaseCheck",
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
class ReleaseCheck:
    """The result of one check: what is wrong, one sentence each, and what was found or could not be checked."""

    name: str
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def check_schema(features: Mapping[str, Features], rows: Mapping[str, Dataset]) -> ReleaseCheck:
    """Compare each table's columns and types with those that were published."""
    lost = [table for table in features if table not in rows]
    problems = [f"The file of table {table} is missing or damaged." for table in lost]
    for table, content in rows.items():
        expected, found = features[table], content.features
        if list(found) != list(expected):
            problems.append(f"The columns of {table} are {some(found)}, expected {some(expected)}.")
        problems += [
            f"{table}.{name} is {found[name]}, expected {expected[name]}."
            for name in expected
            if name in found and found[name] != expected[name]
        ]
    columns = [f"{table}: {len(content.features)} columns" for table, content in rows.items()]
    return ReleaseCheck("schema", tuple(problems), tuple(columns))


def check_counts(manifest: Mapping[str, Any], rows: Mapping[str, Dataset]) -> ReleaseCheck:
    """Compare the rows per table, source and category with the manifest."""
    problems = [
        f"{table} has {len(content):,} rows, expected {manifest['tables'][table]['rows']:,}."
        for table, content in rows.items()
        if len(content) != manifest["tables"][table]["rows"]
    ]
    if default := rows.get("default"):
        problems += _differences("rows of the source", Counter(default["source"][:]), manifest["sources"])
        labels = Counter(label for labels in default["category"][:] for label in labels)
        problems += _differences("rows of the category", labels, manifest["categories"])
        last = manifest["stages"]["select"]["rows_out"]
        problems += (
            [f"The last stage kept {last:,} rows, but default has {len(default):,}."] if last != len(default) else []
        )
    return ReleaseCheck(
        "counts", tuple(problems), tuple(f"{table}: {counted(len(content), 'row')}" for table, content in rows.items())
    )


def _differences(what: str, found: Mapping[str, int], expected: Mapping[str, int]) -> Iterator[str]:
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name, 0) != expected.get(name, 0):
            yield f"{found.get(name, 0):,} {what} {name!r}, expected {expected.get(name, 0):,}."


def check_ids(rows: Mapping[str, Dataset], tables: Iterable[str]) -> ReleaseCheck:
    """Ids are unique and computed from their questions, and provenance has no other ids if all `tables` were read."""
    problems, known = [], set()
    for table in ("default", "benign"):
        if table in rows:
            ids = rows[table]["id"][:]
            known |= set(ids)
            wrong = sum(row_id(question) != id for id, question in zip(ids, rows[table]["question"], strict=True))
            problems += [f"{counted(wrong, 'id')} of {table} without a matching question."] if wrong else []
            twice = len(ids) - len(set(ids))
            problems += [f"{counted(twice, 'duplicate id')} in {table}."] if twice else []
    if set(rows) == set(tables) and "provenance" in rows:
        lost = set(rows["provenance"]["id"][:]) - known
        problems += [f"{counted(len(lost), 'id')} of provenance in no table."] if lost else []
    return ReleaseCheck("ids", tuple(problems), (counted(len(known), "question"),))


def check_card(text: str | None, manifest: Mapping[str, Any], rows: Mapping[str, Dataset]) -> ReleaseCheck:
    """The card can be read, and its numbers match the data."""
    if text is None:
        return ReleaseCheck("card", (f"{CARD} is missing.",))
    try:
        card = parse(text, "this repository")
    except StarError as error:
        return ReleaseCheck("card", (error.message,))
    expected = manifest["card"]["sections"]
    gone = [name for name in expected if name not in card.sections]
    problems = [
        f"Its section {name} belongs to another release."
        for name, generated in card.hashes.items()
        if name not in card.edited and expected.get(name) != generated
    ]
    infos = card.metadata.get("dataset_info", [])
    told = {info.get("config_name", "default"): info for info in ([infos] if isinstance(infos, dict) else infos)}
    for table, content in rows.items():
        problems += _told(table, told.get(table), content)
    if "default" in rows:
        size = size_category(len(rows["default"]))
        if card.metadata.get("size_categories") != [size]:
            problems.append(f"Its `size_categories` is not {size}.")
    notes = [f"edited by hand: {some(card.edited)}"] if card.edited else []
    notes += [f"removed by hand: {some(gone)}"] if gone else []
    return ReleaseCheck("card", tuple(problems), tuple(notes) or (f"{len(card.sections)} sections as generated",))


def _told(table: str, info: Mapping[str, Any] | None, content: Dataset) -> list[str]:
    """Compare the card's description of a table with the table."""
    if info is None:
        return [f"It does not list the configuration {table}."]
    (split,) = info["splits"]
    problems = []
    if split["num_examples"] != len(content):
        problems.append(f"It says {split['num_examples']:,} rows for {table}, which has {len(content):,}.")
    if Features._from_yaml_list(info["features"]) != content.features:
        problems.append(f"It lists other columns for {table} than the file has.")
    return problems


def check_rows(rows: Dataset, facts: Mapping[str, Any]) -> ReleaseCheck:
    """Compare a data set without our manifest with the facts on its card: number of rows, columns, unique ids."""
    lost = [name for name in COLUMNS if name not in rows.column_names]
    problems = [f"The column {name} is missing." for name in lost]
    if (expected := facts.get("rows", len(rows))) != len(rows):
        problems.append(f"It has {len(rows):,} rows, expected {expected:,}.")
    twice = len(rows) - len(set(rows["id"][:])) if "id" in rows.column_names else 0
    problems += [f"{counted(twice, 'duplicate id')}."] if twice else []
    return ReleaseCheck("rows", tuple(problems), (counted(len(rows), "row"), "no hashes to compare"))


def check_contamination(
    rows: Dataset, policies: Path | None, sources_dir: str | Path | None, benchmarks: tuple[str, ...] | None
) -> ReleaseCheck:
    """Audit the rows for text shared with benchmarks and for malformed rows."""
    found = audit(rows, sources_dir=sources_dir, benchmarks=benchmarks, policies=policies)
    problems = [
        f"{finding.summary} {finding.rows:,} rows: {some(name for name in finding.details if name)}."
        for finding in found.of("error")
    ]
    names = [f"{name} at {facts['revision']}" for name, facts in found.benchmarks.items()]
    gaps = [finding.summary.split(" was ")[0] for finding in found.of("gap")]
    notes = [f"searched for {some(names)}"] if names else ["no benchmark was searched for"]
    notes += [f"not available: {', '.join(gaps)}"] if gaps else []
    return ReleaseCheck("contamination and form", tuple(problems), tuple(notes))


def some(names: Any) -> str:
    """The first names, and the number of the others."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(str, names[:SHOWN])) + more
