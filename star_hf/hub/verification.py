"""Look whether what lies on the Hub is what was published: hashes, counts, schema, card, contamination."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import Dataset, Features
from huggingface_hub import HfApi
from pyarrow import ArrowInvalid

from ..audit import audit
from ..errors import StarError
from ..progress import track
from ..text import row_id
from .api import KINDS, hub_api
from .cards import parse
from .dataset_card import size_category
from .dataset_release import POLICIES
from .release import CARD, MANIFEST
from .repository import Kind, download, find, listing, read_text, sha256_of


__all__ = ["Check", "Verification", "verify"]

OWN = {CARD, MANIFEST, ".gitattributes"}
DATA = (".arrow", ".csv", ".json", ".jsonl", ".parquet")
SHOWN = 5


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


@dataclass(frozen=True)
class Verification:
    """What was looked at in a repository.

    Attributes:
        repo_id (`str`), kind (`str`), commit (`str`): Where.
        checks (`tuple[Check, ...]`): In the order in which they were made.
    """

    repo_id: str
    kind: Kind
    commit: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong anywhere."""
        return all(check.ok for check in self.checks)


def verify(
    repo_id: str,
    *,
    revision: str | None = None,
    sources_dir: str | Path | None = None,
    benchmarks: tuple[str, ...] | None = None,
    progress: bool = False,
) -> Verification:
    """Download what was published and compare it with its own manifest, card and itself.

    The hashes are those of the repository's `star_hf.json`: they find damage and edits. Whoever may write there may
    also write new hashes, so name a tag or a commit that you trust as `revision`.

    Args:
        repo_id (`str`): A data set or model that was published with `star-hf publish`.
        revision (`str`, *optional*): Branch, tag or commit.
        sources_dir (`str` or `Path`, *optional*): Local copies of the benchmarks to look for.
        benchmarks (`tuple[str, ...]`, *optional*): The catalogue's benchmarks to look for; all by default.
        progress (`bool`, defaults to `False`): Whether to show a progress bar.

    Raises:
        StarError: If there is no such repository, or it was not published with star_hf.
        ConfigError: If there is no such revision, or the token does not allow it.
        IncompleteRunError: If the Hub cannot be reached.
    """
    api = hub_api()
    kind, commit = _found(api, repo_id, revision)
    place = (api, repo_id, kind, commit)
    text = read_text(*place, MANIFEST)
    if text is None:
        raise StarError(
            f"The {KINDS[kind]} {repo_id} has no {MANIFEST}, so nobody knows what it should be.",
            "Publish it with `star-hf publish`, or look at its rows with `star-hf audit`.",
        )
    try:
        manifest = json.loads(text)
        expected = {path: facts["sha256"] for path, facts in manifest["files"].items()}
        tables = manifest.get("tables", {})
        files, paths = _files(place, expected, progress)
        checks = [files]
        rows = {table: _read(paths[f"{table}/train.parquet"]) for table in tables if f"{table}/train.parquet" in paths}
        rows = {table: content for table, content in rows.items() if content is not None}
        features = {table: Features.from_dict(facts["columns"]) for table, facts in tables.items()}
        whole = {table: content for table, content in rows.items() if content.features == features[table]}
        if tables:
            checks += [_schema(features, rows), _counts(manifest, whole), _ids(whole)]
        checks.append(_card(read_text(*place, CARD), manifest, whole))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise StarError(
            f"{MANIFEST} of the {KINDS[kind]} {repo_id} was edited or is broken: {type(error).__name__}.",
            "Publish it again with `star-hf publish`.",
        ) from error
    if "default" in whole:
        checks.append(_audited(whole["default"], paths.get(POLICIES), sources_dir, benchmarks))
    return Verification(repo_id, kind, commit, tuple(checks))


def _found(api: HfApi, repo_id: str, revision: str | None) -> tuple[Kind, str]:
    kinds: tuple[Kind, ...] = ("dataset", "model")
    for kind in kinds:
        if (info := find(api, repo_id, kind, revision)) is not None:
            return kind, info.sha
    raise StarError(
        f"There is no data set or model {repo_id}, or this token may not see it.",
        "Check the name. A private repository needs a token that may read it: set HF_TOKEN.",
    )


def _files(place: tuple[HfApi, str, Kind, str], expected: Mapping[str, str], progress: bool) -> tuple[Check, dict]:
    """Every file against its hash, and where the good ones are."""
    there, problems, good = listing(*place), [], {}
    with track("Downloading", len(expected), progress) as bar:
        for path, sha256 in expected.items():
            file = download(*place, path) if path in there else None
            if file is None:
                problems.append(f"{path} is missing.")
            elif sha256_of(file) != sha256:
                problems.append(f"{path} is not what was published: its SHA-256 is another.")
            else:
                good[path] = file
            bar.advance()
    more = sorted(set(there) - set(expected) - OWN)
    stray = [path for path in more if path.split("/")[0] in {name.split("/")[0] for name in expected if "/" in name}]
    problems += [f"{path} was not published with the rest." for path in stray if path.endswith(DATA)]
    notes = [f"{len(expected):,} files"]
    notes += [f"not of this release: {_some(more)}"] if more else []
    return Check("files", tuple(problems), tuple(notes)), good


def _read(path: Path) -> Dataset | None:
    try:
        return Dataset(pq.read_table(path))
    except (ArrowInvalid, OSError):
        return None


def _schema(features: Mapping[str, Features], rows: Mapping[str, Dataset]) -> Check:
    problems = [f"The table {table} cannot be read." for table in features if table not in rows]
    for table, content in rows.items():
        expected, found = features[table], content.features
        if list(found) != list(expected):
            problems.append(f"The columns of {table} are {_some(found)}, not {_some(expected)}.")
        problems += [
            f"{table}.{name} is {found[name]}, not {expected[name]}."
            for name in expected
            if name in found and found[name] != expected[name]
        ]
    columns = [f"{table}: {len(content.features)} columns" for table, content in rows.items()]
    return Check("schema", tuple(problems), tuple(columns))


def _counts(manifest: Mapping[str, Any], rows: Mapping[str, Dataset]) -> Check:
    problems = [
        f"{table} has {len(content):,} rows, not {manifest['tables'][table]['rows']:,}."
        for table, content in rows.items()
        if len(content) != manifest["tables"][table]["rows"]
    ]
    if default := rows.get("default"):
        problems += _differences("rows of the source", Counter(default["source"]), manifest["sources"])
        labels = Counter(label for labels in default["category"] for label in labels)
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


def _ids(rows: Mapping[str, Dataset]) -> Check:
    """Ids are unique, made of their questions, and what other tables point to is there."""
    problems, known = [], set()
    for table in ("default", "benign"):
        if table in rows:
            ids = rows[table]["id"][:]
            known |= set(ids)
            wrong = sum(row_id(question) != id for id, question in zip(ids, rows[table]["question"], strict=True))
            problems += [f"{wrong:,} ids of {table} are not those of their questions."] if wrong else []
            twice = len(ids) - len(set(ids))
            problems += [f"{twice:,} ids of {table} stand there twice."] if twice else []
    if known and "provenance" in rows:
        lost = set(rows["provenance"]["id"]) - known
        problems += [f"provenance names {len(lost):,} ids that are in no table."] if lost else []
    return Check("ids", tuple(problems), (f"{len(known):,} questions",))


def _card(text: str | None, manifest: Mapping[str, Any], rows: Mapping[str, Dataset]) -> Check:
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
    notes = [f"edited by hand: {_some(card.edited)}"] if card.edited else []
    notes += [f"taken out by hand: {_some(gone)}"] if gone else []
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


def _audited(
    rows: Dataset, policies: Path | None, sources_dir: str | Path | None, benchmarks: tuple[str, ...] | None
) -> Check:
    found = audit(rows, sources_dir=sources_dir, benchmarks=benchmarks, policies=policies)
    problems = [
        f"{finding.summary} {finding.rows:,} rows: {_some(name for name in finding.details if name)}."
        for finding in found.of("error")
    ]
    names = [f"{name} at {facts['revision']}" for name, facts in found.benchmarks.items()]
    gaps = [finding.summary.split(" was ")[0] for finding in found.of("gap")]
    notes = [f"searched for {_some(names)}"] if names else ["no benchmark was searched for"]
    notes += [f"could not be had: {', '.join(gaps)}"] if gaps else []
    return Check("contamination and form", tuple(problems), tuple(notes))


def _some(names: Any) -> str:
    """The first few of some names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(str, names[:SHOWN])) + more
