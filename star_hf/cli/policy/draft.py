"""`star-hf policy draft`: a suite of cases for a policy."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..tables.layout import console, new_table, number, say


if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["draft"]

LEFT_OUT = "left_out.parquet"
FORGET = "Remove it: removed cases may then come back."


def draft(
    policies: Annotated[Path, typer.Option(metavar="FILE", help="The policy (YAML).")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The suite. Cases that it has already stay as they are.")],
    config: Annotated[
        Path | None,
        typer.Option(help="A recipe: its `rewriter` writes the cases, its `scorer` checks them, with its `prompts`."),
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Where replies are kept.", show_default="runs/<suite's name>")
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(metavar="REF", help="Draft for this rule only: 'Loans#rule-2'. Can be repeated."),
    ] = None,
    per_rule: Annotated[int, typer.Option(help="Cases per rule. Seven have all styles.", min=2, max=40)] = 8,
    seed: Annotated[int, typer.Option(help="Decides the halves where nothing else does.")] = 0,
    budget: Annotated[
        float | None, typer.Option(help="Maximum cost of the draft in dollars. It stops before it exceeds this.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Forecast requests and cost; send nothing.")] = False,
) -> None:
    """Draft the cases that test a policy: plain, borderline and adversarial questions, and harmless twins.

    For each rule, one model writes the cases and another says, without knowing why they were written, whether they
    test the rule and what the policy wants. Cases that are like another are left out, and the rest is cut into a
    training half and a sealed half that are unlike each other. Edit the file as you like: an edited or added case
    stays, a case that you have removed does not come back.

    If it is interrupted, run the same command again: no reply is paid for twice.

    **Example:** `star-hf policy draft --policies bank.yaml --out suite.yaml --dry-run`
    """
    from ...errors import IncompleteRunError, StarError
    from ...llm import Budget, Journal
    from ...pipeline.config import load_config
    from ...policies import Prompts, Suite, Taxonomy
    from ...suites.drafting import Drafting, forecast_draft
    from ...suites.drafting import draft as draft_suite
    from ...utils.files import locked, made_folder, read_json, write_json, write_table
    from ..tables.run import show_forecast

    taxonomy, recipe = Taxonomy.load(policies), load_config(config)
    keep = Suite.load(out) if out.exists() else None
    if keep is not None:
        keep.check(taxonomy, out)
    folder = made_folder(run_dir or Path("runs") / out.stem)
    compare = {"cache_dir": folder / "vectors"}
    options = Drafting(per_rule, rule, seed=seed, prompts=Prompts.load(recipe.prompts), compare=compare)
    writer, checker = recipe.endpoints.rewriter, recipe.endpoints.scorer
    known = folder / "drafted.json"
    with locked(folder), Journal(folder / "journal.sqlite") as journal:
        if dry_run:
            stages = forecast_draft(taxonomy, writer, journal, checker=checker, keep=keep, options=options)
            show_forecast(stages)
            return
        before = read_json(known, FORGET).get("ids", []) if known.exists() else []
        if not isinstance(before, list) or not all(isinstance(name, str) for name in before):
            raise StarError(f"{known} is damaged: `ids` is not a list of texts.", FORGET)
        # Where the whole suite was removed, it is to be made again, not to stay empty.
        deleted = set() if keep is None else set(before) - {case.id for case in keep.cases}
        done = draft_suite(
            taxonomy,
            writer,
            journal,
            checker=checker,
            keep=keep,
            deleted=deleted,
            options=options,
            budget=None if budget is None else Budget(budget, journal.cost()),
        )
        write_table(_with_earlier(done.removed, folder / LEFT_OUT), folder / LEFT_OUT)
        done.suite.save(out)
        drafted = {case.id for case in done.suite.cases if case.origin == "drafted"}
        write_json(known, {"ids": sorted({*before, *drafted})})
    table = new_table("Cases", "style", *map(number, ("sealed", "training")))
    for style in ("plain", "borderline", "adversarial", "allowed"):
        halves = (done.suite.half(half).cases for half in ("sealed", "training"))
        table.add_row(style, *(str(sum(case.style == style for case in cases)) for cases in halves))
    console.print(table)
    same = "by the same model: a recipe may name another `scorer`" if writer.identity() == checker.identity() else ""
    say(f"Checked {same or 'by ' + checker.model}. Left out: {len(done.removed)}, see {folder / LEFT_OUT}.")
    say(f"The suite: {out}. Next: star-hf policy test --suite {out} --model ...")
    if done.uncovered:
        lines = "\n".join(f"  {ref}: {why}" for ref, why in done.uncovered.items())
        raise IncompleteRunError(
            f"{len(done.uncovered)} rules are not covered in both halves:\n{lines}",
            "Write cases for them into the suite, raise --per-rule, or use another model.",
        )


def _with_earlier(removed: "Dataset", path: Path) -> "Dataset":
    """What was left out by this draft and, before it, by earlier ones of the same folder; each row once."""
    from ...schema import as_dataset
    from ...utils.files import read_table

    earlier = read_table(path, "Remove it: only the list of what was left out is lost.") if path.exists() else []
    rows = {repr(row): row for row in (*earlier, *removed)}
    return as_dataset(rows.values(), removed.features)
