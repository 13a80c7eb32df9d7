"""`star-hf report`: a run as one HTML file that opens from disk."""

from pathlib import Path
from typing import Annotated

import typer

from .panels import SHARING
from .tables.layout import say


__all__ = ["app"]

app = typer.Typer()

MEGABYTE = 1_000_000


@app.command(rich_help_panel=SHARING)
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run's directory.")],
    output: Annotated[
        Path | None, typer.Option(help="The HTML file.", show_default="RUN/report.html", metavar="FILE")
    ] = None,
    training: Annotated[
        Path | None, typer.Option(help="The output folder of a training on this data set.", metavar="DIR")
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option(
            help="A results folder of `star-hf evaluate`, the base model's first. Can be repeated.",
            metavar="DIR",
        ),
    ] = None,
    samples: Annotated[int, typer.Option(min=0, help="Number of rows to browse, kept and removed.")] = 600,
    seed: Annotated[int, typer.Option(help="Seed that chooses the rows.")] = 0,
) -> None:
    """Write a run's report: charts, numbers and samples in one HTML file, which needs no network.

    The file contains harmful questions, hidden until you click. Share it with care.

    **Example:** `star-hf report runs/star-1 --training models/star-1 --results results/base --results results/star-1`
    """
    from ..report import write_report

    path = write_report(run, output, training=training, results=results or (), samples=samples, seed=seed)
    say(f"{path} ({path.stat().st_size / MEGABYTE:.1f} MB): open it in a browser.")
