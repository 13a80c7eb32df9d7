"""`star-hf policy check`: read a policy as a reviewer would."""

from pathlib import Path
from typing import Annotated

import typer

from ..tables.layout import console, say


__all__ = ["check"]

STYLES = {"error": "bold red", "warning": "yellow"}


def check(
    policy: Annotated[Path, typer.Argument(metavar="FILE", help="The policy (YAML).")],
    config: Annotated[
        Path | None,
        typer.Option(
            help="A recipe: its `scorer` reviews the policy, its `classifier` sorts the questions of --suite."
        ),
    ] = None,
    suite: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Questions about the policy, to see whether its categories can be told apart."
        ),
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Where replies are kept.", show_default="runs/<name of the file>")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 for warnings, too.")] = False,
) -> None:
    """Check a policy: kinds of response that are missing, repetitions, contradictions, vague words.

    Without --config no model is asked, and contradictions between rules that use different words are not found. Exit
    code 0: no error; 1: at least one; 2: the file is no policy.

    **Example:** `star-hf policy check my.yaml --config recipes/data/star_1.yaml --suite suite.yaml`
    """
    from ...errors import ConfigError
    from ...llm import Journal
    from ...pipeline.config import load_config
    from ...policies import Prompts, Suite, Taxonomy
    from ...suites.checking import VAGUE, categories_apart, lines_of, review, review_by_model
    from ...utils.files import locked, made_folder

    if suite is not None and config is None:
        raise ConfigError("--suite needs a model that sorts its questions.", "Name a recipe with --config.")
    taxonomy, lines = Taxonomy.load(policy), lines_of(policy)
    questions = None if suite is None else Suite.load(suite)
    if questions is not None:
        questions.check(taxonomy, suite)  # before anything is paid
    found = review(taxonomy, lines)
    if config is not None:
        recipe = load_config(config)
        prompts, folder = Prompts.load(recipe.prompts), made_folder(run_dir or Path("runs") / policy.stem)
        with locked(folder), Journal(folder / "journal.sqlite") as journal:
            found += review_by_model(taxonomy, recipe.endpoints.scorer, journal, lines, prompts=prompts)
            if questions is not None:
                asked = recipe.endpoints.classifier, journal, lines
                found += categories_apart(taxonomy, questions, *asked, prompts=prompts)
    for remark in found:
        place = policy if remark.line is None else f"{policy}:{remark.line}"
        say(f"{place}: {remark.level}: {remark.where}: {remark.text} ({remark.check})", STYLES[remark.level])
    if taxonomy.language.lower().partition("-")[0] not in VAGUE:
        say(f"Not checked: vague words, which are known for {', '.join(sorted(VAGUE))} only.")
    if config is None:
        say("Not checked: what only a model can see. Name a recipe with --config.")
    errors = sum(remark.level == "error" for remark in found)
    console.print(
        f"{len(taxonomy.names)} categories: {errors} errors, {len(found) - errors} warnings.", highlight=False
    )
    if errors or (strict and found):
        raise typer.Exit(1)
