"""Malformed rows: responses, labels and scores that a model should not be trained on."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from ..policies import Taxonomy
from ..schema import BENIGN_CRITERIA, SCORE_CRITERIA
from ..utils.text import is_blank, split_reasoning
from .rows import Rows
from .types import Finding, Severity, row_findings


__all__ = ["check_form"]

RANGES = {SCORE_CRITERIA: (0, 10), BENIGN_CRITERIA: (1, 5)}
"""Lowest and highest score for each set of criteria."""

_TEMPLATE = re.compile(r"<\|[a-z_]+\|>|<｜[^｜\n]{1,40}｜>|\[/?INST\]|<(?:start|end)_of_turn>")


def check_form(rows: Rows, taxonomy: Taxonomy, reasoning: bool | None = None) -> tuple[list[Finding], dict[str, str]]:
    """Check each row by itself. `taxonomy` has the known categories, and `reasoning` is as for [`audit`].

    Returns:
        The findings, and the checks that could not be made, with the reason.
    """
    findings, skipped = [], {}

    def check(name: str, severity: Severity, summary: str, problem: Callable[[int], str | bool | None]) -> None:
        findings.extend(row_findings(name, severity, summary, rows.ids, map(problem, range(len(rows)))))

    if rows.refused:
        places = "; ".join(rows.refused[:3])
        findings.append(Finding("unreadable_row", "error", f"{len(rows.refused)} rows cannot be read: {places}."))
    check("empty_question", "error", "No question.", lambda i: is_blank(rows.questions[i]))
    if rows.has("id"):
        seen = Counter(rows.ids)
        check("repeated_id", "error", "Another row has the same id.", lambda i: seen[rows.ids[i]] > 1)
    if not rows.has("response"):
        skipped["malformed_response"] = "there are no responses"
    else:
        tagged = any("think>" in (text or "") for text in rows.responses) if reasoning is None else reasoning
        if not tagged:
            skipped["reasoning"] = "no response has a reasoning tag, so only answers were required"
        summary = "The response is not closed reasoning and an answer." if tagged else "No response."
        check("malformed_response", "error", summary, lambda i: _response_problem(rows.responses[i], tagged))
    check(
        "template_token",
        "warning",
        "The text contains tokens of a chat template.",
        lambda i: next(iter(_TEMPLATE.findall(f"{rows.questions[i]}\n{rows.responses[i]}")), None),
    )
    known, labels = set(taxonomy.names), {label for given in rows.categories for label in given or ()}
    if not rows.has("category"):
        skipped["unknown_category"] = "there are no categories"
    elif labels and not labels & known:
        skipped["unknown_category"] = f"no label is in the taxonomy {taxonomy.name}; set yours with --policies"
    else:
        summary = f"The category is missing or not in the taxonomy {taxonomy.name}."
        check("unknown_category", "error", summary, lambda i: _unknown_label(rows.categories[i], known))
    if not rows.has("score"):
        skipped["score_out_of_range"] = "there are no scores"
    else:
        summary = "A score is missing or out of range."
        check("score_out_of_range", "error", summary, lambda i: _score_problem(rows.scores[i]))
    return findings, skipped


def _response_problem(response: str | None, reasoning: bool) -> str | None:
    """What is wrong with a response, in one word."""
    if response is None or is_blank(response):
        return "empty_response"
    return split_reasoning(response).problem if reasoning else None


def _unknown_label(labels: list[str] | None, known: set[str]) -> str | None:
    """The first label that is not known."""
    return next((label for label in labels if label not in known), None) if labels else "no category"


def _score_problem(score: Any) -> str | None:
    """The first criterion with a score that is missing or not an integer in its range."""
    if not isinstance(score, Mapping):
        return "no score"
    given = {name for name, value in score.items() if value is not None}
    criteria = next((names for names in RANGES if given <= set(names)), tuple(score))
    low, high = RANGES.get(criteria, (0, 10))
    for name in criteria:
        value = score.get(name)
        if value is None:
            return f"{name} missing"
        whole = isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()
        if not whole or not low <= value <= high:
            return f"{name} is not an integer from {low} to {high}"
    return None
