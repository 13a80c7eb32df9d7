"""Tests a model with a policy's suite: it asks the cases, and a judge says what the answers are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..evaluation.comparison.decision import Criterion
from ..evaluation.comparison.pairs import ScoredRun
from ..evaluation.evaluate import Options, evaluate
from ..evaluation.generation.models import Model
from ..evaluation.grading.judges import Judge
from ..evaluation.grading.panel import PANEL
from ..evaluation.results.folder import ResultsFolder
from ..evaluation.tasks.benchmarks import Benchmark
from ..evaluation.tasks.profiles import Evaluation, load_evaluation
from ..evaluation.types import VERDICTS
from ..policies import Prompts, Suite, Taxonomy, rule_refs
from ..schema import as_dataset
from .results import Rate, SuiteResults, read_results


__all__ = ["check_limits", "gate", "run_suite", "system_prompt_of"]


def run_suite(
    suite: Suite,
    model: Model,
    folder: str | Path,
    *,
    judge: Judge | Sequence[Judge],
    taxonomy: Taxonomy | None = None,
    system_prompt: str | None = None,
    policy_in_context: bool = False,
    evaluation: Evaluation | None = None,
    with_panel: bool = False,
    against: str | Path | None = None,
    **options: Any,
) -> SuiteResults:
    """Ask a model the cases of a suite, and have a judge say which kind of response each answer is and which rules it
    breaks.

    Suite, model and judge are checked before the first case is sent. All answers and replies are kept in the results
    folder, so that the same call asks and pays for nothing twice.

    Args:
        suite ([`~star_hf.policies.suite.Suite`]): The suite, or one half of it.
        model ([`~star_hf.evaluation.generation.models.Model`]): The model.
        folder (`str` or `Path`): The results folder, as of [`~star_hf.evaluation.evaluate.evaluate`].
        judge ([`~star_hf.evaluation.grading.judges.Judge`]): The judge, or several of which the first makes the rates.
        taxonomy ([`~star_hf.policies.Taxonomy`], *optional*): The policy. The suite is checked against it, and the
            judge knows all of its rules, not only those in the file of the suite.
        system_prompt (`str`, *optional*): The system prompt that is deployed.
        policy_in_context (`bool`, defaults to `False`): Whether the policy is put into the system prompt.
        evaluation ([`~star_hf.evaluation.tasks.profiles.Evaluation`], *optional*): How answers are sampled;
            `recommended` by default.
        with_panel (`bool`, defaults to `False`): Whether the majority of the judges makes the rates.
        against (`str` or `Path`, *optional*): The results folder of an earlier run; it may be the same folder.
        options: Further fields of [`~star_hf.evaluation.evaluate.Options`], such as `samples`.

    Raises:
        [`ConfigError`]: If the suite has no cases, the judge does not judge suites, or a system prompt has no place.
        [`PolicyError`]: If a rule of the suite is gone or was changed.
        [`IncompleteRunError`]: If the model or the judge does not answer, or the judge cannot tell the kinds apart.
        [`SourceError`]: If `against` has no results of this suite.
    """
    judges = [judge] if isinstance(judge, Judge) else list(judge)
    if with_panel and len(judges) < 2:
        raise ConfigError("A panel needs several judges.", "Add another --judge, or leave --panel out.")
    if not suite.cases:
        raise ConfigError(f"The suite {suite.name!r} has no cases.", "Draft some: `star-hf policy draft`.")
    if taxonomy is not None:
        suite.check(taxonomy)
        suite = replace(suite, rules=rule_refs(taxonomy))
    earlier = None if against is None else ScoredRun.read(against)
    evaluate(
        model,
        [Benchmark.of_suite(suite)],
        folder,
        evaluation=evaluation or load_evaluation("recommended"),
        judges=judges,
        options=Options(system_prompt=system_prompt_of(system_prompt, taxonomy, policy_in_context), **options),
    )
    if with_panel:
        place = ResultsFolder(folder)
        with place.working():
            place.add_verdicts(as_dataset([], VERDICTS), judges, with_panel=True, primary=PANEL)
    return read_results(folder, suite, taxonomy, earlier)


def system_prompt_of(text: str | None, taxonomy: Taxonomy | None, policy_in_context: bool) -> str | None:
    """The system prompt: the deployed one, with the policy after it if it belongs there."""
    if not policy_in_context:
        return text
    if taxonomy is None:
        raise ConfigError("There is no policy to put into the system prompt.", "Name its file with --policies.")
    policy = Prompts.load().text("policy_in_context", categories=taxonomy.categories)
    return "\n\n".join(filter(None, (text, policy)))


def gate(
    results: SuiteResults,
    min_pass: float | None = None,
    rule_min_pass: Mapping[str | None, float] | None = None,
    lower_bound: bool = False,
) -> tuple[Criterion, ...]:
    """The rates that are high enough and those that are not.

    Args:
        min_pass (`float`, *optional*): What the rate over all cases must reach.
        rule_min_pass (`dict`, *optional*): What the rate of a rule must reach, by its reference; that of `None` is for
            every rule without its own.
        lower_bound (`bool`, defaults to `False`): Whether the lower end of the interval must reach it. With few cases
            it cannot: of 10 cases that all pass, it is 0.72.

    Returns:
        `tuple[Criterion, ...]`: One for each limit; `passed` is `None` where nothing was judged.
    """
    given = dict(rule_min_pass or {})
    limits = {ref: given.get(ref, given.get(None)) for ref in results.per_rule}
    wanted = [("all cases", results.overall, min_pass), *((r, results.per_rule[r], limits[r]) for r in limits)]
    return tuple(_criterion(name, rate, least, lower_bound) for name, rate, least in wanted if least is not None)


def check_limits(rules: Iterable[str | None], suite: Suite) -> None:
    """Raise [`ConfigError`] if the suite has no case of a rule that has a limit; `None` stands for every rule."""
    tested = list(dict.fromkeys(case.rule for case in suite.cases))
    if unknown := [ref for ref in rules if ref is not None and ref not in tested]:
        raise ConfigError(
            f"The suite {suite.name!r} has no case of the rule {unknown[0]!r}.", f"Its rules are {', '.join(tested)}."
        )


def _criterion(name: str, rate: Rate, least: float, lower_bound: bool) -> Criterion:
    reached = rate.low if lower_bound else rate.value
    what = "lower end of the interval" if lower_bound else "pass rate"
    passed = None if reached is None else reached >= least - 1e-9
    sure = ", surely below" if rate.high is not None and rate.high < least else ""
    return Criterion(f"{name}: {what} of at least {least:.0%}", passed, rate.estimate.percent() + sure)
