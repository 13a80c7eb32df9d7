"""`star-hf build`, one command per stage, and `explain` and `demo` over all of them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ConfigError
from ..utils.extras import install, missing
from ..utils.options import pair
from .panels import DATA, STAGES
from .tables.layout import console, say


__all__ = ["app"]

app = typer.Typer()

RunDir = Annotated[Path | None, typer.Option(help="The run's directory.", show_default="runs/<recipe's name>")]
StageRunDir = Annotated[
    Path | None, typer.Option(help="The run's directory.", show_default="with --from, runs/<name of the data>")
]
Config = Annotated[Path | None, typer.Option(help="A YAML recipe, such as those in recipes/data/.")]
ProfileOption = Annotated[
    str | None, typer.Option(help="`paper` reproduces the published choices, `recommended` fixes their mistakes.")
]
SourcesDir = Annotated[Path | None, typer.Option(help="Local copies of the sources: DIR/SOURCE/FILE.")]
Policies = Annotated[Path | None, typer.Option(help="Your own taxonomy and policies (YAML).")]
Questions = Annotated[
    Path | None,
    typer.Option(help="Your own questions: .txt, .jsonl, .json, .csv or .parquet with a `question` column."),
]
RequireAll = Annotated[bool | None, typer.Option("--require-all", help="Stop if a source cannot be read.")]


@app.command(rich_help_panel=DATA)
def demo(
    run_dir: Annotated[Path, typer.Option(help="The run's directory.")] = Path("runs/demo"),
    questions: Questions = None,
    train: Annotated[bool, typer.Option(help="Fine-tune the embedded model on the starter set.")] = True,
) -> None:
    """Build a small data set, and make a small model safer: no key, no Hub, an embedded model of 135M parameters.

    First come all stages on a few mild questions. They show how the software works and the form of the data, not
    their quality: such a small model reasons and scores poorly. Then it is fine-tuned on the starter set, 96 rows
    that ship with star_hf, and is asked 60 other questions before and after.
    """
    from ..pipeline.build import build as run_build
    from ..utils.paths import project_folder
    from .tables.run import show_rows, show_run

    recipe = project_folder("recipes") / "data" / "demo.yaml"
    console.print(
        "[bold]star_hf demo[/bold]: all stages on a few mild questions, with an embedded model of 135M parameters. "
        "It shows how it works and the format of the data set, not the quality.\n"
    )
    run = run_build(_configuration(recipe, run_dir, {"collect__questions": questions}), run_dir)
    show_run(run)
    show_rows(run)
    trained = _train_demo(run_dir) if train else None
    if missing("plotly"):
        say(f"\nFor a report of the run: {install('report')}")
        return
    from ..report import write_report

    say(f"The report of this run, to open in a browser: {write_report(run, training=trained)}")


def _train_demo(run_dir: Path) -> Path | None:
    """Fine-tune on the starter set, if the packages are installed, compare the models, and return the new one's
    folder."""
    if missing("trl"):
        say(f"\nTo train a model: {install('train')}")
        return None
    from ..demo.before_after import before_after, draw
    from ..demo.train import train_demo
    from .tables.run import show_before_after

    console.print(
        "\n[bold]Before and after[/bold]: the same model, fine-tuned on the starter set, 96 rows that ship with "
        "star_hf, and asked 60 other questions.\n"
    )
    base, tuned = (run_dir / "model" / name for name in ("base", "tuned"))
    record = train_demo(base.parent)
    (_, first), *_, (updates, last) = record.curve
    say(
        f"Trained in {updates} updates and {record.seconds:.0f} s: the loss went from {first:.2f} to {last:.2f}. "
        f"The model and the loss curve: {tuned}, loss.png\n"
    )
    before, after = before_after(base, tuned, run_dir)
    show_before_after(before, after)
    if not missing("matplotlib"):
        say(f"As a picture: {draw(before, after, run_dir / 'before_after.png')}")
    return tuned


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
        typer.Option(help="Accepted share of rows per stage without a usable response.", show_default="0.02"),
    ] = None,
    accept_unavailable: Annotated[
        bool,
        typer.Option("--accept-unavailable", help="Remove rows whose requests all fail, as `unavailable`."),
    ] = False,
    budget: Annotated[
        float | None, typer.Option(help="Maximum cost of the run in dollars. It stops before it exceeds this.")
    ] = None,
    batch: Annotated[
        bool,
        typer.Option("--batch", help="Use the Batch API of OpenAI and Azure: half the price, within a day."),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Run the free stages (collect, deduplicate), and forecast the cost of the others."
        ),
    ] = False,
) -> None:
    """Build a data set, or continue an interrupted build.

    Stages: collect, deduplicate, classify, reason, score, select, rewrite. A finished stage does not run again, and no
    response is paid for twice.

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
        show_run(run)
        show_forecast(forecast(settings, run))
        return
    show_run(run_build(settings, run_dir, until=until, budget_usd=budget))


From = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="DATA", help="Begin a run with rows that exist: a file, a folder, an id on the Hub."
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(metavar="ROLE=NAME", help="Name of the column with the `question`, `response`, ... Can be repeated."),
]
Name = Annotated[str | None, typer.Option(help="Configuration of the data on the Hub or in a folder.")]
Split = Annotated[str | None, typer.Option(help="Split of the data.", show_default="train")]
Revision = Annotated[str | None, typer.Option(help="Revision of the data on the Hub.")]


def _run_stage(
    stage: str,
    run_dir: Path | None,
    config: Path | None,
    data: str | None = None,
    column: list[str] | None = None,
    **options: Any,
) -> None:
    """Run one stage on the tables in the run directory, or on given data."""
    from ..pipeline.build import build as run_build
    from ..pipeline.given import Given
    from .tables.run import show_run

    size = options.pop("size", None)
    given = None
    if data is not None:
        given = Given(data, columns=dict(map(pair, column or ())), **options)
    elif column or any(options.values()):
        raise ConfigError("These options describe the data of `--from`, which is not given.", "Give --from DATA.")
    if run_dir is None and data is not None:
        run_dir = Path("runs") / (Path(data).name.partition(".")[0].lower() or "given")
    if run_dir is None:
        raise ConfigError("No run directory is given.", f"Give one: star-hf {stage} --run-dir runs/star-1")
    settings = _configuration(config, run_dir, {"select__size": size})
    show_run(run_build(settings, run_dir, only=stage, given=given))
    if data is not None:
        say(f"The run is in {run_dir}.")


@app.command(rich_help_panel=STAGES)
def collect(run_dir: Annotated[Path, typer.Option(help="The run's directory.")], config: Config = None) -> None:
    """Read the sources and the held-out sets into one schema (paper, Section 2.1).

    Without `--config` the run's own configuration is used.
    """
    _run_stage("collect", run_dir, config)


def _stage_command(stage: str, summary: str) -> None:
    """Add the command that runs one stage on the tables in the run directory, or on given data."""

    def command(
        run_dir: StageRunDir = None,
        config: Config = None,
        data: From = None,
        column: Columns = None,
        name: Name = None,
        split: Split = None,
        revision: Revision = None,
    ) -> None:
        _run_stage(stage, run_dir, config, data, column, name=name, split=split, revision=revision)

    command.__doc__ = f"{summary}\n\n{HOW}"
    app.command(stage, rich_help_panel=STAGES)(command)


HOW = (
    "Without `--config` the run's own configuration is used. With `--from` the run begins with rows that exist, and "
    "later stages go on from there."
)

for _stage, _summary in {
    "deduplicate": "Remove near-duplicates and overlaps with benchmarks (Section 2.1).",
    "classify": "Classify each question into the policies' categories (Section 2.2).",
    "reason": "Ask the teacher for a response: reasoning about the policies, then an answer (Section 2.2).",
    "score": "Score each response 0-10 on three criteria (Section 2.3).",
}.items():
    _stage_command(_stage, _summary)


@app.command(rich_help_panel=STAGES)
def select(
    run_dir: StageRunDir = None,
    config: Config = None,
    size: Annotated[int | None, typer.Option(help="Rows to select.", show_default="1,000", min=1)] = None,
    data: From = None,
    column: Columns = None,
    name: Name = None,
    split: Split = None,
    revision: Revision = None,
) -> None:
    """Keep rows with full marks and select a small, diverse set (Section 2.3).

    Without `--config` the run's own configuration is used.

    **Example:** `star-hf select --from scored.parquet --size 1000 --run-dir runs/mine`
    """
    _run_stage("select", run_dir, config, data, column, name=name, split=split, revision=revision, size=size)


_stage_command("rewrite", "Write the benign twin of each selected row (Section 4.3, Appendix E).")


@app.command(rich_help_panel=DATA)
def explain(
    row_id: Annotated[str, typer.Argument(metavar="ID", help="A row's id, 16 hex digits.")],
    run_dir: Annotated[Path, typer.Option(help="The run's directory.")],
) -> None:
    """Show the history of a row: its source, why it was removed and what it matched, or its category, scores and cost.

    **Example:** `star-hf explain 0123456789abcdef --run-dir runs/star-1`
    """
    from ..pipeline.explain import explain as tell
    from ..pipeline.run import Run
    from .tables.run import show_story

    show_story(row_id, tell(Run(run_dir), row_id))


def _configuration(config: Path | None, run_dir: Path, overrides: dict[str, Any]) -> Any:
    """The recipe's configuration; without a recipe that of the run, or the defaults for a new one."""
    from ..pipeline.config import load_config
    from ..pipeline.run import Run

    run, earlier = Run(run_dir), None
    if config is None and not run.is_new:
        _ = run.config  # which must be whole: others would be paid for
        earlier = run.manifest["config"]
    return load_config(config, base=earlier, **overrides)
