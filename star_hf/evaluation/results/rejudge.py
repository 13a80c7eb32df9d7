"""Judges over a results folder: its answers are judged anew, or by one judge more, and nothing is generated."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, concatenate_datasets
from filelock import FileLock

from ...errors import ConfigError, SourceError
from ...llm.journal import Journal
from ...schema import as_dataset
from ..grading.judges.base import Judge, Kind
from ..grading.judging import judge_answers
from ..judge_studies.panel import PANEL, panel
from ..types import ANSWERS, VERDICTS
from .results import Results, load_results, summarise


__all__ = ["add_verdicts", "read_answers", "read_verdicts", "rejudge", "update_results"]


def read_answers(folder: str | Path) -> Dataset:
    """The answers of a results folder, as `ANSWERS`.

    Raises:
        SourceError: If there are none, or the file cannot be read.
    """
    return _read(Path(folder) / "answers.parquet", ANSWERS)


def read_verdicts(folder: str | Path) -> Dataset:
    """The verdicts of a results folder, as `VERDICTS`.

    Raises:
        SourceError: If there are none, or the file cannot be read.
    """
    return _read(Path(folder) / "verdicts.parquet", VERDICTS)


def rejudge(
    folder: str | Path, judges: Sequence[Judge], kinds: Mapping[str, Kind], journal: Journal, **options: Any
) -> Dataset:
    """Have judges judge the answers of a results folder, each benchmark by those of them that serve its kind.

    Args:
        folder (`str` or `Path`): The results folder.
        judges (list of `Judge`): Who judges.
        kinds (`dict[str, str]`): The kind of each benchmark that judges grade; answers to others are left alone.
        journal (`Journal`): Where the judges' replies are kept.
        **options: `parts`, `budget` and `progress` of [`~star_hf.evaluation.grading.judging.judge_answers`].

    Returns:
        [`~datasets.Dataset`]: As `VERDICTS`; [`add_verdicts`] puts them into the folder.

    Raises:
        SourceError: If the folder has no answers.
        ConfigError: If none of the judges serves a kind that the folder has, or as `judge_answers`.
        IncompleteRunError: As `judge_answers`. All replies are kept.
    """
    answers = read_answers(folder)
    found = [name for name in dict.fromkeys(answers["benchmark"][:]) if name in kinds]
    fresh = [as_dataset([], VERDICTS)]
    for kind in dict.fromkeys(kinds[name] for name in found):
        serving = [judge for judge in judges if kind in judge.kinds]
        if serving:
            mine = {name for name in found if kinds[name] == kind}
            rows = answers.select([n for n, name in enumerate(answers["benchmark"][:]) if name in mine])
            fresh.append(judge_answers(rows, serving, journal, kind=kind, **options))
    verdicts = concatenate_datasets(fresh)
    if not len(verdicts):
        what = ", ".join(f"{name} ({kinds[name]})" for name in found) or "nothing that judges grade"
        raise ConfigError(
            f"{folder} holds answers to {what}, which none of {', '.join(judge.name for judge in judges)} judges.",
            "`star-hf judge list` shows what each judge is for.",
        )
    return verdicts


def add_verdicts(folder: str | Path, verdicts: Dataset, with_panel: bool = False) -> Dataset:
    """Put verdicts into a results folder, in place of what the same judges said of the same benchmarks.

    The panel's verdicts, where there are any or `with_panel` asks for them, are made anew.

    Args:
        folder (`str` or `Path`): The results folder.
        verdicts ([`~datasets.Dataset`]): As `VERDICTS`.
        with_panel (`bool`, defaults to `False`): Whether to seat all judges on a panel.

    Returns:
        [`~datasets.Dataset`]: All verdicts of the folder, as they are now in `verdicts.parquet`.
    """
    path = Path(folder) / "verdicts.parquet"
    with FileLock(Path(folder) / ".verdicts.lock"):
        there = read_verdicts(folder) if path.exists() else as_dataset([], VERDICTS)
        replaced = set(zip(verdicts["judge"][:], verdicts["benchmark"][:], strict=True))
        with_panel = with_panel or PANEL in there.unique("judge")
        pairs = enumerate(zip(there["judge"][:], there["benchmark"][:], strict=True))
        kept = there.select([n for n, pair in pairs if pair not in replaced and pair[0] != PANEL])
        merged = concatenate_datasets([kept, verdicts])
        if with_panel:
            merged = concatenate_datasets([merged, panel(merged)])
        fresh = path.with_name(".verdicts.new")
        merged.to_parquet(fresh)
        os.replace(fresh, path)
    return merged


def update_results(folder: str | Path, judges: Sequence[Judge] = (), primary: str | None = None) -> Results:
    """Make `results.json` anew from the answers and verdicts that a results folder holds now.

    Args:
        folder (`str` or `Path`): The results folder.
        judges (list of `Judge`, *optional*): Who has joined; they are recorded beside those that are there.
        primary (`str`, *optional*): The judge, or `"panel"`, whose verdicts the rates are made of from now on
            wherever it has judged; without it each benchmark keeps its own. The others' rates stand beside them.

    Returns:
        `Results`: As they are now on disk.

    Raises:
        SourceError: If the folder is no results folder.
        ConfigError: If `primary` has judged nothing here.
    """
    before, verdicts = load_results(folder), read_verdicts(folder)
    judged = set(zip(verdicts["benchmark"][:], verdicts["judge"][:], strict=True))
    if primary is not None and primary not in verdicts.unique("judge"):
        raise ConfigError(
            f"{primary!r} has judged nothing in {folder}.", f"Its judges are {', '.join(verdicts.unique('judge'))}."
        )
    leading = {
        name: primary if primary is not None and (name, primary) in judged else benchmark.judge
        for name, benchmark in before.benchmarks.items()
    }
    records = {record["name"]: record for record in before.judges} | {judge.name: judge.record() for judge in judges}
    if PANEL in verdicts.unique("judge"):
        records[PANEL] = {"name": PANEL, "model": None, "at": "the majority of the others"}
    after = summarise(
        read_answers(folder),
        verdicts,
        model=before.model,
        profile=before.profile,
        generation=before.generation,
        judges=list(records.values()),
        data={name: benchmark.data for name, benchmark in before.benchmarks.items()},
        primary={name: judge for name, judge in leading.items() if judge is not None},
    )
    after.save(folder)
    return after


def _read(path: Path, features: Features) -> Dataset:
    """A Parquet file with these features; columns that an older file lacks are `None`."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(
            f"{path} cannot be read ({error}).", "Name the folder that `star-hf evaluate` wrote its results to."
        ) from None
    missing = [name for name in features if name not in table.column_names]
    for name in missing:
        table = table.append_column(name, pa.nulls(len(table)))
    return Dataset(table.select(list(features)).cast(features.arrow_schema))
