"""The loop: measure, give rows to the rules that need them, train, measure again, and decide."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..evaluation.generation.weights import fingerprint
from ..llm import Budget
from ..llm.journal.repair import guarded
from ..utils.files import locked, sha256_of, write_text
from ..utils.paths import project_folder, recipe_file
from .allocation import Quota, allocate
from .config import ImproveConfig
from .data import RoundData
from .gate import Step, next_step
from .ledger import Ledger
from .measure import Measured, Opener, Subject, needs_of, opened
from .sealed import check_sealed
from .trainer import arguments, placeholders, python_values, run_trainer


__all__ = ["Improvement", "Round", "improve"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Round:
    """A round, the base model's first.

    Attributes:
        quotas (`dict[str, Quota]`): The rows that each rule was to get.
        made (`dict[str, Quota]`): Those that it got.
        trained_on (`int`): Rows of the training, those of earlier rounds included.
        step (`Step`): What followed.
    """

    measured: Measured
    quotas: Mapping[str, Quota]
    made: Mapping[str, Quota]
    trained_on: int
    step: Step


@dataclass(frozen=True)
class Improvement:
    """All rounds of a run."""

    folder: Path
    rounds: tuple[Round, ...]

    @property
    def shipped(self) -> str | None:
        """The model that may ship: its folder or Hub id."""
        last = self.rounds[-1]
        return last.measured.model if last.step.action == "ship" else None


def improve(
    config: ImproveConfig,
    run_dir: str | Path,
    *,
    budget_usd: float | None = None,
    opener: Opener | None = None,
    progress: bool = True,
) -> Improvement:
    """Train a model until it follows a policy, or until it is clear that more rounds would not help.

    Each round is a sequence of stages: the model is measured, questions are drafted, answered and scored, the trainer
    runs, the new model is measured. A stage that ran on the same does not run again, and no response is paid for
    twice. So the same call continues after any interruption, and ends with the same files.

    Args:
        config ([`~star_hf.improve.config.ImproveConfig`]): What to improve, and how.
        run_dir (`str` or `Path`): The run's directory; [`~star_hf.improve.ledger`] says what is in it.
        budget_usd (`float`, *optional*): Dollars that the run may cost in total, with what its journal holds.
        opener (`Callable`, *optional*): Makes models ready to be asked, in place of what the configuration says.
        progress (`bool`, defaults to `True`): Whether to show progress bars.

    Returns:
        [`Improvement`]: The rounds with their results, and what was decided.

    Raises:
        ConfigError, PolicyError: If an option, the policy or its suite is wrong. Nothing was asked then.
        TrainingError: If the trainer fails, or leaves no model.
        IncompleteRunError: If a model or a judge does not answer, or the budget is spent.
        StarError: If a row of the training data is like a sealed case, or another process works in this directory.
    """
    subject, ledger = Subject.of(config), Ledger(run_dir)
    for _, endpoint in config.endpoints:
        endpoint.check()
    opener = opener or opened(config, ledger.folder)
    with locked(ledger.folder):
        ledger.write(config=config.model_dump(mode="json"))
        rounds: list[Round] = []
        model, quotas, made, rows = config.model, dict[str, Quota](), dict[str, Quota](), 0
        while True:
            number = len(rounds)
            measured = subject.measure(ledger, number, model, opener, budget_usd, progress)
            step = next_step([*(each.measured for each in rounds), measured], config)
            rounds.append(Round(measured, quotas, made, rows, step))
            ledger.write(rounds=[_record(each) for each in rounds])
            logger.info("%s: %s. %s", measured.name, step.action, step.reason)
            if step.action != "again":
                return Improvement(ledger.folder, tuple(rounds))
            size, spread, twins = config.rows.size, config.rows.spread, config.rows.twins
            quotas = allocate(needs_of(measured, subject.unit), size, spread=spread, twins=twins)
            made, rows = _data(subject, ledger, number + 1, quotas, budget_usd, progress)
            if not sum(quota.rows for quota in made.values()):
                why = f"No new row could be made; see {ledger.round_folder(number + 1)}."
                rounds[-1] = replace(rounds[-1], step=Step("stop", why, step.checks))
                ledger.write(rounds=[_record(each) for each in rounds])
                return Improvement(ledger.folder, tuple(rounds))
            model = _train(subject, ledger, number + 1)


def _data(
    subject: Subject,
    ledger: Ledger,
    number: int,
    quotas: Mapping[str, Quota],
    budget_usd: float | None,
    progress: bool,
) -> tuple[dict[str, Quota], int]:
    """Make a round's data, and check it: no row is like a sealed case."""
    with guarded(ledger.journal) as journal:
        budget = None if budget_usd is None else Budget(budget_usd, journal.cost())
        data = RoundData(subject, ledger, number, quotas, budget, progress)
        data.cases(journal)
        rows = data.rows(journal)
        mixture = data.mixture(journal)
        path = data.folder / "train.jsonl"
        check_sealed(path, subject.suite, **subject.config.similarity.options(ledger.folder, journal, budget))
    return {ref: Quota(*counts) for ref, counts in rows.notes["rows"].items()}, mixture.notes["rows"]


def _train(subject: Subject, ledger: Ledger, number: int) -> str:
    """Train the round's model, unless that was done, and return its folder."""
    config, folder = subject.config, ledger.round_folder(number)
    output, data = folder / "model", folder / "train.jsonl"
    recipe = None if config.train.recipe is None else recipe_file(config.train.recipe)
    made_of: dict[str, Any] = {
        "data": sha256_of(data),
        "command": config.train.command,
        "model": fingerprint(Path(config.model)) if Path(config.model).is_dir() else config.model,
        "recipe": None if recipe is None else sha256_of(recipe),
        "system_prompt": subject.system_prompt is not None,
    }

    def make() -> dict[str, Any]:
        values: dict[str, object] = {
            **python_values(project_folder("recipes")),
            **{"data": data, "output": output, "model": config.model, "round": number, "name": f"round-{number}"},
            "config": folder / "train.yaml",
        }
        if "config" in placeholders(config.train.command):
            columns = ["question", "response"] if subject.system_prompt is None else ["messages"]
            given = {"base": str(recipe and recipe.resolve()), "model_name_or_path": config.model}
            given |= {"output_dir": str(output), "datasets": [{"path": str(data), "columns": columns}]}
            write_text(folder / "train.yaml", _yaml(given))
        logger.info("round-%d: training, see %s", number, output.with_suffix(".log"))
        run_trainer(arguments(config.train.command, values), output, made_of)
        return {}

    ledger.stage(f"round-{number} train", made_of, [output], make, fingerprint)
    return str(output)


def _yaml(data: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True)


def _record(each: Round) -> dict[str, Any]:
    """A round as the ledger keeps it."""
    measured = each.measured
    return {
        "name": measured.name,
        "weights": measured.weights,
        "quotas": {ref: asdict(quota) for ref, quota in each.quotas.items()},
        "made": {ref: asdict(quota) for ref, quota in each.made.items()},
        "trained_on": each.trained_on,
        "units": {unit: asdict(rate) for unit, rate in measured.units.items()},
        "overall": asdict(measured.suite.overall),
        "harmless": asdict(measured.harmless),
        "averages": {kind: asdict(mean) for kind, mean in measured.results.averages.items()},
        "action": each.step.action,
        "reason": each.step.reason,
        "checks": [asdict(check) for check in each.step.checks],
    }
