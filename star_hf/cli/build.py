"""`star-hf build`, one command per stage, and `explain` and `demo` over all of them."""

import importlib.util
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ..errors import ConfigError
from .panels import DATA, STAGES


__all__ = ["app"]

app = typer.Typer()
console = Console()

RunDir = Annotated[Path | None, typer.Option(help="The run's directory.", show_default="runs/<recipe's name>")]
Config = Annotated[Path | None, typer.Option(help="A YAML recipe, such as those in recipes/data/.")]
ProfileOption = Annotated[
    str | None, typer.Option(help="`paper` reproduces the published choices, `recommended` mends them.")
]
SourcesDir = Annotated[Path | None, typer.Option(help="Local copies of the sources: DIR/SOURCE/FILE.")]
Policies = Annotated[Path | None, typer.Option(help="Your own taxonomy and policies (YAML).")]
Questions = Annotated[
    Path | None,
    typer.Option(help="Your own questions: .txt, .jsonl, .json, .csv or .parquet with a `question` column."),
]
RequireAll = Annotated[bool | None, typer.Option("--require-all", help="Stop when a source cannot be had.")]


@app.command(rich_help_panel=DATA)
def demo(
    run_dir: Annotated[Path, typer.Option(help="The run's directory.")] = Path("runs/demo"),
    questions: Questions = None,
    train: Annotated[bool, typer.Option(help="Fine-tune the embedded model on the data set.")] = True,
) -> None:
    """Build a small data set here and now, and train on it: no key, no Hub, an embedded 135M model.

    The embedded model shows the machinery, not the quality: its reasoning and marks mean little.
    """
    from ..pipeline.build import build as run_build
    from ..utils.paths import project_folder
    from .tables.run import show_rows, show_run

    recipe = project_folder("recipes") / "data" / "demo.yaml"
    console.print(
        "[bold]star_hf demo[/bold]: every stage for real, on a few mild questions, with an embedded model of 135M "
        "parameters. It shows the machinery, not the quality: look at the data set's form, not at its wisdom.\n"
    )
    run = run_build(_configuration(recipe, run_dir, {"collect__questions": questions}), run_dir)
    show_run(run, console)
    show_rows(run, console)
    if train:
        _train_demo(run_dir)


def _train_demo(run_dir: Path) -> None:
    """Fine-tune on what the demo has built, where the packages are there, and ask both models the same."""
    if importlib.util.find_spec("trl") is None:
        console.print('\nTo train on it, too: pip install -c constraints.txt -e ".[train]"', markup=False)
        return
    from ..demo.train import train_demo

    record = train_demo(run_dir / "dataset", run_dir / "model")
    (_, first), *_, (updates, last) = record.losses
    console.print(
        f"Trained in {updates} updates: the loss fell from {first:.2f} to {last:.2f}. The model and the curve: "
        f"{run_dir / 'model' / 'tuned'}, loss.png\n",
        markup=False,
    )
    from ..demo.before_after import before_after
    from .tables.before_after import show_before_after

    show_before_after(*before_after(run_dir / "model" / "base", run_dir / "model" / "tuned", run_dir), console)


@app.command(rich_help_panel=DATA)
def build(
    config: Config = None,
    run_dir: RunDir = None,
    profile: ProfileOption = None,
    sources_dir: SourcesDir = None,
    questions: Questions = None,
    policies: Policies = None,
    require_all: RequireAll = None,
    until: Annotated[str | None, typer.Option(help="Last stage to run.", metavar="STAGE")] = None,
    max_unusable: Annotated[
        float | None,
        typer.Option(help="Accepted share of rows per stage without a usable answer.", show_default="0.02"),
    ] = None,
    accept_unavailable: Annotated[
        bool,
        typer.Option("--accept-unavailable", help="Let rows that no try answers leave, too, as unavailable."),
    ] = False,
    budget: Annotated[
        float | None, typer.Option(help="Dollars that the run may cost in all; stops before it would exceed them.")
    ] = None,
    batch: Annotated[
        bool,
        typer.Option("--batch", help="Ask OpenAI and Azure by their Batch API: half the price, within a day."),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Do what costs nothing (collect, and deduplicate), and forecast the rest."),
    ] = False,
) -> None:
    """Build a data set, or go on with one that was interrupted.

    Stages: collect, deduplicate, classify, reason, score, select, rewrite. A finished stage is not run again, and no
    answer of a model is paid for twice.

    **Example:** `star-hf build --config recipes/data/star_1.yaml --run-dir runs/star-1`
    """
    from ..pipeline.build import build as run_build
    from .tables.run import show_forecast, show_run

    run_dir = run_dir or Path("runs") / (config.stem if config else "star-1")
    overrides = {
        "profile": profile,
        "policies": policies,
        "collect__sources_dir": sources_dir,
        "collect__questions": questions,
        "collect__require_all": require_all,
        "max_unusable": max_unusable,
        "accept_unavailable": accept_unavailable or None,
    }
    settings = _configuration(config, run_dir, overrides)
    settings = settings.batched() if batch else settings
    if dry_run:
        from ..pipeline.forecast import forecast

        free = "deduplicate" if settings.deduplicate.endpoint is None else "collect"
        run = run_build(settings, run_dir, until=free)
        show_run(run, console)
        show_forecast(forecast(settings, run), console)
        return
    show_run(run_build(settings, run_dir, until=until, budget_usd=budget), console)


def _stage_command(stage: str, summary: str) -> None:
    """Add the command that runs one stage on what the run directory holds."""

    def command(run_dir: RunDir, config: Config = None) -> None:
        from ..pipeline.build import build as run_build
        from .tables.run import show_run

        if run_dir is None:
            raise ConfigError("No run directory is given.", f"Name one: star-hf {stage} --run-dir runs/star-1")
        show_run(run_build(_configuration(config, run_dir, {}), run_dir, only=stage), console)

    command.__doc__ = f"{summary}\n\nWithout `--config` the run's own configuration is used."
    app.command(stage, rich_help_panel=STAGES)(command)


for _stage, _summary in {
    "collect": "Read the sources and the held-out sets into one schema (paper, Section 2.1).",
    "deduplicate": "Remove near-duplicates and whatever overlaps with a benchmark (Section 2.1).",
    "classify": "Sort each question into the policies' categories (Section 2.2).",
    "reason": "Let the teacher reason over the policies and answer (Section 2.2).",
    "score": "Mark each response 0-10 on three criteria (Section 2.3).",
    "select": "Keep full marks and choose a small, diverse set (Section 2.3).",
    "rewrite": "Make the benign twin of each selected row (Section 4.3, Appendix E).",
}.items():
    _stage_command(_stage, _summary)


@app.command(rich_help_panel=DATA)
def explain(
    row_id: Annotated[str, typer.Argument(metavar="ID", help="A row's id, 16 hex digits.")],
    run_dir: Annotated[Path, typer.Option(help="The run's directory.")],
) -> None:
    """Tell a row's story: where it came from, why it left and what it matched, or its category, scores and cost.

    **Example:** `star-hf explain 0123456789abcdef --run-dir runs/star-1`
    """
    from ..pipeline.explain import explain as tell
    from ..pipeline.run import Run
    from .tables.run import show_story

    show_story(row_id, tell(Run(run_dir), row_id), console)


def _configuration(config: Path | None, run_dir: Path, overrides: dict[str, Any]) -> Any:
    """The recipe's configuration; without a recipe that of the run so far, or the defaults."""
    from ..pipeline.config import load_config
    from ..pipeline.run import Run

    earlier = Run(run_dir).manifest.get("config") if config is None else None
    return load_config(config, base=earlier, **overrides)
