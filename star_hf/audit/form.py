"""Rows that are broken: they would train a model on half a thought, or on a mark or a label that means nothing."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..policies import Taxonomy
from ..schema import BENIGN_CRITERIA, SCORE_CRITERIA
from ..utils.text import split_reasoning
from .rows import Rows
from .types import Finding, Hit, Severity


__all__ = ["check_form"]

MARKS = {SCORE_CRITERIA: (0, 10), BENIGN_CRITERIA: (1, 5)}
"""Lowest and highest mark for each set of criteria."""

_TEMPLATE = re.compile(r"<\|[a-z_]+\|>|<｜[^｜\n]{1,40}｜>|\[/?INST\]|<(?:start|end)_of_turn>")


def check_form(rows: Rows, taxonomy: Taxonomy, reasoning: bool | None = None) -> tuple[list[Finding], dict[str, str]]:
    """Look at each row by itself.

    Args:
        rows ([`Rows`]): The rows.
        taxonomy ([`Taxonomy`]): The categories that a label may name.
        reasoning (`bool`, *optional*): Whether each response must be a closed thought and an answer. By default that
            is asked of all as soon as one response has a tag of a thought.

    Returns:
        The findings, and the checks that could not be made, with the reason.
    """
    findings, skipped = [], {}
    findings += _finding(rows, "empty_question", "error", "No question.", lambda i: not rows.questions[i].strip())
    if rows.has("id"):
        seen = Counter(rows.ids)
        findings += _finding(
            rows, "repeated_id", "error", "An id that another row has too.", lambda i: seen[rows.ids[i]] > 1
        )
    if not rows.has("response"):
        skipped["malformed_response"] = "there is no response"
    else:
        asked = any("think>" in (text or "") for text in rows.responses) if reasoning is None else reasoning
        if not asked:
            skipped["reasoning"] = "no response has a tag of a thought, so only answers were asked for"
        words = "A response that is not a closed thought and an answer." if asked else "No response."
        findings += _finding(rows, "malformed_response", "error", words, lambda i: _problem(rows.responses[i], asked))
    words = "Tokens of a chat template in the text."
    findings += _finding(
        rows,
        "template_token",
        "warning",
        words,
        lambda i: next(iter(_TEMPLATE.findall(f"{rows.questions[i]}\n{rows.responses[i]}")), None),
    )
    labels = {label for given in rows.categories for label in given or ()}
    if not rows.has("category"):
        skipped["unknown_category"] = "there is no category"
    elif labels and not labels & set(taxonomy.names):
        skipped["unknown_category"] = f"not one label is of the taxonomy {taxonomy.name}; name yours with --policies"
    else:
        words = f"No category, or one that the taxonomy {taxonomy.name} lacks."
        known = set(taxonomy.names)
        findings += _finding(
            rows, "unknown_category", "error", words, lambda i: _strange(rows.categories[i] or [], known)
        )
    if not rows.has("score"):
        skipped["score_out_of_range"] = "there is no score"
    else:
        words = "A mark that is missing or out of range."
        findings += _finding(rows, "score_out_of_range", "error", words, lambda i: _bad_mark(rows.scores[i]))
    return findings, skipped


def _finding(
    rows: Rows,
    check: str,
    severity: Severity,
    words: str,
    problem: Callable[[int], Any],
) -> Iterator[Finding]:
    """The finding of a check that says of each row what is wrong with it, if anything is."""
    found = ((index, problem(index)) for index in range(len(rows)))
    hits = tuple(
        Hit(index, rows.ids[index], detail=None if said is True else str(said)[:80]) for index, said in found if said
    )
    if hits:
        yield Finding(check, severity, words, hits)


def _problem(response: str | None, reasoning: bool) -> str | None:
    """What is wrong with a response, in one word."""
    if response is None or not response.strip():
        return "empty_response"
    return split_reasoning(response).problem if reasoning else None


def _strange(labels: list[str], known: set[str]) -> str | None:
    """The first label that the taxonomy lacks."""
    if not labels:
        return "no category"
    return next((label for label in labels if label not in known), None)


def _bad_mark(score: Any) -> str | None:
    """The first criterion whose mark is not a whole number in its range."""
    if not isinstance(score, Mapping):
        return "no score"
    given = {name for name, mark in score.items() if mark is not None}
    criteria = next((names for names in MARKS if given <= set(names)), tuple(score))
    low, high = MARKS.get(criteria, (0, 10))
    for name in criteria:
        mark = score.get(name)
        if mark is None:
            return f"{name} missing"
        whole = isinstance(mark, int | float) and not isinstance(mark, bool) and float(mark).is_integer()
        if not whole or not low <= mark <= high:
            return f"{name} is no whole number from {low} to {high}"
    return None
