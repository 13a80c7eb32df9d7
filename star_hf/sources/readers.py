"""How a source's row becomes a question, several questions, or is dropped with a reason.

Most sources hold the question in one column, which their card names (`columns`, see `star_hf.sources.catalogue`):
they need no code. The functions here are for the others. Profile `paper` reads every source as STAR-1 did (paper,
Section 2.1), defects included; `recommended` differs only where that was wrong. A missing column is a `KeyError`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from datasets import Dataset

from .catalogue import Source, catalogue


__all__ = ["PROFILES", "Drop", "Reader", "Row", "Take", "draw", "readers_of"]

Row = Mapping[str, Any]
Taken = TypeVar("Taken")


@dataclass(frozen=True)
class Drop:
    """A row that is not collected: why, in one word or `snake_case`, what would have been the question, details."""

    reason: str
    question: str
    detail: str | None = None


Take = str | list[str] | Drop
Reader = Callable[[Row], Take]


def first_column(row: Row, names: Sequence[str]) -> Take:
    """The question of a source without a function of its own: the value of the first of these columns that it has.

    The Hub and the local copy may name the column differently. Some files are one row with a list of questions.
    """
    return row[next((name for name in names if name in row), names[0])]


def harm_bench(row: Row) -> Take:
    """Every behaviour but the contextual ones, which mean nothing without their context."""
    return _unless(row["FunctionalCategory"] == "contextual", "contextual", row["Behavior"])


def harmful_qa(row: Row) -> Take:
    """A row per question on the Hub; one row of topics, subtopics and lists of questions in the authors' file."""
    if row and all(isinstance(topic, Mapping) for topic in row.values()):
        return [question for topic in row.values() for questions in topic.values() for question in questions]
    return row["question"]


def alert(row: Row) -> Take:
    """The prompt without the instruction and response headers around it."""
    return re.sub(r"### (Instruction|Response):", "", first_column(row, ("prompt", "query"))).strip()


def pku_safe_rlhf(row: Row) -> Take:
    """Prompts with two unsafe responses."""
    return _unless(row["is_response_0_safe"] or row["is_response_1_safe"], "safe_response", row["prompt"])


def beaver_tails(row: Row) -> Take:
    """Prompts with an unsafe response."""
    return _unless(row["is_safe"], "safe_response", row["prompt"])


def wildjailbreak(row: Row) -> Take:
    """The vanilla prompt of every row: STAR-1 did not filter by type, so that benign prompts leak in."""
    return row["vanilla"]


def wildjailbreak_harmful(row: Row) -> Take:
    """The vanilla prompt of harmful rows; the benign ones leave as `benign`, for the benign mix to read."""
    return _unless(row["data_type"].endswith("_benign"), "benign", row["vanilla"])


def wildjailbreak_eval(row: Row) -> str | Drop:
    """The adversarial text of harmful rows, as STAR-1 holds it out."""
    return _unless(row["data_type"] != "adversarial_harmful", "not_adversarial_harmful", row["adversarial"])


def wildjailbreak_eval_with_seed(row: Row) -> Take:
    """The adversarial text of harmful rows and, where the file has it, the vanilla seed that it hides."""
    take = wildjailbreak_eval(row)
    return take if isinstance(take, Drop) or not row.get("vanilla") else [take, row["vanilla"]]


def xs_test(row: Row) -> Take:
    """The safe prompts."""
    return _unless(row["label"] != "safe", "unsafe", row["prompt"])


def wild_chat(row: Row) -> Take:
    """The prompt of toxic, one-turn, English conversations in which the moderation flagged the prompt or the reply.

    STAR-1 evaluates on those of them with the highest scores of the reply (`star_hf.evaluation.tasks.items`).
    Holding all of them out protects a superset.
    """
    wanted = row["toxic"] and row["turn"] == 1 and row["language"] == "English"
    flagged = any(verdict["flagged"] for verdict in row["openai_moderation"])
    return _unless(not (wanted and flagged), "not_evaluated", row["conversation"][0]["content"])


def _unless(dropped: bool, reason: str, question: str) -> str | Drop:
    return Drop(reason, question) if dropped else question


AS_STAR_1: dict[str, Reader] = {
    "HarmBench": harm_bench,
    "HarmfulQA": harmful_qa,
    "ALERT": alert,
    "PKUSafeRLHF": pku_safe_rlhf,
    "BeaverTails": beaver_tails,
    "wildjailbreak": wildjailbreak,
    "wildjailbreak-eval": wildjailbreak_eval,
    "XSTest": xs_test,
    "WildChat": wild_chat,
}
"""The sources that need a function."""

CORRECTED: dict[str, Reader] = {
    "wildjailbreak": wildjailbreak_harmful,
    "wildjailbreak-eval": wildjailbreak_eval_with_seed,
}
"""What `recommended` reads differently: no benign rows among the harmful, and no hidden seed left in."""

NOT_HELD_OUT_BY_STAR_1 = ("WildChat",)

PROFILES = ("paper", "recommended")


def readers_of(profile: str) -> dict[str, Reader]:
    """The reader of each source that a profile knows, in catalogue order; `"paper"` does not know WildChat."""
    paper = profile == "paper"
    special = AS_STAR_1 if paper else AS_STAR_1 | CORRECTED
    return {
        name: special.get(name) or partial(first_column, names=source.columns)
        for name, source in catalogue().items()
        if not (paper and name in NOT_HELD_OUT_BY_STAR_1)
    }


def draw(source: Source, rows: Sequence[Taken]) -> Sequence[Taken]:
    """The sample that a benchmark's card describes, drawn as STAR-1 drew it; all rows where it describes none."""
    if source.subset is None:
        return rows
    order = Dataset.from_dict({"index": list(range(len(rows)))}).shuffle(seed=source.subset["shuffle_seed"])
    return [rows[index] for index in order["index"][: source.subset["rows"]]]
