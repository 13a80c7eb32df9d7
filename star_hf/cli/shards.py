"""`star-hf deduplicate-shards`: deduplication and decontamination of Parquet files, beyond one machine."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import ConfigError
from ..utils.text import counted
from .panels import DATA
from .tables.layout import console, new_table, number, say


__all__ = ["app"]

app = typer.Typer()


@app.command(rich_help_panel=DATA)
def deduplicate_shards(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Parquet files, or folders of them.")],
    out: Annotated[
        Path,
        typer.Option(
            "--output", "--out", help="The folder for kept/ and removed/. All workers must be able to access it."
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Option(help="A YAML recipe. Its sections `deduplicate` and `scale` and its held-out sets are used."),
    ] = None,
    sources_dir: Annotated[Path | None, typer.Option(help="Local copies of the held-out sets: DIR/SET/FILE.")] = None,
    shards: Annotated[int | None, typer.Option(min=1, help="Number of parts to split the rows into.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Number of parts to process at once.")] = None,
    minhash: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Compare only rows that share a MinHash bucket of this many hashes. Faster, but misses some pairs.",
        ),
    ] = None,
) -> None:
    """Remove near-duplicates and overlaps with benchmarks from more rows than fit on one machine.

    Rows need `id`, `question` and `source`. The same command continues after any interruption.

    **Example:** `star-hf deduplicate-shards corpus/ --output clean --shards 8 --workers 2`
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
            "Shards support only the profile `recommended`: `paper` recomputes the term weights after each source.",
            "Run `star-hf build`, or remove `profile`.",
        )
    if settings.deduplicate.rule != "first_wins":
        raise ConfigError(
            "Shards support only the rule `first_wins`: a group may span several shards.",
            "Run `star-hf build`, or remove `rule`.",
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
    table = new_table(counted(tally.kept + sum(tally.removed.values()), "row"), "kept or removed", number("rows"))
    for reason, rows in {"kept": tally.kept, **tally.removed}.items():
        table.add_row(reason, f"{rows:,}")
    console.print(table)
    say(f'load_dataset("parquet", data_dir="{out}/kept", split="train")')
