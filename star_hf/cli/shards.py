"""`star-hf deduplicate-shards`: deduplication and decontamination of Parquet files, beyond one machine."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ..errors import ConfigError
from .panels import DATA


__all__ = ["app"]

app = typer.Typer()
console = Console()


@app.command(rich_help_panel=DATA)
def deduplicate_shards(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Parquet files, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Where kept/ and removed/ go; all workers must see it.")],
    config: Annotated[
        Path | None,
        typer.Option(help="A YAML recipe: its `deduplicate`, `scale`, and of `collect` what is held out."),
    ] = None,
    sources_dir: Annotated[Path | None, typer.Option(help="Local copies of the held-out sets: DIR/SET/FILE.")] = None,
    shards: Annotated[int | None, typer.Option(min=1, help="Parts that the rows are cut into.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Parts at work at a time.")] = None,
    minhash: Annotated[
        int | None,
        typer.Option(min=1, help="Compare only what MinHash brings together, by this many hashes per bucket."),
    ] = None,
) -> None:
    """Remove near-duplicates and overlaps with benchmarks from more rows than one machine holds.

    Rows need `id`, `question` and `source`. The same command goes on after any interruption.

    **Example:** `star-hf deduplicate-shards corpus/ --out clean --shards 8 --workers 2`
    """
    from ..pipeline.config import load_config
    from ..scale.deduplicate import Banding
    from ..scale.deduplicate import deduplicate_shards as deduplicate
    from ..scale.executors import Scale
    from ..sources.catalogue import catalogue
    from ..transforms.collect import collect

    settings = load_config(config, scale__shards=shards, scale__workers=workers, collect__sources_dir=sources_dir)
    if settings.profile != "recommended":
        raise ConfigError(
            "Shards are compared by the profile `recommended` only: `paper` weighs terms anew after each source.",
            "Run `star-hf build`, or leave the profile out.",
        )
    if settings.deduplicate.rule != "first_wins":
        raise ConfigError(
            "Shards are compared by the rule `first_wins` only: groups may reach over all of them.",
            "Run `star-hf build`, or leave the rule out.",
        )
    options = settings.collect.model_dump() | {"sources": [], "questions": None}
    tally = deduplicate(
        [file for path in inputs for file in (sorted(path.glob("*.parquet")) if path.is_dir() else [path])],
        collect(profile=settings.profile, **options).held_out,
        out,
        scale=settings.scale or Scale(),
        ngram={name: source.ngram for name, source in catalogue().items() if source.ngram is not None},
        banding=Banding(hashes=minhash) if minhash else None,
        encoder=settings.deduplicate.encoder,
        **settings.deduplicate.model_dump(include={"tfidf_threshold", "embedding_threshold"}),
    )
    table = Table(title=f"{tally.kept + sum(tally.removed.values()):,} rows")
    table.add_column("kept or removed")
    table.add_column("rows", justify="right")
    for reason, rows in {"kept": tally.kept, **tally.removed}.items():
        table.add_row(reason, f"{rows:,}")
    console.print(table)
    console.print(f'load_dataset("parquet", data_dir="{out}/kept", split="train")', markup=False, highlight=False)
