"""The card of a built data set and its picture, from the record of its run."""

import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetInfo, SplitDict, SplitInfo
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCardData

from .. import __version__
from ..cards.licences import LicenceTerms, terms_of
from ..cards.sections import Card, render
from ..llm.endpoint import Endpoint
from ..policies import Taxonomy
from ..schema import BENIGN_CRITERIA, SCORE_CRITERIA
from ..sources.catalogue import catalogue
from ..utils.extras import missing
from .config import BuildConfig
from .counts import Grid, balance, bills, overlap
from .run import Run


__all__ = ["FROM_FILES", "SIZES", "dataset_card", "heat_map", "size_category"]

FROM_FILES = ("configs", "dataset_info", "size_categories")
"""Metadata fields that depend on the files."""

SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}
TAGS = ("star_hf", "safety", "red-teaming", "reasoning", "chain-of-thought", "synthetic", "not-for-all-audiences")
PAPER_TAG = "arxiv:2504.01903"
PARAMETERS = ("temperature", "top_p", "max_tokens", "seed")


def dataset_card(
    run: Run,
    config: BuildConfig,
    tables: Mapping[str, Dataset],
    *,
    place: str,
    name: str,
    license: str | None = None,
    picture: str | None = None,
    recipe: str | None = None,
    audit: Mapping[str, Any] | None = None,
) -> Card:
    """The card of a finished run.

    `tables` are the configurations, and `place` is the argument of `load_dataset`: the repository or the local folder.
    `picture` and `recipe` are paths in the repository, if they are published. `audit` is the result of an audit of
    these rows: the `benchmarks` that it searched for, the `errors`, and the `missing` benchmarks.
    """
    rows, given = tables["default"], _given(run)
    terms = terms_of(Counter(rows["source"][:]))
    taxonomy = Taxonomy.load(config.policies)
    sections = render(
        "dataset.md.j2",
        **{"place": place, "name": name, "version": __version__, "profile": config.profile},
        **{"rows": len(rows), "twins": len(tables.get("benign", ())), "picture": picture, "recipe": recipe},
        load={table: _loading(place, table) for table in tables},
        tables={table: len(content) for table, content in tables.items()},
        criteria=SCORE_CRITERIA,
        benign_criteria=BENIGN_CRITERIA,
        endpoints={role: _endpoint(endpoint) for role, endpoint in config.endpoints},
        records=run.records,
        asked=_asked(run),
        taxonomy=f"{taxonomy.name} {taxonomy.version}, {len(taxonomy.names)} categories",
        thresholds=_thresholds(config),
        selection=f"`{config.strategy}`, {config.select.size:,} rows at most, seed {config.select.seed}",
        grid=_transposed(balance(run, "select")),
        terms=terms,
        audit=audit,
        needs=_needs(config) + ([given["data"]] if given else []),
        given=given,
        **_contamination(run, config),
    )
    page = f"https://huggingface.co/datasets/{place}" if recipe else None
    return Card(_metadata(tables, terms, taxonomy.language, name, license, page), sections)


def heat_map(grid: Grid) -> bytes | None:
    """A PNG of counts by two labels, darker for more; the same bytes for the same grid.

    `None` if matplotlib (the extra `report`) is not installed, or there is nothing to show.
    """
    if missing("matplotlib") or not grid.total:
        return None
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.5 + 0.55 * len(grid.rows), 1.6 + 0.42 * len(grid.columns)), dpi=120, layout="tight")
    axes = figure.add_subplot()
    cells = list(zip(*grid.cells, strict=True))
    axes.imshow(cells, cmap="Blues", aspect="auto")
    axes.set_xticks(range(len(grid.rows)), [_plain(label) for label in grid.rows], rotation=45, ha="right")
    axes.set_yticks(range(len(grid.columns)), [_plain(label) for label in grid.columns])
    darkest = max(map(max, cells))
    for line, counts in enumerate(cells):
        for column, count in enumerate(counts):
            if count:
                color = "white" if count > darkest / 2 else "black"
                axes.text(column, line, f"{count:,}", ha="center", va="center", color=color, fontsize=8)
    axes.tick_params(length=0)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def size_category(rows: int) -> str:
    """The Hub's name for a number of rows, such as `"1K<n<10K"`."""
    return next((name for limit, name in SIZES.items() if rows < limit), "1M<n<10M")


def _metadata(
    tables: Mapping[str, Dataset], terms: LicenceTerms, language: str, name: str, license: str | None, page: str | None
) -> dict[str, Any]:
    license = license or terms.license
    link = f"{page}#sources-and-licences" if page else None  # the Hub accepts an address, or a file named LICENSE
    named = {"license_name": "licences-of-the-sources", "license_link": link}
    data = DatasetCardData(
        pretty_name=name,
        language=[language.split("-")[0]],
        license=license,
        **(named if license == "other" else {}),
        size_categories=[size_category(len(tables["default"]))],
        task_categories=["text-generation"],
        annotations_creators=["machine-generated"],
        language_creators=["found", "machine-generated"],
        source_datasets=_hub_ids(terms) or ["original"],
        tags=[*TAGS, PAPER_TAG],
    )
    files = {table: {"data_files": [{"split": "train", "path": f"{table}/train.parquet"}]} for table in tables}
    MetadataConfigs(files).to_dataset_card_data(data)
    infos = {table: _info(content) for table, content in tables.items()}
    DatasetInfosDict(infos).to_dataset_card_data(data)
    return data.to_dict()


def _info(table: Dataset) -> DatasetInfo:
    """Features and counts, which `load_dataset` checks against the files."""
    split = SplitInfo(name="train", num_bytes=table.data.nbytes, num_examples=len(table))
    return DatasetInfo(features=table.features, splits=SplitDict({"train": split}))


def _hub_ids(terms: LicenceTerms) -> list[str]:
    prefix = "https://huggingface.co/datasets/"
    pages = [origin.homepage for origin in terms.origins if origin.homepage]
    return sorted(page.removeprefix(prefix) for page in pages if page.startswith(prefix))


def _loading(place: str, table: str) -> str:
    config = "" if table == "default" else f'"{table}", '
    return f'load_dataset("{place}", {config}split="train")'


def _endpoint(endpoint: Endpoint) -> dict[str, str]:
    """The published facts of an endpoint: not its address, which may be private."""
    given = {name: getattr(endpoint, name) for name in PARAMETERS}
    parameters = ", ".join(f"{name} {value}" for name, value in given.items() if value is not None)
    return {"model": endpoint.model, "provider": endpoint.provider, "parameters": parameters or "the provider's"}


def _asked(run: Run) -> list[dict[str, Any]]:
    """The stages that called a model: hashes of their prompts and policies, and the bill."""
    return [
        {
            **{"name": bill.stage, "calls": bill.calls, "cost_usd": bill.cost_usd},
            **{"prompt_tokens": bill.prompt_tokens, "completion_tokens": bill.completion_tokens},
            "prompts": run.records[bill.stage].notes.get("prompts", {}),
            "policies": run.records[bill.stage].notes.get("policies"),
        }
        for bill in bills(run)
    ]


def _given(run: Run) -> dict[str, Any] | None:
    """The rows that the run began with, if it did not collect them: the data's name, without the path of a file."""
    if (stage := run.begins_after) is None:
        return None
    given = run.records[stage].notes["from"]
    hub = given.get("revision")
    return {"stage": stage, "data": given["data"] if hub else Path(given["data"]).name, "revision": hub}


def _needs(config: BuildConfig) -> list[str]:
    """What a recipe needs but is not published: the builder's own files, and what only its endpoints know."""
    own = (config.collect.questions, config.collect.held_out_questions, config.prompts)
    endpoints = {f"endpoints.{role}": endpoint for role, endpoint in config.endpoints}
    if config.deduplicate.endpoint is not None:
        endpoints["deduplicate.encoder.endpoint"] = config.deduplicate.endpoint
    private = ("base_url", "pool", "extra_body")
    files = [Path(path).name for path in own if path is not None]
    return files + [f"{at}.{name}" for at, asked in endpoints.items() for name in private if getattr(asked, name)]


def _thresholds(config: BuildConfig) -> str:
    embedding = config.deduplicate.embedding_threshold
    cosine = "no embeddings" if embedding is None else f"embedding cosine from {embedding}"
    return f"n-grams, TF-IDF cosine from {config.deduplicate.tfidf_threshold}, {cosine}"


def _contamination(run: Run, config: BuildConfig) -> dict[str, Any]:
    """The benchmarks that the data was decontaminated against, and those that were missing."""
    if "collect" not in run.records:
        return {"benchmarks": [], "measures": "", "unprotected": [], "missing": []}
    notes = run.records["collect"].notes
    protected, missing = notes.get("protected", {}), notes.get("missing", {})
    grid = overlap(run, contamination=True)
    removed = {name: sum(line[place] for line in grid.cells) for place, name in enumerate(grid.columns)}
    held_out = Counter(*run.columns("collect", "held_out", "source"))
    embedding = config.deduplicate.embedding_threshold
    measures = ["the same question", "8 words in a row", f"a TF-IDF cosine from {config.deduplicate.tfidf_threshold}"]
    measures += [] if embedding is None else [f"an embedding cosine from {embedding}"]
    known = set(protected) | set(held_out)
    return {
        "benchmarks": [
            {
                "name": name,
                "revision": protected.get(name, {}).get("revision", "not recorded"),
                "texts": sum(protected.get(name, {}).get("texts", {}).values()) or held_out.get(name, 0),
                "removed": removed.get(name, 0),
            }
            for name in sorted(known)
        ],
        "measures": f"{', '.join(measures[:-1])} or {measures[-1]}",
        "unprotected": sorted(name for name in missing if name in _benchmark_names()),
        "missing": sorted(name for name in missing if name not in _benchmark_names()),
    }


def _benchmark_names() -> set[str]:
    return {name for name, source in catalogue().items() if source.role != "train"}


def _transposed(grid: Grid) -> dict[str, Any]:
    """Categories as rows, sources as columns."""
    lines = [(category, [cells[place] for cells in grid.cells]) for place, category in enumerate(grid.columns)]
    return {"columns": grid.rows, "lines": lines}


def _plain(label: str) -> str:
    """A shortened label that matplotlib does not read as a formula."""
    return label.replace("$", r"\$")[:40]
