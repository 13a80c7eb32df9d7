"""The demo's comparison of two models in this process: how often each refuses, by kind of question."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..evaluation.generation.generate import generate
from ..evaluation.generation.models import Model, Sampling
from ..evaluation.generation.responses import read_response
from ..evaluation.grading.judges import load_judge
from ..evaluation.grading.judging import judge_responses
from ..evaluation.results.statistics import Estimate, rate
from ..evaluation.types import Item, Response, responses_table
from ..llm import Journal
from ..utils.paths import project_folder
from ..utils.text import row_id
from .gguf import model_in


__all__ = ["Refusals", "before_after", "read_questions", "refusals"]

JUDGE = "refusal"
KINDS = {"harmful": "safety", "harmless": "over_refusal"}


@dataclass(frozen=True)
class Refusals:
    """How often a model refuses, and how often its response starts with a thought.

    `failed` responses could not be judged, such as a thought without an end; they count in no share of refusals.
    """

    harmful: Estimate
    harmless: Estimate
    thinks: Estimate
    failed: int


def read_questions(path: Path) -> dict[str, list[Item]]:
    """Questions by kind, `"harmful"` and `"harmless"`, from a JSON lines file with `question` and `kind`."""
    items: dict[str, list[Item]] = {kind: [] for kind in KINDS}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        items[row["kind"]].append(Item(row_id(row["question"]), row["question"]))
    return items


def refusals(
    model: Model, questions: dict[str, list[Item]], journal: Journal, max_tokens: int = 192, progress: bool = True
) -> Refusals:
    """Count a model's refusals in short responses at temperature 0.

    A truncated answer is judged by its beginning, where a refusal would be; a truncated thought fails. For real
    measurements use `star-hf evaluate`.
    """
    judge, sampling = load_judge(JUDGE), Sampling(max_tokens=max_tokens)
    everything = [item for items in questions.values() for item in items]
    said = {
        item.id: read_response(item.id, completion.text, reasoning=completion.reasoning)
        for item, _, completion in generate(
            everything, model, journal, sampling, description="evaluate", progress=progress
        )
    }
    estimates, failed = {}, 0
    for kind, items in questions.items():
        answers: Sequence[Response] = [said[item.id] for item in items]
        verdicts = judge_responses(
            responses_table(kind, items, answers),
            [judge],
            journal,
            kind=KINDS[kind],
            parts=("answer",),
            progress=False,
        )
        labels = [label for label in verdicts["label"][:] if label is not None]
        failed += len(items) - len(labels)
        estimates[kind] = rate([float(label.endswith("refusal")) for label in labels])
    thinks = rate([float(answer.reasoning is not None) for answer in said.values()])
    return Refusals(estimates["harmful"], estimates["harmless"], thinks, failed)


def before_after(
    base: str | Path, tuned: str | Path, run_dir: str | Path, **options: int | bool
) -> tuple[Refusals, Refusals]:
    """Compare a model before and after training on a few mild questions, the dozen of `recipes/eval`.

    The journal in `run_dir` keeps the responses, so that none is generated twice. `options` are those of [`refusals`].
    """
    items = read_questions(project_folder("recipes") / "eval" / "demo_questions.jsonl")
    with Journal(Path(run_dir) / "evaluation.sqlite") as journal:
        before, after = (refusals(model_in(folder), items, journal, **options) for folder in (base, tuned))
    return before, after
