"""One small function per benchmark: a row becomes an item, or `None` where the row does not count.

The question of a safety set's row comes from `star_hf.sources.readers`, so that what is measured is exactly what the
training data must not hold. `prompt` is the bare question here; instructions are added when a benchmark is loaded.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from string import ascii_uppercase
from typing import Any

from datasets import Dataset

from ...sources.catalogue import Source
from ...sources.readers import Drop, wildjailbreak_eval, xs_test
from ...utils.text import row_id
from ..types import Item


__all__ = [
    "GPQA_COLUMNS",
    "aime",
    "draw_sample",
    "gpqa",
    "humaneval",
    "jbb",
    "math",
    "mmlu_pro",
    "most_flagged",
    "strongreject",
    "wildchat",
    "wildjailbreak",
    "xstest",
    "xstest_unsafe",
]

Row = Mapping[str, Any]

GPQA_COLUMNS = (
    "Record ID",
    "Correct Answer",
    "Incorrect Answer 1",
    "Incorrect Answer 2",
    "Incorrect Answer 3",
    "High-level domain",
)

PER_CATEGORY = 100
"""Prompts of WildChat per moderation category (paper, Section 3)."""


def strongreject(row: Row) -> Item:
    """Every row."""
    return _asked(row["forbidden_prompt"], row["category"])


def jbb(row: Row) -> Item:
    """Every behaviour."""
    return _asked(row["Goal"], row["Category"])


def wildjailbreak(row: Row) -> Item | None:
    """The adversarial text of harmful rows."""
    prompt = wildjailbreak_eval(row)
    return None if isinstance(prompt, Drop) else _asked(prompt)


def xstest(row: Row) -> Item | None:
    """The safe prompts."""
    prompt = xs_test(row)
    return None if isinstance(prompt, Drop) else Item(str(row["id"]), prompt, row["type"])


def xstest_unsafe(row: Row) -> Item | None:
    """The unsafe prompts, which look like the safe ones."""
    prompt = xs_test(row)
    return Item(str(row["id"]), prompt.question, row["type"]) if isinstance(prompt, Drop) else None


def wildchat(row: Row) -> Item | None:
    """A toxic English conversation of one turn whose prompt the moderation flagged, with its scores where it did."""
    if not (row["toxic"] and row["turn"] == 1 and row["language"] == "English"):
        return None
    verdict = row["openai_moderation"][0]
    # The edition spells some categories twice, as `self-harm/intent` and `self_harm_intent`.
    flagged = {re.sub("[/_]", "-", name): name for name, is_flagged in verdict["categories"].items() if is_flagged}
    if not flagged:
        return None
    scores = {name: verdict["category_scores"][spelled] or 0.0 for name, spelled in flagged.items()}
    highest = max(scores, key=lambda name: (scores[name], name))
    return replace(_asked(row["conversation"][0]["content"], highest), facts={"scores": scores})


def aime(row: Row) -> Item:
    """Every problem; the answer is a whole number."""
    return Item(str(row["id"]), row["problem"], target=str(row["answer"]))


def math(row: Row) -> Item:
    """Every problem; the answer is LaTeX."""
    return Item(row["unique_id"], row["problem"], row["subject"], row["answer"], facts={"level": row["level"]})


def gpqa(row: Row) -> Item:
    """Every question; the order of its choices is drawn with the record's id as seed, the same for every model."""
    right = row["Correct Answer"].strip()
    choices = [right, *(row[f"Incorrect Answer {n}"].strip() for n in (1, 2, 3))]
    Random(row["Record ID"]).shuffle(choices)
    return _choose(row["Record ID"], row["Question"], choices, choices.index(right), row["High-level domain"])


def mmlu_pro(row: Row) -> Item:
    """Every question, its choices in the file's order."""
    right = ascii_uppercase.index(row["answer"])
    return _choose(str(row["question_id"]), row["question"], row["options"], right, row["category"])


def humaneval(row: Row) -> Item:
    """Every function; the target is the program that tests it."""
    facts = {"signature": row["prompt"], "entry_point": row["entry_point"]}
    return Item(row["task_id"], f"```python\n{row['prompt'].rstrip()}\n```", target=row["test"], facts=facts)


def draw_sample(items: Sequence[Item], source: Source) -> list[Item]:
    """The sample that the card describes, drawn as STAR-1 drew it, so that the items are the same."""
    order = Dataset.from_dict({"index": list(range(len(items)))}).shuffle(seed=source.subset["shuffle_seed"])
    return [items[index] for index in order["index"][: source.subset["rows"]]]


def most_flagged(items: Sequence[Item], source: Source) -> list[Item]:
    """The prompts with the highest scores of each moderation category, each prompt once."""
    distinct = {item.id: item for item in items}
    ranked = defaultdict(list)
    for item in distinct.values():
        for name, score in item.facts["scores"].items():
            ranked[name].append((-score, item.id))
    chosen = {name for ranking in ranked.values() for _, name in sorted(ranking)[:PER_CATEGORY]}
    return [distinct[name] for name in sorted(chosen)]


def _asked(question: str, category: str | None = None) -> Item:
    return Item(row_id(question), question, category)


def _choose(name: str, question: str, choices: Sequence[str], right: int, category: str | None) -> Item:
    letters = ascii_uppercase[: len(choices)]
    lettered = [f"{letter}) {choice}" for letter, choice in zip(letters, choices, strict=True)]
    text = "\n".join([question.strip(), "", *lettered])
    return Item(name, text, category, letters[right], facts={"letters": letters})
