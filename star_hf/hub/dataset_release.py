"""A finished run as a release: checked, audited, with its card, its picture and its recipe."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset

from ..audit import Audit, Finding, audit
from ..cards.licences import terms_of
from ..errors import ConfigError, StarError
from ..pipeline.card import FROM_FILES, dataset_card, heat_map
from ..pipeline.config import BuildConfig
from ..pipeline.counts import balance
from ..pipeline.export import finished_tables
from ..pipeline.run import Run
from ..utils.files import read_table
from .release import Release


__all__ = ["POLICIES", "check_run", "dataset_release"]

logger = logging.getLogger(__name__)

PICTURE = "assets/categories_by_sources.png"
RECIPE = "recipe.yaml"
POLICIES = "policies.yaml"
"""The taxonomy, if it is not the packaged one."""


def dataset_release(
    run_dir: str | Path,
    repo_id: str,
    *,
    license: str | None = None,
    scored: bool = False,
    allow_findings: bool = False,
    sources_dir: str | Path | None = None,
    progress: bool = False,
) -> Release:
    """Make a release of a run.

    Args:
        run_dir (`str` or `Path`): The run's directory.
        repo_id (`str`): The repository, for the card's examples.
        license (`str`, *optional*): The data set's licence, as the Hub spells it. By default the licence of its
            sources if they share an open one, else `other` with a table of the sources' licences.
        scored (`bool`, defaults to `False`): Publish all scored rows as well, as the configuration `scored`.
        allow_findings (`bool`, defaults to `False`): Continue if the audit finds contamination or malformed rows.
        sources_dir (`str` or `Path`, *optional*): Local copies of benchmarks for the audit; the run's `sources_dir` by
            default.
        progress (`bool`, defaults to `False`): Whether to show progress.

    Raises:
        StarError: If the run is not finished or was edited, or the audit has errors.
    """
    run = check_run(run_dir)
    config = run.config
    tables = finished_tables(run)
    if scored:
        tables["scored"] = run.table("score")
    found = _audited(tables, config, sources_dir, progress)
    if errors := [finding for audit in found.values() for finding in audit.of("error")]:
        listing = "\n".join(f"- {_told(finding)}" for finding in errors)
        if not allow_findings:
            raise StarError(
                f"{run.folder} was not published: its audit found\n{listing}",
                f"See `star-hf audit {run.folder}` and fix it, or publish it with --allow-findings.",
            )
        logger.warning("Published although the audit found:\n%s", listing)
    name = repo_id.split("/")[-1]
    picture = heat_map(balance(run, "select"))
    card = dataset_card(
        run,
        config,
        tables,
        place=repo_id,
        name=name,
        license=license,
        picture=PICTURE if picture else None,
        recipe=RECIPE,
        audit=_audit_statement(found["default"], config),
    )
    files: dict[str, Path | bytes] = {f"{table}/train.parquet": _parquet(run, table) for table in tables}
    files[RECIPE] = _recipe(config)
    if config.policies:
        files[POLICIES] = Path(config.policies)
    if picture:
        files[PICTURE] = picture
    return Release(
        kind="dataset",
        name=run.folder.resolve().name,
        files=files,
        card=card,
        facts=_facts(run, tables, found),
        from_files=FROM_FILES,
        warnings=_warnings(tables, _missing(found["default"], config)),
    )


def check_run(run_dir: str | Path) -> Run:
    """The run, if it is finished and none of its files was edited."""
    folder = Path(run_dir)
    again = f"Run `star-hf build --run-dir {folder}`, which runs only what is missing."
    if not (folder / "manifest.json").is_file():
        raise ConfigError(f"{folder} is not a run's directory: it has no manifest.json.", "Give a run's directory.")
    run = Run(folder)
    records, config = run.records, run.config
    needed = ["collect", "deduplicate", "classify", "reason", "score", "select"]
    needed += ["rewrite"] if config.benign.enabled else []
    needed = needed[needed.index(run.begins_after) :] if run.begins_after else needed
    if missing := [stage for stage in needed if stage not in records]:
        raise StarError(f"{folder} is not finished. Missing stages: {', '.join(missing)}.", again)
    before = None
    for stage in needed:
        record = records[stage]
        lost = record.rows_in != record.rows_out + sum(record.removed.values())
        if not run.intact(stage) or lost or (before is not None and record.rows_in != before):
            raise StarError(f"{folder} was edited: the tables of {stage!r} do not match the manifest.", again)
        before = record.rows_out
    for table, rows in finished_tables(run).items():
        if not _same(_parquet(run, table), rows):
            raise StarError(f"{folder}/dataset/{table} is missing, or does not match the run.", again)
    return run


def _same(path: Path, rows: Dataset) -> bool:
    try:
        there = read_table(path)
    except StarError:
        return False
    found, expected = (table.with_format("arrow")[:].combine_chunks() for table in (there, rows))
    return there.features == rows.features and found.equals(expected)


def _parquet(run: Run, table: str) -> Path:
    if table == "scored":
        return run.stage_folder("score") / "rows.parquet"
    return run.folder / "dataset" / table / "train.parquet"


def _audited(
    tables: Mapping[str, Dataset], config: BuildConfig, sources_dir: str | Path | None, progress: bool
) -> dict[str, Audit]:
    """Audit the training rows and the twins."""
    own = config.collect.held_out_questions
    files = {own.stem: own} if own is not None and own.exists() else {}
    return {
        table: audit(
            tables[table],
            sources_dir=sources_dir or config.collect.sources_dir,
            benchmark_files=files,
            policies=config.policies,
            reasoning=True,
            progress=progress,
        )
        for table in ("default", "benign", "scored")
        if table in tables
    }


def _told(finding: Finding) -> str:
    """A finding with its number of rows, and what they match or what is wrong."""
    details = ", ".join(f"{detail} {count:,}" for detail, count in finding.details.items() if detail)
    return f"{finding.summary} {finding.rows:,} rows{f': {details}' if details else ''}."


def _audit_statement(found: Audit, config: BuildConfig) -> dict[str, Any]:
    """The result of an audit, for the card."""
    return {
        "benchmarks": [f"{name} at {facts['revision']}" for name, facts in found.benchmarks.items()],
        "errors": [_told(finding) for finding in found.of("error")],
        "missing": _missing(found, config),
    }


def _missing(found: Audit, config: BuildConfig) -> list[str]:
    """The benchmarks that were not available, including the builder's own."""
    own = config.collect.held_out_questions
    gaps = [finding.summary.split(" was ")[0] for finding in found.of("gap")]
    return [*gaps, *([own.stem] if own is not None and not own.exists() else [])]


def _facts(run: Run, tables: Mapping[str, Dataset], found: Mapping[str, Audit]) -> dict[str, Any]:
    """The facts that `star-hf verify` compares the published files with."""
    rows = tables["default"]
    stages = {stage: asdict(record) for stage, record in run.records.items()}
    for record in stages.values():
        record.pop("seconds")
        record["notes"] = {
            name: record["notes"][name] for name in ("prompts", "policies", "unread") if name in record["notes"]
        }
    return {
        "tables": {
            table: {"rows": len(content), "columns": content.features.to_dict()} for table, content in tables.items()
        },
        "sources": _counted(rows["source"]),
        "categories": _counted(label for labels in rows["category"][:] for label in labels),
        "stages": stages,
        "audit": {
            table: {
                "ok": audit.ok,
                "complete": audit.complete,
                "findings": [[finding.severity, finding.check, finding.rows] for finding in audit.findings],
                "benchmarks": {name: facts["revision"] for name, facts in audit.benchmarks.items()},
            }
            for table, audit in found.items()
        },
    }


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


PUBLISHED: dict[str, Any] = {
    **dict.fromkeys(("profile", "max_unusable", "accept_unavailable", "benign", "select"), True),
    "collect": dict.fromkeys(("sources", "held_out", "require_all", "max_chars"), True),
    "deduplicate": {
        **dict.fromkeys(("rule", "prefer", "tfidf_threshold", "embedding_threshold"), True),
        "encoder": {
            **dict.fromkeys(("model", "revision", "backend", "file"), True),
            "endpoint": dict.fromkeys(("provider", "model"), True),
        },
    },
    "endpoints": dict.fromkeys(
        ("classifier", "teacher", "scorer", "rewriter"),
        dict.fromkeys(("provider", "model", "temperature", "top_p", "max_tokens", "seed", "structured"), True),
    ),
}
"""The options of a recipe that are published, and no other: the rest may name machines, folders, keys and accounts."""


def _recipe(config: BuildConfig) -> bytes:
    """The recipe without what is only true for the machine and the accounts of its builder."""
    data = config.model_dump(mode="json", exclude_defaults=True, include=PUBLISHED)
    if config.policies:
        data["policies"] = POLICIES
    own = {"questions": config.collect.questions, "held_out_questions": config.collect.held_out_questions}
    if files := {name: path.name for name, path in own.items() if path}:
        data["collect"] = {**data.get("collect", {}), **files}
    if config.prompts:
        data["prompts"] = config.prompts.name
    encoder = data.get("deduplicate", {}).get("encoder") or {}
    for asked in (encoder, encoder.get("endpoint") or {}, *data.get("endpoints", {}).values()):
        asked |= {name: _public_name(asked[name]) for name in ("model", "file") if asked.get(name)}
    note = "# Without paths, addresses of servers, names of keys, and limits of the machine that built this.\n"
    return (note + yaml.safe_dump(data, sort_keys=False, allow_unicode=True)).encode()


def _public_name(model: str) -> str:
    """The name of a model; of one in a folder of this machine the last part alone."""
    here = model.startswith(("/", ".", "~")) or "\\" in model
    return model.replace("\\", "/").rstrip("/").split("/")[-1] if here else model


def _warnings(tables: Mapping[str, Dataset], missing: Sequence[str]) -> tuple[str, ...]:
    """What the publisher should know."""
    terms = terms_of(_counted(tables["default"]["source"]))
    said = [f"{sentence}: {', '.join(origin.name for origin in origins)}." for sentence, origins in terms.restrictions]
    said += [f"Not audited against {', '.join(missing)}: not available."] if missing else []
    return tuple(said)
