"""The card of a trained model, from the record of its training and its results; and results for leaderboards."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, HfApi, ModelCardData, eval_result_entries_to_yaml

from .. import __version__
from ..cards.sections import Card, render
from ..errors import StarError
from ..evaluation.results.results import BenchmarkResult, Results
from ..evaluation.tasks.benchmarks import BENCHMARKS, SAFETY
from ..pipeline.card import PAPER_TAG
from ..training.record import TrainingRecord
from ..utils.formatting import percent
from .api import find, read_text


__all__ = ["is_hub_id", "leaderboard_entries", "model_card", "model_index", "results_section"]

TAGS = ("star_hf", "safety", "reasoning", "trl", PAPER_TAG)
STAR = ("UCSC-VLAA/STAR-1", "UCSC-VLAA/STAR-41K", "UCSC-VLAA/STAR-benign-915")
METHODS = {"dpo": ("DPO", "2305.18290"), "grpo": ("GRPO", "2402.03300")}
"""Names and papers of the methods other than supervised fine-tuning."""
KINDS = {
    "safety": "Safety (higher is better)",
    "over_refusal": "Over-refusal (lower is better)",
    "reasoning": "Reasoning (higher is better)",
}


def is_hub_id(place: str) -> bool:
    """Whether this is the name of a model or data set on the Hub, and not a local folder."""
    return place.count("/") == 1 and not place.startswith((".", "/", "~")) and not Path(place).exists()


def model_card(
    record: TrainingRecord,
    *,
    place: str,
    license: str | None,
    adapter: bool,
    results: Results | None = None,
    base: Results | None = None,
    attacks: Sequence[Results] = (),
    curve: str | None = None,
) -> Card:
    """The card of a trained model, from the record of its training.

    `license` is `None` if it is unknown, and `adapter` says whether only an adapter was trained. `results` and
    `attacks` are of this model, `base` is of its base model. `curve` is the path of the picture of the loss in the
    repository.
    """
    name, origin = place.split("/")[-1], record.base_model["name"]
    sections = render(
        "model.md.j2",
        **{"place": place, "name": name, "version": __version__, "record": record, "adapter": adapter},
        **{"origin": origin, "on_hub": is_hub_id(origin), "curve": curve, "license": license},
        data=[{**entry, "on_hub": is_hub_id(entry["path"])} for entry in record.datasets],
        recipe={key: value for key, value in record.recipe.items() if value is not None},
        preflight=record.preflight,
        star=STAR,
        methods=METHODS,
        results=None if results is None else results_section(results, base, attacks),
    )
    unknown = {"license": "other", "license_name": "licence-of-the-base-model"}
    data = ModelCardData(
        language=["en"],
        **({"license": license} if license else unknown),
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        base_model=origin if is_hub_id(origin) else None,
        datasets=[entry["path"] for entry in record.datasets if is_hub_id(entry["path"])] or None,
        tags=[*TAGS, record.method],
    )
    metadata = data.to_dict()
    if results is not None:
        metadata |= model_index(results, name)
    return Card(metadata, sections)


def results_section(results: Results, base: Results | None = None, attacks: Sequence[Results] = ()) -> str:
    """The section on results: every rate with its interval, beside the base model's; and the safe rates under attacks
    beside those without."""
    kinds = [(title, list(_lines(kind, results, base))) for kind, title in KINDS.items()]
    (text,) = render(
        "results.md.j2",
        results=results,
        base=base,
        kinds=[(title, lines) for title, lines in kinds if lines],
        attacks=[one.attack for one in attacks],
        attacked={
            name: [one.benchmarks.get(name) for one in (results, *attacks)]
            for name in SAFETY
            if any(name in one.benchmarks for one in attacks)
        },
        generation={name: value for name, value in results.generation.items() if value is not None},
    ).values()
    return text


def model_index(results: Results, name: str) -> dict[str, Any]:
    """`model-index` of a card's metadata: rates in percent."""
    found = [
        EvalResult(
            task_type="text-generation",
            dataset_type=result.data.get("repo") or benchmark,
            dataset_name=benchmark,
            dataset_revision=result.data.get("revision"),
            metric_type=result.metric,
            metric_name=f"{result.metric} (%), {_judged(result)}",
            metric_value=round(100 * result.value, 2),
        )
        for benchmark, result in results.benchmarks.items()
        if result.value is not None
    ]
    data = ModelCardData(model_name=name, eval_results=found) if found else ModelCardData()
    return data.to_dict()


def leaderboard_entries(api: HfApi, results: Results, source: str) -> bytes | None:
    """A file of `.eval_results/` with the completed benchmarks that have an `eval.yaml` on the Hub; `None` if there is
    none.

    `source` is the page that explains the results.
    """
    entries = [
        EvalResultEntry(
            dataset_id=result.data["repo"],
            task_id=task,
            value=round(100 * result.comparable.value, 2),
            date=results.created,
            source_url=source,
            source_name="star_hf",
            notes=f"star_hf {results.star_hf}, profile {results.profile}: {result.comparable.percent()} %",
        )
        for name, result in results.benchmarks.items()
        if _is_whole(name, result) and (task := _task(api, name, result)) is not None
    ]
    return yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False).encode() if entries else None


def _is_whole(name: str, result: BenchmarkResult) -> bool:
    known = BENCHMARKS.get(name)
    return known is not None and result.items == known.count and result.comparable.value is not None


def _task(api: HfApi, name: str, result: BenchmarkResult) -> str | None:
    """The benchmark's task on the Hub: the only one, or the one with our name."""
    repo = result.data.get("repo", "")
    if not is_hub_id(repo):
        return None
    try:
        info = find(api, repo, "dataset")
        text = None if info is None else read_text(api, repo, "dataset", info.sha, "eval.yaml")
        tasks = [task["id"] for task in yaml.safe_load(text)["tasks"]] if text else []
    except (StarError, yaml.YAMLError, LookupError, TypeError):
        return None
    return tasks[0] if len(tasks) == 1 else name if name in tasks else None


def _lines(kind: str, results: Results, base: Results | None) -> Iterator[dict[str, Any]]:
    for name, result in results.benchmarks.items():
        if result.kind == kind:
            before = None if base is None else base.benchmarks.get(name)
            yield {
                "name": name,
                "metric": result.metric,
                "value": result.comparable.percent(),
                "base": "-" if before is None else before.comparable.percent(),
                "judge": _judged(result),
                "n": result.comparable.n,
                "items": result.items,
                "failures": ", ".join(f"{count} {reason}" for reason, count in result.failures.items()) or "none",
            }
    if (average := results.averages.get(kind)) is not None and len(average.benchmarks) > 1:
        before = None if base is None else base.averages.get(kind)
        same = before is not None and before.benchmarks == average.benchmarks
        yield {
            "name": f"mean of {len(average.benchmarks)}",
            "metric": "",
            "value": percent(average.value),
            "base": percent(before.value) if same else "-",
            **{"judge": "", "n": "", "items": "", "failures": ""},
        }


def _judged(result: BenchmarkResult) -> str:
    return f"by {result.judge}" if result.judge else "by comparison with the correct answer"
