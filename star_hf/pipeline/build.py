"""A build: the stages in the paper's order. The only file that knows the whole flow."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..deduplication.alike import find_alike
from ..errors import ConfigError
from ..llm import Budget, Endpoint, Journal
from ..llm.journal.repair import guarded, keep_copy
from ..policies import Prompts, Taxonomy
from ..scale.annotate import drain_shards
from ..schema import Outcome
from ..similarity.options import make_encoder
from ..sources.catalogue import catalogue
from ..transforms.classify import classify
from ..transforms.collect import collect
from ..transforms.deduplicate import deduplicate
from ..transforms.reason import reason
from ..transforms.rewrite import benign_twins
from ..transforms.score import score
from ..transforms.select import select
from ..utils.files import digest, locked
from .config import BuildConfig
from .export import export
from .given import Given, begin
from .run import STAGES, Run, StageRecord


__all__ = ["build"]

logger = logging.getLogger(__name__)


ROLES = {
    "classify": ("classifier",),
    "reason": ("teacher",),
    "score": ("scorer",),
    "rewrite": ("rewriter", "teacher", "scorer"),
}
"""The endpoints that each stage calls."""


def build(
    config: BuildConfig,
    run_dir: str | Path,
    *,
    until: str | None = None,
    only: str | None = None,
    given: Given | None = None,
    budget_usd: float | None = None,
    progress: bool = True,
) -> Run:
    """Build a STAR-style data set (paper, Section 2 and Appendix E).

    A stage that already ran with the same parameters on the same rows does not run again, and no request is sent
    twice. So the same call continues after any interruption, and ends with the same files; with the embedded model,
    whose answers depend on their neighbours in a batch, their words may differ.

    Args:
        config (`BuildConfig`): What to build; see [`~star_hf.pipeline.config.load_config`].
        run_dir (`str` or `Path`): The run's directory.
        until (`str`, *optional*): Last stage to run, one of [`~star_hf.pipeline.run.STAGES`].
        only (`str`, *optional*): Run only this stage, on the tables in the run directory.
        given (`Given`, *optional*): Rows that exist, for the stage `only` to begin with. Later calls go on from there.
        budget_usd (`float`, *optional*): Dollars that the run may cost in total, with what its journal holds.
        progress (`bool`, defaults to `True`): Whether to show progress bars.

    Returns:
        `Run`: The run, with every stage's tables. The finished data set is in `<run_dir>/dataset`, for
        `load_dataset`.

    Raises:
        ConfigError: If a stage's name or an endpoint's configuration is wrong, or a key that a later stage needs is
            missing.
        SourceError: If a source cannot be read.
        IncompleteRunError: If a stage stopped early; the same call continues.
        StarError: If another process works in this directory.
    """
    for name in {until, only} - {None, *STAGES}:
        raise ConfigError(f"{name!r} is not a stage.", f"Stages: {', '.join(STAGES)}.")
    stages = [only] if only else STAGES[: STAGES.index(until) + 1] if until else STAGES
    if budget_usd is not None:
        _check_prices(config)
    if given is not None and only is None:
        raise ConfigError("Given rows need the stage that is to begin with them.", "Set `only`, such as 'score'.")
    run = Run(run_dir)
    stages = [stage for stage in stages if stage != "rewrite" or config.benign.enabled]
    if only is None:
        _check_keys(config, [stage for stage in stages if stage not in run.records])
    with locked(run.folder), guarded(run.journal_path) as journal:
        run.describe(config.model_dump(mode="json"))
        if given is not None and only is not None:
            stages = begin(run, given, only, config)
        elif begun := run.begins_after:
            stages = [stage for stage in stages if STAGES.index(stage) > STAGES.index(begun)]
            if not stages:
                raise ConfigError(
                    f"{run.folder} begins with given rows, as if {begun!r} had made them.",
                    f"Run a later stage, or all with `star-hf build --run-dir {run.folder}`.",
                )
        policies = {"taxonomy": Taxonomy.load(config.policies), "prompts": Prompts.load(config.prompts)}
        budget = None if budget_usd is None else Budget(budget_usd, journal.cost())
        steps = _Steps(config, run, journal, policies, budget, progress)
        for stage in stages:
            record = getattr(steps, stage)()
            keep_copy(journal)
            logger.info("%s: %d rows in, %d out", stage, record.rows_in, record.rows_out)
        if "select" in run.records and stages and stages[-1] in ("select", "rewrite"):
            export(run, config)
    return run


@dataclass
class _Steps:
    """One method per stage: its parameters, its inputs, and the transform that makes its tables."""

    config: BuildConfig
    run: Run
    journal: Journal
    policies: dict[str, Any]
    budget: Budget | None
    progress: bool

    def collect(self) -> StageRecord:
        options = self.config.collect.model_dump()

        def make() -> tuple[dict[str, Dataset], dict[str, Any]]:
            collected = collect(profile=self.config.profile, **options)
            tables = {
                "rows": collected.outcome.rows,
                "removed": collected.outcome.removed,
                "held_out": collected.held_out,
            }
            return tables, {"missing": collected.missing, "protected": collected.protected}

        parameters = {**options, "profile": self.config.profile, "files": _file_times(options)}
        return self.run.stage("collect", parameters, {}, None, make)

    def deduplicate(self) -> StageRecord:
        given = self.config.deduplicate
        encoder = make_encoder(given.encoder, self.journal, self.budget)
        options = given.model_dump(include={"tfidf_threshold", "embedding_threshold"})
        named = None if given.encoder is None else encoder.identity
        ngram = {name: source.ngram for name, source in catalogue().items() if source.ngram is not None}

        def make(rows: Dataset) -> Outcome:
            held_out = self.run.table("collect", "held_out")
            cache = self.run.folder / "embeddings"
            engine = {"encoder": encoder, "cache_dir": cache, "progress": self.progress}
            if given.rule == "one_per_group":
                alike = find_alike(rows, held_out, distinct=True, **engine, **options)
                return alike.one_per_group(given.prefer)
            return deduplicate(rows, held_out, profile=self.config.profile, ngram=ngram, **engine, **options)

        if given.encoder is not None and given.encoder.languages is not None:
            named = f"{named} in {', '.join(given.encoder.languages)}"
        parameters = {**options, "encoder": named, "profile": self.config.profile, "ngram": ngram}
        if given.rule != "first_wins":
            parameters |= {"rule": given.rule, "prefer": given.prefer}
        return self._step("deduplicate", "collect", parameters, make)

    def classify(self) -> StageRecord:
        return self._ask("classify", "deduplicate", classify, self.config.endpoints.classifier)

    def reason(self) -> StageRecord:
        return self._ask("reason", "classify", reason, self.config.endpoints.teacher)

    def score(self) -> StageRecord:
        return self._ask("score", "reason", score, self.config.endpoints.scorer)

    def select(self) -> StageRecord:
        options = {"size": self.config.select.size, "strategy": self.config.strategy, "seed": self.config.select.seed}
        return self._step("select", "score", options, lambda rows: select(rows, **options))

    def rewrite(self) -> StageRecord:
        endpoints, minimum = self.config.endpoints, self.config.benign.minimum
        models = {"rewriter": endpoints.rewriter, "teacher": endpoints.teacher, "scorer": endpoints.scorer}
        parameters = {
            "endpoints": {role: endpoint.identity() for role, endpoint in models.items()},
            "minimum": minimum,
            **self._versions("benign_rewrite", "benign_reason", "benign_score"),
        }
        return self._step(
            "rewrite", "select", parameters, lambda rows: benign_twins(rows, **models, minimum=minimum, **self._engine)
        )

    @property
    def _engine(self) -> dict[str, Any]:
        return {
            **self.policies,
            "journal": self.journal,
            "max_unusable": self.config.max_unusable,
            "accept_unavailable": self.config.accept_unavailable,
            "budget": self.budget,
            "progress": self.progress,
        }

    def _versions(self, *prompts: str) -> dict[str, Any]:
        versions = {name: self.policies["prompts"].version(name) for name in prompts}
        return {"prompts": versions, "policies": self.policies["taxonomy"].hash}

    def _ask(self, stage: str, before: str, transform: Any, endpoint: Endpoint) -> StageRecord:
        parameters = {"endpoint": endpoint.identity(), **self._versions(stage)}
        engine = self._engine
        scale = None if self.config.accept_unavailable else self.config.scale
        if scale is not None and endpoint.provider != "local":
            engine["elsewhere"] = partial(drain_shards, scale=scale, folder=self.run.folder / "shards")
        return self._step(stage, before, parameters, lambda rows: transform(rows, endpoint, **engine))

    def _step(self, stage: str, before: str, parameters: Mapping[str, Any], transform: Any) -> StageRecord:
        """Run a stage that turns the rows of the one before into an `Outcome`."""
        rows = self.run.table(before)

        def make() -> tuple[dict[str, Dataset], dict[str, Any]]:
            outcome = transform(rows)
            tables = {"rows": outcome.rows, "removed": outcome.removed}
            if len(outcome.provenance):
                tables["provenance"] = outcome.provenance
            notes = {name: parameters[name] for name in ("prompts", "policies") if name in parameters}
            if unread := getattr(outcome, "unread", None):
                notes["unread"] = unread
            return tables, notes

        return self.run.stage(stage, parameters, self.run.records[before].tables, len(rows), make)


def _check_keys(config: BuildConfig, stages: Sequence[str]) -> None:
    """Check that every key and address is set, before the first stage starts."""
    for role in dict.fromkeys(role for stage in stages for role in ROLES.get(stage, ())):
        getattr(config.endpoints, role).check()
    if "deduplicate" in stages and config.deduplicate.endpoint is not None:
        config.deduplicate.endpoint.check()


def _check_prices(config: BuildConfig) -> None:
    """Check that every endpoint has a price, which a budget needs."""
    endpoints = {f"endpoints.{role}": endpoint for role, endpoint in config.endpoints}
    if config.deduplicate.endpoint is not None:
        endpoints["deduplicate.encoder.endpoint"] = config.deduplicate.endpoint
    for where, endpoint in endpoints.items():
        if endpoint.rate is None and endpoint.provider != "local":
            raise ConfigError(
                f"A budget is set, but `{where}` ({endpoint.model}) has no price.",
                f"Set `{where}.price: {{input: ..., output: ...}}` in the recipe (dollars per million).",
            )


def _file_times(options: Mapping[str, Any]) -> str | None:
    """A hash that changes with the local source files, so that an edited file is read again."""
    paths = [path for path in (options["questions"], options["held_out_questions"]) if path]
    if options["sources_dir"]:
        paths += sorted(path for path in Path(options["sources_dir"]).rglob("*") if path.is_file())
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths if os.path.exists(path)]
    return digest(stats) if stats else None
