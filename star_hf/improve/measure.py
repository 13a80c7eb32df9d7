"""What a round measures: the model on the sealed half of the suite, and on benchmarks, in one results folder."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..evaluation.evaluate import Options, evaluate
from ..evaluation.generation.in_process import InProcess
from ..evaluation.generation.models import Model, Served
from ..evaluation.generation.weights import fingerprint
from ..evaluation.grading.judges import Judge, load_judge
from ..evaluation.results.folder import ResultsFolder
from ..evaluation.results.results import Results
from ..evaluation.tasks.benchmarks import select_benchmarks
from ..evaluation.tasks.profiles import load_evaluation
from ..llm import Journal
from ..policies import Suite, Taxonomy, rule_refs
from ..suites.plan import HELPFUL
from ..suites.results import Rate, SuiteResults, read_results
from ..suites.testing import run_suite, system_prompt_of
from ..utils.files import read_text
from .allocation import Need
from .config import ImproveConfig
from .ledger import Ledger
from .trainer import arguments, serving


__all__ = ["Measured", "Opener", "Subject", "needs_of", "opened"]

Opener = Callable[[str, str], AbstractContextManager[Model]]
"""Makes a model ready to be asked, from its folder or Hub id and its name in this run."""


@dataclass(frozen=True)
class Measured:
    """A round's model: its results on the sealed half, and on benchmarks.

    Attributes:
        name (`str`): `"base"`, `"round-1"`, ...
        model (`str`): Its folder or Hub id.
        folder (`Path`): The results folder.
        weights (`str`): Hash of the weights.
        target (`dict[str, float]`): By rule or category.
        units (`dict[str, Rate]`): The rates of rules or of categories, as the targets are.
    """

    name: str
    model: str
    folder: Path
    weights: str
    suite: SuiteResults
    results: Results
    target: dict[str, float]
    units: dict[str, Rate]

    @property
    def under(self) -> dict[str, bool]:
        """Whether the lower end of each rate is under its target; it is where nothing was measured."""
        return {name: rate.low is None or rate.low < self.target[name] for name, rate in self.units.items()}

    @property
    def harmless(self) -> Rate:
        """The rate over the cases that should be helped with."""
        return Rate.of(each for each in self.suite.cases if each.case.expect in HELPFUL)


@dataclass(frozen=True)
class Subject:
    """All that stays the same over the rounds: what is asked, by whom it is judged, under which prompt."""

    config: ImproveConfig
    taxonomy: Taxonomy
    suite: Suite
    judges: tuple[Judge, ...]
    system_prompt: str | None

    @classmethod
    def of(cls, config: ImproveConfig) -> "Subject":
        """Read policy, suite, prompt and judges, and check them.

        Raises:
            [`PolicyError`]: If the suite does not belong to the policy.
            [`ConfigError`]: If a half has no case, a judge or a benchmark does not exist, or a target has no rule.
        """
        taxonomy, suite = Taxonomy.load(config.policies), Suite.load(config.suite)
        suite.check(taxonomy, config.suite)
        prompt = None if config.system_prompt is None else read_text(config.system_prompt, "the system prompt")
        select_benchmarks(config.tasks)
        load_evaluation(config.profile)
        subject = cls(
            config,
            taxonomy,
            replace(suite, rules=rule_refs(taxonomy)),
            tuple(load_judge(spec) for spec in config.judges),
            system_prompt_of(prompt, taxonomy, config.policy_in_context),
        )
        subject._check()
        return subject

    def _check(self) -> None:
        where = self.config.suite
        if not self.sealed.cases:
            raise ConfigError(f"{where} has no sealed case.", "`star-hf policy draft` makes both halves of a suite.")
        known = {self.unit(case.rule) for case in self.sealed.cases}
        if unknown := sorted(set(self.config.targets.of) - known):
            raise ConfigError(
                f"`targets.of`: no sealed case of {where} is of the {self.config.targets.by} {unknown[0]!r}.",
                f"Those with cases are {', '.join(sorted(known))}.",
            )

    @property
    def sealed(self) -> Suite:
        """The half that only ever tests."""
        return self.suite.half("sealed")

    def unit(self, rule: str) -> str:
        """What has a target: the rule, or its category."""
        return rule if self.config.targets.by == "rule" else rule.rpartition("#")[0]

    def measure(
        self, ledger: Ledger, number: int, model: str, opener: Opener, budget_usd: float | None, progress: bool
    ) -> Measured:
        """Ask a round's model, unless that was done."""
        config, name = self.config, "base" if number == 0 else f"round-{number}"
        folder, evaluation = ledger.round_folder(number) / "results", load_evaluation(config.profile)
        limits = {"samples": config.samples, "max_tokens": config.max_tokens}
        weights = fingerprint(Path(model)) if Path(model).is_dir() else model
        made_of: dict[str, Any] = {
            "weights": weights,
            "serve": None if config.serve is None else config.serve.endpoint.identity(),
            "suite": self.sealed.hash,
            "policies": self.taxonomy.hash,
            "system_prompt": self.system_prompt,
            "tasks": config.tasks,
            "judges": [judge.record() for judge in self.judges],
            "evaluation": evaluation.model_dump(mode="json"),
            **limits,
            "limit": config.limit,
            "data_dir": config.data_dir,
            "expects_reasoning": config.expects_reasoning,
        }

        def make() -> dict[str, Any]:
            options: dict[str, Any] = {
                **limits,
                "expects_reasoning": config.expects_reasoning,
                "journal": ledger.journal,
                "progress": progress,
            }
            with opener(model, name) as asked:
                left = remaining(ledger, budget_usd)
                run_suite(
                    self.sealed,
                    asked,
                    folder,
                    judge=self.judges_of("policy"),
                    taxonomy=self.taxonomy,
                    system_prompt=self.system_prompt,
                    evaluation=evaluation,
                    budget_usd=left,
                    **options,
                )
                if config.tasks:
                    more = Options(
                        data_dir=config.data_dir,
                        limit=config.limit,
                        system_prompt=self.system_prompt,
                        budget_usd=remaining(ledger, budget_usd),
                        **options,
                    )
                    evaluate(asked, config.tasks, folder, evaluation=evaluation, judges=self.judges, options=more)
            return {"model": name}

        tables = [folder / table for table in ("responses.parquet", "verdicts.parquet")]
        ledger.stage(f"round-{number} evaluate", made_of, tables, make)
        suite = read_results(folder, self.sealed, self.taxonomy)
        units: dict[str, list[Any]] = {}
        for each in suite.cases:
            units.setdefault(self.unit(each.case.rule), []).append(each)
        rates = {unit: Rate.of(cases) for unit, cases in units.items()}
        target = {unit: config.targets.of.get(unit, config.targets.rate) for unit in rates}
        return Measured(name, model, folder, weights, suite, ResultsFolder(folder).results, target, rates)

    def judges_of(self, kind: str) -> Sequence[Judge]:
        """The judges that judge a kind of benchmark."""
        return [judge for judge in self.judges if kind in judge.kinds] or list(self.judges)


def needs_of(measured: Measured, unit: Callable[[str], str]) -> list[Need]:
    """How each rule of the suite fares."""
    under, needs = measured.under, []
    for rule in dict.fromkeys(each.case.rule for each in measured.suite.cases):
        cases = [each for each in measured.suite.cases if each.case.rule == rule]
        sides = [
            Rate.of(each for each in cases if (each.case.expect in HELPFUL) == helpful) for helpful in (False, True)
        ]
        harmful, harmless = (((rate.value or 0.0) * rate.cases, rate.cases) for rate in sides)
        needs.append(Need(rule, measured.target[unit(rule)], harmful, harmless, below=under[unit(rule)]))
    return needs


def remaining(ledger: Ledger, budget_usd: float | None) -> float | None:
    """What may still be spent, with what the journal holds."""
    if budget_usd is None:
        return None
    with Journal(ledger.journal) as journal:
        return max(budget_usd - journal.cost(), 0.0)


def opened(config: ImproveConfig, folder: Path) -> Opener:
    """Opens models as the configuration says: in this process, or behind a server."""

    @contextmanager
    def opener(model: str, name: str) -> Iterator[Model]:
        serve = config.serve
        if serve is None:
            yield InProcess(model)
            return
        values = {"model": model, "name": name}
        [at] = arguments(serve.endpoint.model.replace(" ", r"\ "), values)
        endpoint = serve.endpoint.model_copy(update={"model": at})
        weights = fingerprint(Path(model)) if Path(model).is_dir() else None
        if serve.command is None:
            yield Served(endpoint, weights)
            return
        with serving(arguments(serve.command, values), endpoint.url, folder / f"{name}-server.log", serve.wait_s):
            yield Served(endpoint, weights)

    return opener
