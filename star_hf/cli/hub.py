"""`star-hf publish` and `star-hf verify`: publish on the Hub with a card, and check what is published."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ..errors import ConfigError, StarError
from ..utils.text import counted
from .panels import SHARING
from .tables.layout import console, say


if TYPE_CHECKING:
    from ..hub.release import Release, ReleasePlan


__all__ = ["app", "publishing"]

app = typer.Typer()
publishing = typer.Typer(
    name="publish",
    help="Publish a data set, a model or results on the Hub, with a card.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


def _named(repo_id: str) -> str:
    """Refuse a wrong name before anything is audited."""
    if repo_id.count("/") != 1:
        raise ConfigError(f"Invalid repository id {repo_id!r}.", "Give --repo-id as `owner/name`.")
    return repo_id


RepoId = Annotated[str, typer.Option(help="The repository, as `owner/name`.", metavar="OWNER/NAME", callback=_named)]
Private = Annotated[
    bool | None,
    typer.Option(
        "--private/--public", help="Who can see it.", show_default="private; an existing repository stays as it is"
    ),
]
Gated = Annotated[
    bool, typer.Option("--gated", help="Require people to accept conditions before they download anything.")
]
Collection = Annotated[str | None, typer.Option(help="Add it to your collection with this title.", metavar="TITLE")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite-edits", help="Replace what people edited in the generated parts of the card.")
]
BaseResults = Annotated[
    Path | None, typer.Option(help="Results folder of the base model, to compare with.", metavar="DIR")
]
AttackResults = Annotated[
    list[Path] | None,
    typer.Option(help="Results folder of the model under an attack. Can be repeated.", metavar="DIR"),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be published, without publishing.")]
License = Annotated[
    str | None,
    typer.Option(help="The licence, in the Hub's spelling.", show_default="from the licences of the sources"),
]


@publishing.command()
def dataset(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The directory of a finished run.")],
    repo_id: RepoId,
    private: Private = None,
    gated: Gated = False,
    license: License = None,
    collection: Collection = None,
    scored: Annotated[bool, typer.Option("--scored", help="Publish all scored rows as well.")] = False,
    allow_findings: Annotated[
        bool, typer.Option("--allow-findings", help="Publish even if the audit finds contamination or malformed rows.")
    ] = False,
    sources_dir: Annotated[
        Path | None, typer.Option(help="Local copies of the benchmarks to search for: DIR/NAME/FILE.")
    ] = None,
    overwrite_edits: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Publish a run's data set, or update a published one.

    The rows are audited first. Data, card and hashes then appear in one commit, which gets a tag.

    **Example:** `star-hf publish dataset runs/star-1 --repo-id me/star-1`
    """
    from ..hub.dataset_release import dataset_release

    release = dataset_release(
        run,
        repo_id,
        license=license,
        scored=scored,
        allow_findings=allow_findings,
        sources_dir=sources_dir,
        progress=True,
    )
    _publish(release, repo_id, private, gated, collection, overwrite_edits, dry_run)


@publishing.command()
def model(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The output folder of a training, such as one by recipes/sft.py.")
    ],
    repo_id: RepoId,
    results: Annotated[Path | None, typer.Option(help="The model's results folder.", metavar="DIR")] = None,
    base_results: BaseResults = None,
    attack_results: AttackResults = None,
    private: Private = None,
    gated: Gated = False,
    license: Annotated[
        str | None,
        typer.Option(help="The licence, in the Hub's spelling.", show_default="the licence of the base model"),
    ] = None,
    collection: Collection = None,
    overwrite_edits: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Publish a trained model. Its card has the base model, data, recipe, pre-flight check and results.

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
    """Publish results on a model's page: its card, `model-index`, and leaderboards. No responses are uploaded.

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
    """Publish a release, or show what that would change."""
    from ..hub.release import plan, publish

    for warning in release.warnings:
        say(warning, "yellow")
    if dry_run:
        _show(plan(release, repo_id, private=private, overwrite_edits=overwrite_edits))
        say("Nothing was published.")
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
    say(f"{done.url} at {done.tag} ({done.commit[:8]})")


def _show(change: "ReleasePlan") -> None:
    """Print what would change, or changed."""
    place = f"{change.repo_id}, {'private' if change.private else 'public'}"
    say(f"{place}, {'new' if change.parent is None else f'on top of {change.parent[:8]}'}:")
    for path, size in sorted(change.sizes.items()):
        say(f"  push    {path} ({counted(size, 'byte')})")
    for path in change.delete:
        say(f"  delete  {path}")
    for path in change.same:
        say(f"  same    {path}", "dim")
    if change.card.kept:
        edits = ", ".join(change.card.kept)
        say(f"Edits kept in the card: {edits}. --overwrite-edits replaces them.", "yellow")


@app.command(rich_help_panel=SHARING)
def verify(
    repo_id: Annotated[str, typer.Argument(metavar="REPO", help="A published data set or model, as `owner/name`.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.", show_default="main")] = None,
    sources_dir: Annotated[
        Path | None, typer.Option(help="Local copies of the benchmarks to search for: DIR/NAME/FILE.")
    ] = None,
) -> None:
    """Check that the Hub has what was published: hashes, counts, schema, card, contamination.

    The exit code is 1 if something differs.

    **Example:** `star-hf verify me/star-1`
    """
    from ..hub.verification import verify as verify_repository

    found = verify_repository(repo_id, revision=revision, sources_dir=sources_dir, progress=True)
    say(f"{found.repo_id} at {found.commit[:8]}:")
    for check in found.checks:
        mark = ("ok   ", "green") if check.ok else ("wrong", "bold red")
        console.print(Text.assemble("  ", mark, f"  {check.name}: ", ("; ".join(check.notes), "dim")))
        for problem in check.problems:
            say(f"           {problem}", "red")
    if not found.ok:
        raise StarError(
            f"{repo_id} is not what was published.",
            "Publish it again with `star-hf publish`, or give a good revision with --revision.",
        )
