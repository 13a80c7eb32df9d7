"""`star-hf publish` and `star-hf verify`: to the Hub with a card, and a look at what lies there."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from ..errors import ConfigError, StarError
from .panels import SHARING


if TYPE_CHECKING:
    from ..hub.release import Release, ReleasePlan


__all__ = ["app", "publishing"]

app = typer.Typer()
publishing = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
console = Console()


def _named(repo_id: str) -> str:
    """Found before anything is audited."""
    if repo_id.count("/") != 1:
        raise ConfigError(f"{repo_id!r} is not the id of a repository.", "Give --repo-id as `owner/name`.")
    return repo_id


RepoId = Annotated[str, typer.Option(help="Where, as `owner/name`.", metavar="OWNER/NAME", callback=_named)]
Private = Annotated[
    bool | None,
    typer.Option(
        "--private/--public", help="Who sees it.", show_default="private; a repository that is there stays as it is"
    ),
]
Gated = Annotated[
    bool, typer.Option("--gated", help="Let people accept conditions first, before anything can be downloaded.")
]
Collection = Annotated[str | None, typer.Option(help="Title of your collection to add it to.", metavar="TITLE")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite-edits", help="Replace what was edited by hand in generated parts of the card.")
]
BaseResults = Annotated[
    Path | None, typer.Option(help="Results folder of the base model, to stand beside.", metavar="DIR")
]
AttackResults = Annotated[
    list[Path] | None,
    typer.Option(help="Results folder of the model under an attack. Can be given again.", metavar="DIR"),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be pushed, and push nothing.")]
License = Annotated[
    str | None, typer.Option(help="The licence, as the Hub spells it.", show_default="what the sources make of it")
]


@publishing.command()
def dataset(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The directory of a finished run.")],
    repo_id: RepoId,
    private: Private = None,
    gated: Gated = False,
    license: License = None,
    collection: Collection = None,
    allow_findings: Annotated[
        bool, typer.Option("--allow-findings", help="Publish even with contamination or malformed rows.")
    ] = False,
    sources_dir: Annotated[
        Path | None, typer.Option(help="Local copies of the benchmarks to look for: DIR/NAME/FILE.")
    ] = None,
    overwrite_edits: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Publish a run's data set, or bring a published one up to date.

    The rows are audited first. Data, card and hashes then appear in one commit, which gets a tag.

    **Example:** `star-hf publish dataset runs/star-1 --repo-id me/star-1`
    """
    from ..hub.dataset_release import dataset_release

    release = dataset_release(
        run, repo_id, license=license, allow_findings=allow_findings, sources_dir=sources_dir, progress=True
    )
    _publish(release, repo_id, private, gated, collection, overwrite_edits, dry_run)


@publishing.command()
def model(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The output folder of recipes/sft.py.")],
    repo_id: RepoId,
    results: Annotated[Path | None, typer.Option(help="The model's results folder.", metavar="DIR")] = None,
    base_results: BaseResults = None,
    attack_results: AttackResults = None,
    private: Private = None,
    gated: Gated = False,
    license: Annotated[
        str | None, typer.Option(help="The licence, as the Hub spells it.", show_default="that of the base model")
    ] = None,
    collection: Collection = None,
    overwrite_edits: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Publish a trained model, with base, data, recipe, check and results on its card.

    **Example:** `star-hf publish model runs/DeepSeek-R1-Distill-Qwen-7B-star1 --repo-id me/safer-7b`
    """
    from ..hub.model_release import model_release

    release = model_release(
        folder,
        repo_id,
        results=results,
        base_results=base_results,
        attack_results=attack_results or (),
        license=license,
    )
    _publish(release, repo_id, private, gated, collection, overwrite_edits, dry_run)


@publishing.command()
def results(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="A results folder of `star-hf evaluate`.")],
    repo_id: RepoId,
    base_results: BaseResults = None,
    attack_results: AttackResults = None,
    overwrite_edits: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Put results onto a model that is on the Hub: its card, `model-index`, and leaderboards. No answer is uploaded.

    **Example:** `star-hf publish results results/safer-7b/recommended --repo-id me/safer-7b`
    """
    from ..hub.model_release import results_release

    release = results_release(results, repo_id, base_results=base_results, attack_results=attack_results or ())
    _publish(release, repo_id, None, False, None, overwrite_edits, dry_run)


def _publish(
    release: "Release",
    repo_id: str,
    private: bool | None,
    gated: bool,
    collection: str | None,
    overwrite_edits: bool,
    dry_run: bool,
) -> None:
    """Publish a release, or show what that would do, and say what happened."""
    from ..hub.release import plan, publish

    for warning in release.warnings:
        console.print(Text(warning, style="yellow"))
    if dry_run:
        _show(plan(release, repo_id, private=private, overwrite_edits=overwrite_edits))
        console.print("Nothing was pushed.")
        return
    done = publish(
        release,
        repo_id,
        private=private,
        gated="auto" if gated else None,
        collection=collection,
        overwrite_edits=overwrite_edits,
    )
    _show(done.plan)
    console.print(Text(f"{done.url} at {done.tag} ({done.commit[:8]})"))


def _show(change: "ReleasePlan") -> None:
    """What would change, or did."""
    place = f"{change.repo_id}, {'private' if change.private else 'public'}"
    console.print(Text(f"{place}, {'new' if change.parent is None else f'on top of {change.parent[:8]}'}:"))
    for path, size in sorted(change.sizes.items()):
        console.print(Text(f"  push    {path} ({size:,} bytes)"))
    for path in change.delete:
        console.print(Text(f"  delete  {path}"))
    for path in change.same:
        console.print(Text(f"  there   {path}", style="dim"))
    if change.card.kept:
        edits = ", ".join(change.card.kept)
        console.print(Text(f"Kept in the card as people edited it: {edits}. --overwrite-edits replaces it.", "yellow"))


@app.command(rich_help_panel=SHARING)
def verify(
    repo_id: Annotated[str, typer.Argument(metavar="REPO", help="A published data set or model, as `owner/name`.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.", show_default="main")] = None,
    sources_dir: Annotated[
        Path | None, typer.Option(help="Local copies of the benchmarks to look for: DIR/NAME/FILE.")
    ] = None,
) -> None:
    """Look whether what lies on the Hub is what was published: hashes, counts, schema, card, contamination.

    Exit code 1 says that it is not.

    **Example:** `star-hf verify me/star-1`
    """
    from ..hub.verification import verify as verify_repository

    found = verify_repository(repo_id, revision=revision, sources_dir=sources_dir, progress=True)
    console.print(Text(f"{found.repo_id} at {found.commit[:8]}:"))
    for check in found.checks:
        mark = ("ok   ", "green") if check.ok else ("wrong", "bold red")
        console.print(Text.assemble("  ", mark, f"  {check.name}: ", ("; ".join(check.notes), "dim")))
        for problem in check.problems:
            console.print(Text(f"           {problem}", "red"))
    if not found.ok:
        raise StarError(
            f"{repo_id} is not what was published.",
            "Publish it again with `star-hf publish`, or name a good revision with --revision.",
        )
