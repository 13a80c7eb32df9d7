"""What makes an item of a row where columns alone do not: the choices, the code, the scores of a moderation."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from string import ascii_uppercase
from typing import Any

from ..types import Item


__all__ = ["gpqa", "highest_scores", "humaneval", "mmlu_pro", "wildchat"]

Row = Mapping[str, Any]

PER_CATEGORY = 100
"""Prompts of WildChat per moderation category (paper, Section 3)."""


def wildchat(item: Item, row: Row) -> Item | None:
    """A prompt with a flagged reply, in the category with the reply's highest score, as in STAR-1's code."""
    verdict = row["openai_moderation"][-1]
    if not verdict["flagged"]:
        return None
    # The public edition spells some categories twice, as `self-harm/intent` and `self_harm_intent`.
    score, category = max(
        (score or 0.0, re.sub("[/_]", "-", name)) for name, score in verdict["category_scores"].items()
    )
    return replace(item, category=category, facts={"score": score})


def highest_scores(items: Sequence[Item]) -> list[Item]:
    """The prompts with the highest scores of each moderation category, each prompt once."""
    ranked = defaultdict(list)
    for item in {item.id: item for item in items}.values():
        ranked[item.category].append(item)
    chosen = []
    for ranking in ranked.values():
        chosen += sorted(ranking, key=lambda item: (-item.facts["score"], item.id))[:PER_CATEGORY]
    return sorted(chosen, key=lambda item: item.id)


def gpqa(item: Item, row: Row) -> Item:
    """A question with its choices, in an order drawn with the record's id as seed: the same for every model."""
    right = row["Correct Answer"].strip()
    choices = [right, *(row[f"Incorrect Answer {n}"].strip() for n in (1, 2, 3))]
    Random(item.id).shuffle(choices)
    return _with_choices(replace(item, target=ascii_uppercase[choices.index(right)]), choices)


def mmlu_pro(item: Item, row: Row) -> Item:
    """A question with its choices in the file's order."""
    return _with_choices(item, row["options"])


def humaneval(item: Item, row: Row) -> Item:
    """A function to complete; the target is the program that tests it."""
    facts = {"signature": item.prompt, **item.facts}
    return replace(item, prompt=f"```python\n{item.prompt.rstrip()}\n```", facts=facts)


def _with_choices(item: Item, choices: Sequence[str]) -> Item:
    letters = ascii_uppercase[: len(choices)]
    lettered = [f"{letter}) {choice}" for letter, choice in zip(letters, choices, strict=True)]
    return replace(item, prompt="\n".join([item.prompt.strip(), "", *lettered]), facts={"letters": letters})
