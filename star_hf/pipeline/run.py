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
from ..utils.files import digest, read_json, read_table, sha256_of, write_json, write_table
from ..utils.options import validated


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
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

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
        return read_json(self.manifest_path, self._remedy) if self.manifest_path.exists() else {}

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
            f"Delete {self.manifest_path} and run `star-hf build --run-dir {self.folder}` with the run's recipe: all "
            "stages run again, with the responses that are in the journal."
        )

    def stage_folder(self, stage: str) -> Path:
        """The folder of a stage's tables."""
        return self.folder / f"{STAGES.index(stage) + 1}-{stage}"

    def table(self, stage: str, name: str = "rows", **options: Any) -> Dataset:
        """A table of a finished stage, with its features; the options are those of `pyarrow.parquet.read_table`.

        Raises:
            StarError: If the stage has not run, or wrote no such table.
        """
        path, build = self.stage_folder(stage) / f"{name}.parquet", f"`star-hf build --run-dir {self.folder}`"
        if stage not in self.records or not path.exists():
            raise StarError(
                f"{self.folder} has no {name} of stage {stage!r}.",
                f"Run `star-hf {stage} --run-dir {self.folder}` or {build} first.",
            )
        return read_table(path, f"Run {build}, which writes damaged tables again.", **options)

    def columns(self, stage: str, name: str, *columns: str) -> tuple[list[Any], ...]:
        """Some columns of a finished stage's table as lists, read without the others."""
        table = self.table(stage, name, columns=list(columns)).data
        return tuple(table[column].to_pylist() for column in columns)

    def find(self, stage: str, table: str, *row_ids: str) -> list[dict[str, Any]]:
        """The records of some rows in one of a stage's tables, read without loading the rest."""
        path = self.stage_folder(stage) / f"{table}.parquet"
        return read_table(path, filters=[("id", "in", row_ids)]).to_list() if path.exists() and row_ids else []

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
            raise StarError(
                f"{self.stage_folder(name)} cannot be written ({error.strerror or error}).",
                "Check the folder and the space on the disk, then run the same command again: every response is in "
                "the journal.",
            ) from error
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
        return all(
            (folder / f"{table}.parquet").exists() and sha256_of(folder / f"{table}.parquet") == expected
            for table, expected in self.records[stage].tables.items()
        )

    def _write_tables(self, stage: str, tables: Tables) -> dict[str, str]:
        """Write all tables beside the old ones, then replace the folder."""
        folder = self.stage_folder(stage)
        fresh = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
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
