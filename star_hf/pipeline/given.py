"""A run that begins with rows that exist: they become the tables of the stage before the one that is to run."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, Features
from huggingface_hub import HfApi

from ..audit.rows import Rows, load_rows
from ..errors import ConfigError, SourceError
from ..schema import CLASSIFIED, COLLECTED, REASONED, REMOVED, SCORE_CRITERIA, SCORED, as_dataset, removal
from ..transforms.collect import collect
from ..utils.files import sha256_of
from ..utils.text import counted, row_id
from .config import BuildConfig
from .run import Run


__all__ = ["Given", "begin"]

logger = logging.getLogger(__name__)

READS: dict[str, tuple[str, Features]] = {
    "deduplicate": ("collect", COLLECTED),
    "classify": ("deduplicate", COLLECTED),
    "reason": ("classify", CLASSIFIED),
    "score": ("reason", REASONED),
    "select": ("score", SCORED),
    "rewrite": ("select", SCORED),
}
"""The stage whose rows each stage reads, and their columns."""


@dataclass(frozen=True)
class Given:
    """Rows that exist: a file, a folder, a run's directory or a data set of the Hub.

    Attributes:
        name, split, revision (`str`, *optional*): Configuration, split (by default `train`) and revision.
        columns (`Mapping[str, str]`): Role (`id`, `question`, `response`, `messages`, `category`, `source`, `score`)
            to column, for columns with unusual names.
    """

    data: str
    name: str | None = None
    split: str | None = None
    revision: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    def identity(self) -> dict[str, Any]:
        """What the manifest says of the data: with the content's hash, or the commit on the Hub."""
        path = Path(self.data).expanduser()
        known = {"data": self.data, "name": self.name, "split": self.split, "columns": dict(self.columns)}
        if path.is_file():
            return {**known, "sha256": sha256_of(path)}
        return known if path.exists() else {**known, "revision": _commit(self.data, self.revision)}


def begin(run: Run, given: Given, stage: str, config: BuildConfig) -> list[str]:
    """Write the given rows as the tables that a stage reads.

    Returns:
        The stages to run: the given one, after `classify` where a teacher's rows have no category yet.

    Raises:
        ConfigError: If the stage reads no rows, or the run has rows of its own.
        SourceError: If the data cannot be read, or a column is missing.
    """
    if stage not in READS:
        raise ConfigError(f"`{stage}` makes the first rows of a run.", "Add a file with `collect.questions`.")
    identity = given.identity()
    rows = load_rows(
        given.data, name=given.name, split=given.split, revision=identity.get("revision"), columns=given.columns
    )
    stages = [stage]
    if stage == "reason" and not rows.has("category"):
        logger.info("The rows have no categories: `classify` runs first.")
        stages = ["classify", "reason"]
    before, features = READS[stages[0]]
    _check_run(run, before, identity)
    missing = [role for role in features if role not in ("id", "source", *_unneeded(stage)) and not rows.has(role)]
    if missing:
        raise SourceError(
            f"{given.data} has no column with the {missing[0]} of a row, which `{stage}` needs.",
            f"Name it: --column {missing[0]}=NAME. Its columns are used as: {_used(rows)}.",
        )

    def make() -> tuple[dict[str, Dataset], dict[str, Any]]:
        kept, removed = _sorted_out(rows, before, features, given)
        tables, notes = {"rows": as_dataset(kept, features), "removed": as_dataset(removed, REMOVED)}, {}
        if before == "collect":
            options = config.collect.model_dump() | {"sources": [], "questions": None}
            collected = collect(profile=config.profile, **options)
            tables["held_out"] = collected.held_out
            notes = {"missing": collected.missing, "protected": collected.protected}
        return tables, {**notes, "from": {**identity, "used": rows.columns}}

    record = run.stage(before, {"from": identity, "columns": list(features)}, {}, None, make)
    if record.removed:
        reasons = ", ".join(f"{reason} {count}" for reason, count in record.removed.items())
        logger.warning(
            "%s of %s cannot be used: %s.", counted(sum(record.removed.values()), "row"), given.data, reasons
        )
    if not record.rows_out:
        raise SourceError(f"{given.data} has no row that `{stage}` can use.", f"See {run.stage_folder(before)}.")
    return stages


def _unneeded(stage: str) -> tuple[str, ...]:
    """Columns of the stage before that a stage does not read."""
    return ("response", "score") if stage == "rewrite" else ()


def _check_run(run: Run, before: str, identity: Mapping[str, Any]) -> None:
    """Refuse to mix the rows with others in the same directory."""
    begun = run.begins_after
    theirs = run.records[begun].notes["from"]["data"] if begun else None
    if run.records and (begun, theirs) != (before, identity["data"]):
        raise ConfigError(
            f"{run.folder} has rows already: {'those of its sources' if theirs is None else f'those of {theirs}'}.",
            "Give another directory with --run-dir.",
        )


def _used(rows: Rows) -> str:
    return ", ".join(f"{role}={column}" for role, column in rows.columns.items()) or "none"


def _sorted_out(
    rows: Rows, before: str, features: Features, given: Given
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows with the columns of `features`, and those that lack something."""
    named = Path(given.data).name.partition(".")[0] or given.data
    unique = rows.has("id") and Counter(rows.ids).most_common(1)[0][1] == 1
    kept, removed = [], []
    for place, question in enumerate(rows.questions):
        row: dict[str, Any] = {
            "id": rows.ids[place] if unique else row_id(question),
            "question": question,
            "source": (rows.sources[place] or "").strip() or named,
            "response": rows.responses[place],
            "category": rows.categories[place],
        }
        problem = _problem(row, features)
        if "score" in features and problem is None:
            row["score"], problem = _score(rows.scores[place])
        if problem is None:
            kept.append(row)
        else:
            removed.append(removal(row, before, problem))
    unread = {"id": row_id(""), "question": "", "source": named}
    removed += [removal(unread, before, "unreadable", detail=place) for place in rows.refused]
    return kept, removed


def _problem(row: Mapping[str, Any], features: Features) -> str | None:
    if not row["question"].strip():
        return "empty"
    if "category" in features and not row["category"]:
        return "no_category"
    return "no_response" if features == REASONED and not (row["response"] or "").strip() else None


def _score(score: Any) -> tuple[dict[str, int | None] | None, str | None]:
    """The scores on the criteria of the safety data, each an integer or missing, or why they are none."""
    if score is None:
        return dict.fromkeys(SCORE_CRITERIA), None
    if not isinstance(score, Mapping) or not set(SCORE_CRITERIA) & set(score):
        return None, "no_score"
    marks = {name: score.get(name) for name in SCORE_CRITERIA}
    if any(isinstance(mark, bool | str) or (mark is not None and not 0 <= mark <= 10) for mark in marks.values()):
        return None, "score_out_of_range"
    if any(mark is not None and mark != int(mark) for mark in marks.values()):
        return None, "score_out_of_range"
    return {name: None if mark is None else int(mark) for name, mark in marks.items()}, None


def _commit(repo: str, revision: str | None) -> str | None:
    """The commit of a data set on the Hub; its name where the Hub cannot be asked, which loading will tell."""
    try:
        return HfApi(library_name="star_hf").dataset_info(repo, revision=revision).sha
    except Exception:
        return revision
