"""The demo's comparison of two models in this process: how often each refuses, by kind of question."""

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
from ..sources.loading import load
from ..utils.figures import COLOURS, INK, new_figure, save_figure
from .gguf import model_in


__all__ = ["JUDGE", "MEASURES", "Refusals", "before_after", "draw", "read_questions", "refusals"]

JUDGE = "refusal"
KINDS = {"harmful": "safety", "harmless": "over_refusal"}
MEASURES = {"harmful": "refused harmful", "harmless": "refused harmless", "thinks": "thinks first"}
"""Fields of [`Refusals`] and their names."""


@dataclass(frozen=True)
class Refusals:
    """How often a model refuses, and how often its response starts with a thought.

    `failed` of the `asked` responses could not be judged, such as a thought without an end; they count in no share of
    refusals.
    """

    harmful: Estimate
    harmless: Estimate
    thinks: Estimate
    failed: int
    asked: int


def read_questions(config: str = "held_out") -> dict[str, list[Item]]:
    """Questions of the starter set by kind, `"harmful"` and `"harmless"`: `"held_out"`, or those for
    `"development"`."""
    items: dict[str, list[Item]] = {kind: [] for kind in KINDS}
    for row in load("starter", config):
        items[row["kind"]].append(Item(row["id"], row["question"]))
    return items


def refusals(
    model: Model, questions: dict[str, list[Item]], journal: Journal, max_tokens: int = 96, progress: bool = True
) -> Refusals:
    """Count a model's refusals in short responses at temperature 0.

    A truncated answer is judged by its beginning, where a refusal would be; a truncated thought fails. For real
    measurements use `star-hf evaluate`.
    """
    judge, sampling = load_judge(JUDGE), Sampling(max_tokens=max_tokens)
    everything = [item for items in questions.values() for item in items]
    said = {
        each.item.id: read_response(each.item.id, each.completion.text, reasoning=each.completion.reasoning)
        for each in generate(everything, model, journal, sampling, description="ask", progress=progress)
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
    thinks = rate([float(bool(answer.reasoning)) for answer in said.values()])
    return Refusals(estimates["harmful"], estimates["harmless"], thinks, failed, len(everything))


def before_after(
    base: str | Path, tuned: str | Path, run_dir: str | Path, config: str = "held_out", **options: int | bool
) -> tuple[Refusals, Refusals]:
    """Compare a model before and after training on the questions of [`read_questions`].

    The journal in `run_dir` keeps the responses, so that none is generated twice. `options` are those of [`refusals`].
    """
    items = read_questions(config)
    with Journal(Path(run_dir) / "evaluation.sqlite") as journal:
        before, after = (refusals(model_in(folder), items, journal, **options) for folder in (base, tuned))
    return before, after


def draw(before: Refusals, after: Refusals, path: str | Path) -> Path:
    """Draw the shares of both models with their 95 % intervals; `path` ends with `.png`, `.svg` or `.pdf`."""
    figure = new_figure(figsize=(7, 3.2), dpi=150)
    axes = figure.add_subplot()
    for name, found, colour, offset in (("before", before, COLOURS[1], -0.14), ("after", after, COLOURS[0], 0.14)):
        shares = [(place, getattr(found, field)) for place, field in enumerate(MEASURES)]
        shares = [(place + offset, share) for place, share in shares if share.value is not None]
        axes.errorbar(
            [100 * share.value for _, share in shares],
            [place for place, _ in shares],
            xerr=[
                [100 * (share.value - share.low) for _, share in shares],
                [100 * (share.high - share.value) for _, share in shares],
            ],
            fmt="o",
            color=colour,
            capsize=4,
            label=f"{name} training, {found.failed} of {found.asked} not judged",
        )
    axes.set_yticks(range(len(MEASURES)), list(MEASURES.values()))
    axes.set_ylim(len(MEASURES) - 0.5, -0.5)
    axes.set_xlim(-2, 102)
    axes.set_xlabel(f"% of responses, with 95 % intervals; judge: {JUDGE}", fontsize=8, color=INK)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8, frameon=False)
    return save_figure(figure, path)
