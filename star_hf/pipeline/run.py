"""A run's directory: what each stage wrote there, and which stages need not run again.

```
runs/star-1/
  manifest.json            versions, configuration, and per stage its fingerprint, counts and hashes
  journal.sqlite           every response of a model
  1-collect/               rows.parquet  removed.parquet  held_out.parquet
  2-deduplicate/           rows.parquet  removed.parquet
  3-classify/ ...          rows.parquet  removed.parquet  provenance.parquet
  dataset/                 the finished data set: load_dataset("runs/star-1/dataset")
```
"""

import os
import shlex
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..errors import StarError
from ..utils.files import (
    digest,
    made_folder,
    read_json,
    read_table,
    sha256_of,
    unwritable,
    write_json,
    write_table,
)
from ..utils.options import validated
from .config import BuildConfig


__all__ = ["STAGES", "Run", "StageRecord"]

STAGES = ("collect", "deduplicate", "classify", "reason", "score", "select", "rewrite")
"""The stages in the paper's order."""

PACKAGES = ("star_hf", "datasets", "huggingface_hub", "openai", "scikit-learn", "torch", "transformers")

Tables = dict[str, Dataset]


@dataclass(frozen=True)
class StageRecord:
    """The manifest's entry of a finished stage.

    Attributes:
        fingerprint (`str`): Hash of the stage's parameters and of the tables it read.
        rows_in, rows_out (`int`): Rows that the stage read, and those that it kept.
        removed (`dict[str, int]`): Rows that it removed, by reason.
        tables (`dict[str, str]`): SHA-256 of each file.
        notes (`dict`): What a reader of the run should know, such as sources that could not be read.
    """

    fingerprint: str
    rows_in: int
    rows_out: int
    removed: dict[str, int]
    tables: dict[str, str]
    notes: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


class Run:
    """A run's directory. It is created if it does not exist."""

    def __init__(self, folder: str | Path):
        self.folder = made_folder(folder)
        self._checked = set[Path]()

    @property
    def journal_path(self) -> Path:
        """The file of the run's journal."""
        return self.folder / "journal.sqlite"

    @property
    def manifest_path(self) -> Path:
        """The file of the run's manifest."""
        return self.folder / "manifest.json"

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest; empty for a new run."""
        if not self._is_begun:
            return {}
        found = read_json(self.manifest_path, self._remedy)
        for part in ("stages", "config", "versions"):
            if not isinstance(found.get(part, {}), dict):
                raise StarError(f"{self.manifest_path} is damaged: its `{part}` is no object.", self._remedy)
        return found

    @property
    def is_new(self) -> bool:
        """Whether there is neither a manifest nor a table of a stage."""
        return not self._is_begun and not any(self.stage_folder(stage).exists() for stage in STAGES)

    @property
    def config(self) -> BuildConfig:
        """What the run was built with. Raises `StarError` if its manifest is missing or damaged."""
        if not self._is_begun:
            raise StarError(f"{self.folder} has no manifest.json.", "Give the run's recipe with `--config`.")
        given, where = self.manifest.get("config"), f"{self.manifest_path}, config"
        return validated(BuildConfig, given, where, self._remedy, StarError)

    @property
    def _is_begun(self) -> bool:
        try:
            return self.manifest_path.exists()
        except OSError:  # without permission for the folder, which reading it says
            return True

    @property
    def records(self) -> dict[str, StageRecord]:
        """The finished stages, in the paper's order."""
        stages, where = self.manifest.get("stages", {}), f"{self.manifest_path}, stages"
        found = validated(dict[str, StageRecord], stages, where, self._remedy, StarError)
        return {name: found[name] for name in STAGES if name in found}

    @property
    def begins_after(self) -> str | None:
        """The stage whose rows were given, with `star-hf STAGE --from`; `None` for a run that collected its rows."""
        return next((name for name, record in self.records.items() if "from" in record.notes), None)

    @property
    def _remedy(self) -> str:
        return (
            f"Delete {self.manifest_path} and run `star-hf build --run-dir {self.folder}` with the run's recipe and "
            "options: all stages run again, with the responses that are in the journal."
        )

    def stage_folder(self, stage: str) -> Path:
        """The folder of a stage's tables."""
        return self.folder / f"{STAGES.index(stage) + 1}-{stage}"

    def table(self, stage: str, name: str = "rows", **options: Any) -> Dataset:
        """A table of a finished stage, with its features; the options are those of `pyarrow.parquet.read_table`.

        Raises:
            StarError: If the stage has not run, or wrote no such table.
        """
        path = self.stage_folder(stage) / f"{name}.parquet"
        record = self.records.get(stage)
        if record is None or not path.exists():
            raise StarError(
                f"{self.folder} has no {name} of stage {stage!r}.",
                f"Run `star-hf {stage} --run-dir {self.folder}` or {self._build} first.",
            )
        again = f"Run {self._build}, which writes damaged tables again."
        if path not in self._checked and path.is_file():
            try:
                same = sha256_of(path) == record.tables.get(name)
            except OSError as error:
                raise StarError(f"{path} cannot be read ({error.strerror}).", "Check its permissions.") from None
            if not same:
                raise StarError(f"{path} is damaged or was edited: it is not what the stage wrote.", again)
            self._checked.add(path)
        return read_table(path, again, **options)

    @property
    def _build(self) -> str:
        return f"`star-hf build --run-dir {shlex.quote(str(self.folder))}`"

    def columns(self, stage: str, name: str, *columns: str) -> tuple[list[Any], ...]:
        """Some columns of a finished stage's table as lists, read without the others."""
        table = self.table(stage, name, columns=list(columns)).data
        return tuple(table[column].to_pylist() for column in columns)

    def find(self, stage: str, table: str, *row_ids: str) -> list[dict[str, Any]]:
        """The records of some rows in one of a stage's tables, read without loading the rest."""
        there = stage in self.records and table in self.records[stage].tables
        return self.table(stage, table, filters=[("id", "in", row_ids)]).to_list() if there and row_ids else []

    def describe(self, config: Mapping[str, Any]) -> None:
        """Write the configuration and the versions into the manifest."""
        write_json(self.manifest_path, {**self.manifest, "config": config, "versions": _versions()})

    def stage(
        self,
        name: str,
        parameters: Mapping[str, Any],
        inputs: Mapping[str, str],
        rows_in: int | None,
        make: Callable[[], tuple[Tables, dict[str, Any]]],
    ) -> StageRecord:
        """Run a stage, unless it already ran with these parameters on these inputs.

        Args:
            name (`str`): One of [`STAGES`].
            parameters (`dict`): Everything that can change the stage's output, as JSON values.
            inputs (`dict[str, str]`): SHA-256 of the tables that it reads.
            rows_in (`int` or `None`): Number of rows that it reads; `None` if the stage itself counts them.
            make (`Callable`): Makes the tables `rows`, `removed` and others, and the notes.

        Raises:
            StarError: If the rows read are not those kept plus those removed, or the tables cannot be written.
        """
        fingerprint = digest({"stage": name, "parameters": parameters, "inputs": inputs})
        done = self.records.get(name)
        same = done is not None and done.fingerprint == fingerprint and not done.notes.get("missing")
        if same and self.intact(name):
            return done
        started = time.monotonic()
        tables, notes = make()
        rows, removed = len(tables["rows"]), len(tables["removed"])
        if rows_in is not None and rows_in != rows + removed:
            raise StarError(
                f"Stage {name!r} lost rows: {rows_in} in, but {rows} out and {removed} removed.",
                "This is a bug in star_hf; please report it with the run's manifest.",
            )
        try:
            hashes = self._write_tables(name, tables)
        except OSError as error:
            raise unwritable(self.stage_folder(name), error) from error
        record = StageRecord(
            fingerprint=fingerprint,
            rows_in=rows + removed,
            rows_out=rows,
            removed=dict(sorted(Counter(tables["removed"]["reason"][:]).items())),
            tables=hashes,
            notes=notes,
            seconds=round(time.monotonic() - started, 2),
        )
        manifest = self.manifest
        stages = {**manifest.get("stages", {}), name: asdict(record)}
        write_json(self.manifest_path, {**manifest, "stages": stages})
        return record

    def intact(self, stage: str) -> bool:
        """Whether the tables of a finished stage are unchanged."""
        folder = self.stage_folder(stage)
        try:
            tables = self.records[stage].tables.items()
            return all(sha256_of(folder / f"{table}.parquet") == expected for table, expected in tables)
        except OSError:
            return False

    def _write_tables(self, stage: str, tables: Tables) -> dict[str, str]:
        """Write all tables beside the old ones, then replace the folder."""
        folder = self.stage_folder(stage)
        fresh = folder.with_name(f".{folder.name}.new")
        fresh.unlink() if fresh.is_file() else shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        for name, table in tables.items():
            write_table(table, fresh / f"{name}.parquet")
        hashes = {name: sha256_of(fresh / f"{name}.parquet") for name in tables}
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(fresh, folder)
        return hashes


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
