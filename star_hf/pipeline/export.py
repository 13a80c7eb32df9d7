"""The finished data set as a folder that `load_dataset` reads: data, benign twins, provenance, and a card."""

from pathlib import Path

from datasets import Dataset, concatenate_datasets

from ..llm.endpoint import PRESETS
from ..utils.files import write_table, write_text
from ..utils.progress import quiet_datasets
from .card import dataset_card
from .config import BuildConfig
from .run import Run


__all__ = ["export", "finished_tables"]


def export(run: Run, config: BuildConfig) -> Path:
    """Write `<run>/dataset`: one Parquet file per configuration and a card with the counts.

    The default configuration has exactly STAR-1's six columns; `provenance` says by `id` which model answered which
    prompt at what cost; `benign` holds the twins. Returns the folder, for `load_dataset(str(folder))`.
    """
    folder = run.folder / "dataset"
    tables = finished_tables(run)
    for name, table in tables.items():
        write_table(table, folder / name / "train.parquet")
    card = dataset_card(run, config, tables, place="path/to/this/folder", name=run.folder.name)
    write_text(folder / "README.md", card.text)
    return folder


def finished_tables(run: Run) -> dict[str, Dataset]:
    """The configurations of a run whose `select` stage is done: `default`, and `benign` and `provenance` if they have
    rows."""
    tables = {"default": run.table("select")}
    if "rewrite" in run.records and run.records["rewrite"].rows_out:
        tables["benign"] = run.table("rewrite")
    stages = [stage for stage, record in run.records.items() if "provenance" in record.tables]
    if stages:
        receipts = concatenate_datasets([run.table(stage, "provenance") for stage in stages])
        published = {row_id for table in tables.values() for row_id in table["id"][:]}
        kept = [index for index, row_id in enumerate(receipts["id"][:]) if row_id in published]
        with quiet_datasets():
            tables["provenance"] = receipts.select(kept).map(_public, input_columns="endpoint", keep_in_memory=True)
    return tables


def _public(endpoint: str) -> dict[str, str]:
    """An endpoint as it may be published: a provider's address or a name, but no address of somebody's own server."""
    known = {preset.base_url for preset in PRESETS.values()}
    return {"endpoint": "own server" if "://" in endpoint and endpoint not in known else endpoint}
