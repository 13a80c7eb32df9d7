"""Check that a repository holds what was published: hashes, counts, schema, card, contamination."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Features, load_dataset
from huggingface_hub import DatasetCard, HfApi

from ..errors import StarError
from ..sources.loading import card_folders
from ..utils.files import read_table, sha256_of
from ..utils.progress import track
from ..utils.text import counted
from .api import KINDS, Kind, ask, download, find, hub_api, listing, read_text
from .checks import (
    ReleaseCheck,
    check_card,
    check_contamination,
    check_counts,
    check_ids,
    check_rows,
    check_schema,
    some,
)
from .dataset_release import POLICIES
from .release import CARD, MANIFEST


__all__ = ["Verification", "verify"]

OWN = {CARD, MANIFEST, ".gitattributes"}
DATA = (".arrow", ".csv", ".json", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Verification:
    """The checks of a repository at a commit, in the order in which they ran."""

    repo_id: str
    kind: Kind
    commit: str
    checks: tuple[ReleaseCheck, ...]

    @property
    def ok(self) -> bool:
        """Whether all checks passed."""
        return all(check.ok for check in self.checks)


def verify(
    repo_id: str,
    *,
    revision: str | None = None,
    sources_dir: str | Path | None = None,
    benchmarks: tuple[str, ...] | None = None,
    progress: bool = False,
) -> Verification:
    """Download what was published and compare it with its manifest and its card.

    The hashes of the repository's `star_hf.json` reveal damage and edits. People with write access can also replace
    the hashes, so give a tag or a commit that you trust as `revision`.

    The data sets of STAR-1's authors have no such file: their rows, columns, ids and shared text are checked.

    Args:
        repo_id (`str`): A data set or model that was published with `star-hf publish`, or a STAR-1 data set.
        revision (`str`, *optional*): Branch, tag or commit.
        sources_dir (`str` or `Path`, *optional*): Local copies of the benchmarks to search for.
        benchmarks (`tuple[str, ...]`, *optional*): The catalogue's benchmarks to search for; all by default.
        progress (`bool`, defaults to `False`): Whether to show a progress bar.

    Raises:
        StarError: If there is no such repository, or it was not published with star_hf.
        ConfigError: If there is no such revision, or the token has no access.
        IncompleteRunError: If the Hub cannot be reached.
    """
    api = hub_api()
    kind, commit = _found(api, repo_id, revision)
    place = (api, repo_id, kind, commit)
    text = read_text(*place, MANIFEST)
    if text is None and kind == "dataset" and (facts := _product(repo_id)) is not None:
        rows = ask(f"load {repo_id}", load_dataset, repo_id, revision=commit, split="train")
        audited = check_contamination(rows, None, sources_dir, benchmarks)
        return Verification(repo_id, kind, commit, (check_rows(rows, facts), audited))
    if text is None:
        raise StarError(
            f"The {KINDS[kind]} {repo_id} has no {MANIFEST} to compare it with.",
            "Publish it with `star-hf publish`, or audit its rows with `star-hf audit`.",
        )
    try:
        manifest = json.loads(text)
        expected = {path: facts["sha256"] for path, facts in manifest["files"].items()}
        tables = manifest.get("tables", {})
        files, paths = _files(place, expected, progress)
        checks = [files]
        good = {table: paths[f"{table}/train.parquet"] for table in tables if f"{table}/train.parquet" in paths}
        rows = {}
        for table, path in good.items():
            with suppress(StarError):  # a damaged file is a problem of its schema
                rows[table] = read_table(path)
        features = {table: Features.from_dict(facts["columns"]) for table, facts in tables.items()}
        whole = {table: content for table, content in rows.items() if content.features == features[table]}
        if tables:
            checks += [check_schema(features, rows), check_counts(manifest, whole), check_ids(whole, tables)]
        checks.append(check_card(read_text(*place, CARD), manifest, whole))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise StarError(
            f"{MANIFEST} of the {KINDS[kind]} {repo_id} was edited or is broken: {type(error).__name__}.",
            "Publish it again with `star-hf publish`.",
        ) from error
    if "default" in whole:
        checks.append(check_contamination(whole["default"], paths.get(POLICIES), sources_dir, benchmarks))
    return Verification(repo_id, kind, commit, tuple(checks))


def _product(repo_id: str) -> dict[str, Any] | None:
    """The facts in `datasets_scripts/` about a data set of STAR-1's authors."""
    for folder in card_folders().values():
        facts = DatasetCard.load(folder / "README.md").data.to_dict().get("star_hf", {})
        if facts.get("repository", "").lower() == repo_id.lower():
            return facts
    return None


def _found(api: HfApi, repo_id: str, revision: str | None) -> tuple[Kind, str]:
    kinds: tuple[Kind, ...] = ("dataset", "model")
    for kind in kinds:
        if (info := find(api, repo_id, kind, revision)) is not None:
            return kind, info.sha
    raise StarError(
        f"There is no data set or model {repo_id}, or this token has no access to it.",
        "Check the name. A private repository needs a token with read access: set HF_TOKEN.",
    )


def _files(
    place: tuple[HfApi, str, Kind, str], expected: Mapping[str, str], progress: bool
) -> tuple[ReleaseCheck, dict]:
    """Compare every file with its hash; and the local paths of the good ones."""
    there, problems, good = listing(*place), [], {}
    with track("Downloading", len(expected), progress) as bar:
        for path, sha256 in expected.items():
            file = download(*place, path) if path in there else None
            if file is None:
                problems.append(f"{path} is missing.")
            elif sha256_of(file) != sha256:
                problems.append(f"{path} is not what was published: its SHA-256 differs.")
            else:
                good[path] = file
            bar.advance()
    more = sorted(set(there) - set(expected) - OWN)
    stray = [path for path in more if path.split("/")[0] in {name.split("/")[0] for name in expected if "/" in name}]
    problems += [f"{path} was not published with the other files." for path in stray if path.endswith(DATA)]
    notes = [counted(len(expected), "file")]
    notes += [f"not part of this release: {some(more)}"] if more else []
    return ReleaseCheck("files", tuple(problems), tuple(notes)), good
