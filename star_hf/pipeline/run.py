"""A run's directory: what each stage left there, and what therefore need not be done again.

```
runs/star-1/
  manifest.json            versions, configuration, and per stage its fingerprint, counts and hashes
  journal.sqlite           every answer of a model
  1-collect/               rows.parquet  removed.parquet  held_out.parquet
  2-deduplicate/           rows.parquet  removed.parquet
  3-classify/ ...          rows.parquet  removed.parquet  provenance.parquet
  dataset/                 the finished data set: load_dataset("runs/star-1/dataset")
```
"""

import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import Dataset
from filelock import FileLock, Timeout

from ..errors import StarError


__all__ = ["STAGES", "Run", "StageRecord", "digest"]

STAGES = ("collect", "deduplicate", "classify", "reason", "score", "select", "rewrite")
"""The stages in the paper's order."""

PACKAGES = ("star_hf", "datasets", "huggingface_hub", "openai", "scikit-learn", "torch", "transformers")

Tables = dict[str, Dataset]


def digest(value: Any) -> str:
    """SHA-256 of a JSON-able value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class StageRecord:
    """What the manifest says of a finished stage.

    Attributes:
        fingerprint (`str`): Hash of the stage's parameters and of the tables it read.
        rows_in (`int`): Rows that came in.
        rows_out (`int`): Rows that went on.
        removed (`dict[str, int]`): Rows that left, by reason.
        tables (`dict[str, str]`): SHA-256 of each file.
        notes (`dict`): What a reader of the run should know, such as sources that could not be had.
        seconds (`float`): How long the stage took when it ran.
    """

    fingerprint: str
    rows_in: int
    rows_out: int
    removed: dict[str, int]
    tables: dict[str, str]
    notes: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


class Run:
    """A run's directory, made when it is not there.

    Args:
        folder (`str` or `Path`): The directory.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from building here at the same time; a killed process leaves no lock behind.

        Raises:
            StarError: If another process is building here.
        """
        lock = FileLock(self.folder / ".lock", blocking=False)
        try:
            with lock:
                yield
        except Timeout:
            raise StarError(
                f"Another process is building in {self.folder}.", "Wait for it, or use another run directory."
            ) from None

    @property
    def journal_path(self) -> Path:
        """Where the run's journal lies."""
        return self.folder / "journal.sqlite"

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest as it stands; empty for a new run.

        Raises:
            StarError: If it is not JSON.
        """
        path = self.folder / "manifest.json"
        try:
            return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        except ValueError:
            raise StarError(
                f"{path} was edited or is broken: it is not JSON.",
                f"Delete it and run `star-hf build --run-dir {self.folder}` with the run's recipe again: the stages "
                "are made anew, with the answers that are in the journal.",
            ) from None

    @property
    def records(self) -> dict[str, StageRecord]:
        """The finished stages, in the paper's order."""
        stages = self.manifest.get("stages", {})
        return {name: StageRecord(**stages[name]) for name in STAGES if name in stages}

    def stage_folder(self, stage: str) -> Path:
        """Where a stage's tables lie."""
        return self.folder / f"{STAGES.index(stage) + 1}-{stage}"

    def table(self, stage: str, name: str = "rows") -> Dataset:
        """A table of a finished stage, with its features.

        Raises:
            StarError: If the stage has not run, or left no such table.
        """
        return _read(self._existing(stage, name))

    def columns(self, stage: str, name: str, *columns: str) -> tuple[list[Any], ...]:
        """Some columns of a finished stage's table as lists, read without the others.

        Raises:
            StarError: If the stage has not run, or left no such table.
        """
        table = pq.read_table(self._existing(stage, name), columns=list(columns))
        return tuple(table[column].to_pylist() for column in columns)

    def _existing(self, stage: str, name: str) -> Path:
        path = self.stage_folder(stage) / f"{name}.parquet"
        if stage not in self.records or not path.exists():
            raise StarError(
                f"{self.folder} has no {name} of stage {stage!r}.",
                f"Run `star-hf {stage} --run-dir {self.folder}` or `star-hf build --run-dir {self.folder}` first.",
            )
        return path

    def find(self, stage: str, table: str, *row_ids: str) -> list[dict[str, Any]]:
        """The records of some rows in one of a stage's tables, read without loading the rest."""
        path = self.stage_folder(stage) / f"{table}.parquet"
        return pq.read_table(path, filters=[("id", "in", row_ids)]).to_pylist() if path.exists() and row_ids else []

    def describe(self, config: Mapping[str, Any]) -> None:
        """Write the configuration and the versions into the manifest."""
        self._write_manifest({**self.manifest, "config": config, "versions": _versions()})

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
            parameters (`dict`): All that can change the stage's output, JSON-able.
            inputs (`dict[str, str]`): SHA-256 of the tables that it reads.
            rows_in (`int` or `None`): Rows that come in; `None` where the stage itself counts them.
            make (`Callable`): Makes the tables `rows`, `removed` and others, and the notes.

        Raises:
            StarError: If rows in are not rows out plus removed, or the tables cannot be written.
        """
        fingerprint = digest({"stage": name, "parameters": parameters, "inputs": inputs})
        done = self.records.get(name)
        if (
            done is not None
            and done.fingerprint == fingerprint
            and not done.notes.get("missing")
            and self.intact(name)
        ):
            return done
        started = time.monotonic()
        tables, notes = make()
        rows, removed = len(tables["rows"]), len(tables["removed"])
        if rows_in is not None and rows_in != rows + removed:
            raise StarError(
                f"Stage {name!r} lost count: {rows_in} rows in, but {rows} out and {removed} removed.",
                "This is a bug of star_hf; please report it with the run's manifest.",
            )
        try:
            hashes = self._write_tables(name, tables)
        except OSError as error:
            raise StarError(
                f"{self.stage_folder(name)} cannot be written ({error.strerror or error}).",
                "Check the folder and the space on the disk, then run the same command again: every answer of a model "
                "is in the journal.",
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
        self._write_manifest({**manifest, "stages": stages})
        return record

    def intact(self, stage: str) -> bool:
        """Whether the tables of a finished stage are still as it left them."""
        folder = self.stage_folder(stage)
        return all(
            (folder / f"{table}.parquet").exists() and _hash(folder / f"{table}.parquet") == expected
            for table, expected in self.records[stage].tables.items()
        )

    def _write_tables(self, stage: str, tables: Tables) -> dict[str, str]:
        """Write all tables beside the old ones, then put the folder in place at once."""
        folder = self.stage_folder(stage)
        fresh = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        for name, table in tables.items():
            table.to_parquet(fresh / f"{name}.parquet")
        hashes = {name: _hash(fresh / f"{name}.parquet") for name in tables}
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(fresh, folder)
        return hashes

    def _write_manifest(self, manifest: Mapping[str, Any]) -> None:
        path = self.folder / "manifest.json"
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(manifest, indent=2, default=str, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(fresh, path)


def _read(path: Path) -> Dataset:
    """The file as an in-memory data set; nothing is copied into a cache that could grow stale."""
    return Dataset(pq.read_table(path))


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
