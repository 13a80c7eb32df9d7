"""`star-hf improve`: train a model until it follows a policy."""

from pathlib import Path
from typing import Annotated

import typer

from ..panels import TRAINING
from ..tables.layout import say


__all__ = ["app"]

app = typer.Typer()


@app.command(rich_help_panel=TRAINING)
def improve(
    config: Annotated[Path, typer.Option(metavar="FILE", help="What to improve and how (YAML): docs/improve.md.")],
    run_dir: Annotated[
        Path | None, typer.Option(help="The run's directory.", show_default="runs/<configuration's name>")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model to start from, instead of the file's.")] = None,
    train: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="The trainer's command, with `{data}` and `{output}`, or `{config}`, a recipe for recipes/sft.py.",
        ),
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Most rounds.", min=1, show_default="3")] = None,
    rows: Annotated[int | None, typer.Option(help="Rows per round.", min=1, show_default="100")] = None,
    spread: Annotated[
        str | None,
        typer.Option(help="`gain`: rows for the rules under target; `even`: the same for all.", show_default="gain"),
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(help="What the lower end of each rule's interval must reach.", min=0, max=1, show_default="0.8"),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(help="Benchmarks to measure each round on, separated by commas: star1:xstest,star1:math_500 ..."),
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="Maximum cost of the run in dollars. It stops before it exceeds this.", min=0)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Forecast rounds, calls, dollars and hours; send nothing.")
    ] = False,
) -> None:
    """Find the rules of a policy that a model breaks, build data for these, train, and decide whether it ships.

    Each round is measured on the sealed half of the policy's suite, which never becomes data, and on benchmarks. It
    ends when all criteria pass, when more rounds would not help, or after the last round.

    Exit code 0: a model ships; 1: none does, with the reason; 2: wrong input; 3: incomplete. If it is interrupted, run
    the same command again: nothing is asked, answered or trained twice.

    **Example:** `star-hf improve --config improve.yaml --run-dir runs/bank --dry-run`
    """
    from ...improve.config import load
    from ...improve.forecast import forecast
    from ...improve.loop import improve as run_loop
    from ...utils.extras import missing
    from .tables import show_forecasts, show_rounds

    settings = load(
        config,
        model=model,
        train__command=train,
        rounds=rounds,
        rows__size=rows,
        rows__spread=spread,
        targets__rate=target,
        tasks=None if tasks is None else [name.strip() for name in tasks.split(",") if name.strip()],
    )
    folder = run_dir or Path("runs") / config.stem
    if dry_run:
        show_forecasts(forecast(settings, folder), settings)
        return
    done = run_loop(settings, folder, budget_usd=budget)
    show_rounds(done)
    if missing("plotly"):
        say('For a page with charts: pip install -c constraints.txt -e ".[report]"')
    else:
        from ...improve.page import write_page

        say(f"The rounds as a page, to open in a browser: {write_page(done)}")
    if done.shipped is None:
        raise typer.Exit(1)
