"""`star-hf policy test`: a model against the cases of a suite."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ..evaluate import (
    BaseUrl,
    BatchSize,
    BudgetUsd,
    Concurrency,
    Device,
    DType,
    EndpointFile,
    ExpectsReasoning,
    Fingerprint,
    JudgeSpecs,
    MaxTokens,
    ModelName,
    Output,
    ProfileName,
    ProviderName,
    Revision,
    SystemPrompt,
    model_of,
)
from ..tables.layout import console, new_table, number, say


if TYPE_CHECKING:
    from ...evaluation.comparison.decision import Criterion
    from ...suites.results import SuiteResults


__all__ = ["test"]

OFFLINE = "`refusal` tells refusals only, no other kind: use a judge with a model."
AGAIN = "Fix the cause (token limit, judge, endpoint) and run the same command again."

MARKS = {False: Text("no", "bold red"), None: Text("not judged", "yellow")}


def test(
    suite: Annotated[Path, typer.Option(metavar="FILE", help="The suite, such as suite.yaml.")],
    model: ModelName,
    judge: JudgeSpecs = None,
    policies: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The policy: checks the suite against it and lists rules without a case."),
    ] = None,
    half: Annotated[
        str, typer.Option(help="The cases to ask: `all`, or the half `sealed` or `training`.", metavar="HALF")
    ] = "all",
    system_prompt: SystemPrompt = None,
    policy_in_context: Annotated[
        bool, typer.Option("--policy-in-context", help="Put the policy of --policies into the system prompt.")
    ] = False,
    samples: Annotated[int | None, typer.Option(help="Responses per case.", min=1, show_default="1")] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="RESULTS", help="Show what changed since this earlier results folder.")
    ] = None,
    min_pass: Annotated[
        float | None, typer.Option(help="Minimum pass rate over all cases; below it the exit code is 1.", min=0, max=1)
    ] = None,
    rule_min_pass: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[RULE=]RATE",
            help="Minimum pass rate of each rule, or of one: 'Loans#rule-2=0.95'. Can be repeated.",
        ),
    ] = None,
    lower_bound: Annotated[
        bool, typer.Option("--lower-bound", help="Compare limits with the lower end of the 95 % intervals.")
    ] = False,
    panel: Annotated[bool, typer.Option("--panel", help="Let the majority of several judges make the rates.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all numbers.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the tables as Markdown.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page, with the failed answers.")] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write JUnit XML for a CI system.")] = None,
    profile: ProfileName = "recommended",
    output: Output = None,
    base_url: BaseUrl = None,
    provider: ProviderName = None,
    endpoint: EndpointFile = None,
    fingerprint: Fingerprint = None,
    revision: Revision = None,
    max_tokens: MaxTokens = None,
    expects_reasoning: ExpectsReasoning = False,
    batch_size: BatchSize = 8,
    dtype: DType = "auto",
    device: Device = None,
    concurrency: Concurrency = 64,
    budget: BudgetUsd = None,
    max_failures: Annotated[
        float, typer.Option(help="Accepted share of responses that were not judged.", min=0, max=1)
    ] = 0.1,
) -> None:
    """Test whether a model follows a policy: ask the cases of a suite, and judge the answers rule by rule.

    Exit code 0: every limit is reached; 1: one is not; 2: wrong input; 3: incomplete, or too many answers not judged.
    If it is interrupted, run the same command again: nothing is generated or judged twice.

    **Example:** `star-hf policy test --suite suite.yaml --model my-model --base-url http://localhost:8000/v1
    --judge gpt-4o --min-pass 0.9 --junit report.xml`
    """
    from ...errors import ConfigError, IncompleteRunError
    from ...evaluation.evaluate import results_folder
    from ...evaluation.grading.judges import load_judge
    from ...evaluation.tasks.profiles import load_evaluation
    from ...policies import Suite, Taxonomy
    from ...suites.report import write_reports
    from ...suites.testing import check_limits, gate, run_suite
    from ...utils.files import read_text

    evaluation, taxonomy = load_evaluation(profile), policies and Taxonomy.load(policies)
    cases = Suite.load(suite)
    if half not in ("all", "sealed", "training"):
        raise ConfigError(f"There is no half {half!r}.", "Use all, sealed or training.")
    cases = cases if half == "all" else cases.half(half)
    limits = _limits(rule_min_pass or [])
    check_limits(limits, cases)
    judges = [load_judge(spec) for spec in judge or ()]
    there = {"base_url": base_url, "provider": provider, "endpoint": endpoint, "fingerprint": fingerprint}
    here = {"revision": revision, "batch_size": batch_size, "dtype": dtype, "device": device}
    parts = [system_prompt.stem] if system_prompt else []
    name = "-".join([*parts, *(["policy"] if policy_in_context else [])])
    folder = output or results_folder(model, evaluation.name, prompt=name or None)
    results = run_suite(
        cases,
        model_of(model, **there, concurrency=concurrency, **here),
        folder,
        judge=judges,
        taxonomy=taxonomy,
        system_prompt=None if system_prompt is None else read_text(system_prompt, "the system prompt"),
        policy_in_context=policy_in_context,
        evaluation=evaluation,
        with_panel=panel,
        against=against,
        samples=samples or 1,
        max_tokens=max_tokens,
        expects_reasoning=expects_reasoning,
        budget_usd=budget,
    )
    checks = gate(results, min_pass, limits, lower_bound)
    written = write_reports(results, checks, json=json_file, markdown=markdown, html=html, junit=junit)
    _show(results, checks)
    say(f"Written to {', '.join(map(str, [folder, *written]))}")
    missing = results.overall.not_judged
    if missing > max_failures * len(results.cases) or not results.overall.total:
        raise IncompleteRunError(
            f"{missing} of {len(results.cases)} answers were not judged ({_reasons(results)}), more than the accepted "
            f"share of {max_failures:.0%}.",
            (OFFLINE if "kind_unknown" in results.failures else AGAIN) + " Or accept a larger share: --max-failures.",
        )
    outcomes = {check.passed for check in checks}
    raise typer.Exit(1 if False in outcomes else 3 if None in outcomes else 0)


def _limits(given: list[str]) -> dict[str | None, float]:
    """The limits by rule; that of `None` is for every other rule."""
    from ...errors import ConfigError

    limits: dict[str | None, float] = {}
    for text in given:
        ref, _, rate = text.rpartition("=")
        try:
            limits[ref or None] = float(rate)
        except ValueError:
            limits[ref or None] = -1.0
        if not 0 <= limits[ref or None] <= 1:
            raise ConfigError(f"Invalid limit {text!r}.", "Write RATE or RULE=RATE with a rate from 0 to 1.")
    return limits


def _show(results: "SuiteResults", checks: "tuple[Criterion, ...]") -> None:
    from ...suites.report import columns_of

    title = f"{results.name}: {results.model}, judged by {results.judge}, in percent"
    table = new_table(title, "rule", *map(number, ("passed", "rate", "95 % interval", "not judged", "broken by")))
    rates = [*results.per_rule.items(), ("all cases", results.overall)]
    for name, rate in rates:
        table.add_row(
            Text(name, "bold" if name == "all cases" else ""),
            f"{rate.passed} of {rate.total}",
            rate.estimate.percent(interval=False),
            rate.estimate.interval(),
            str(rate.not_judged or ""),
            str(results.broken.get(name, "")),
        )
    for style, rate in results.per_style.items():
        numbers = (rate.estimate.percent(interval=False), rate.estimate.interval(), str(rate.not_judged or ""), "")
        table.add_row(style, f"{rate.passed} of {rate.total}", *numbers, style="dim")
    console.print(table)
    columns = columns_of(results)
    kinds = new_table("Expected kinds against observed kinds", "expected", *map(number, columns))
    for expected, found in results.matrix.items():
        kinds.add_row(expected, *(str(found.get(column, "")) for column in columns))
    console.print(kinds)
    if results.uncovered:
        say(f"Rules without a case: {', '.join(results.uncovered)}")
    if results.failures:
        say(f"Not judged: {_reasons(results)}; they are part of no rate.")
    _show_change(results)
    if worst := results.worst:
        say(f"{len(worst)} answers did not pass, such as:")
        for each in worst[:10]:
            say(f"- {each.case.id} ({each.case.rule}, {each.case.style}): {each.what}")
    if checks:
        missed = [check for check in checks if check.passed is not True]
        limits = new_table("Limits that are not reached", "limit", "reached", "rate")
        for check in missed:
            limits.add_row(Text(check.name), MARKS[check.passed], check.detail)
        if missed:
            console.print(limits)
        say(f"{len(checks) - len(missed)} of {len(checks)} limits are reached.", "bold red" if missed else "green")


def _reasons(results: "SuiteResults") -> str:
    return ", ".join(f"{count} {reason}" for reason, count in results.failures.items())


def _show_change(results: "SuiteResults") -> None:
    change = results.change
    if change is None:
        return
    total = change.difference
    p_value = "" if total.p_value is None else f", p = {total.p_value:.2g}"
    say(f"Against {change.earlier}: {total.percent(sign=True)} percent over {total.n} cases{p_value}")
    for ref, each in change.rules.items():
        if each.better or each.worse:
            say(f"- {ref}: {each.percent(sign=True)} (p = {each.p_value:.2g})")
    if change.broken:
        say(f"- worse now: {', '.join(change.broken[:20])}")
    for note in change.notes:
        say(f"- {note}")
