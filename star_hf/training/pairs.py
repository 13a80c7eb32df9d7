"""Pairs of responses to the same question, one with high marks and one with low marks, for preference training.

A build scores one response per question. Pairs come from the scored rows of several builds of the same questions, for
example with the teacher and with the model to be trained (`recipes/data/student.yaml`), or from a data set of pairs.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from datasets import Dataset, Features, Value

from ..errors import TrainingError
from ..utils.text import row_id


__all__ = ["PAIRS", "preference_pairs"]

PAIRS = Features(dict.fromkeys(("question", "chosen", "rejected"), Value("string")))
"""The columns of a pair."""


def preference_pairs(rows: Dataset, chosen_score: int = 10, rejected_score: int = 7) -> Dataset:
    """The pairs of a data set: its own, or for each question the response with the highest marks and the lowest.

    Args:
        rows ([`~datasets.Dataset`]): With `question`, `chosen` and `rejected`, or with `question`, `response` and
            `score` in several rows per question. Questions that differ in case or spaces are the same.
        chosen_score (`int`, defaults to 10): A response is chosen only if its lowest mark is at least this.
        rejected_score (`int`, defaults to 7): A response is rejected only if its lowest mark is at most this.

    Returns:
        [`~datasets.Dataset`]: Columns [`PAIRS`], in the order in which the questions first appear. Ties are broken by
        the text, so the order of the responses does not matter.

    Raises:
        [`TrainingError`]: If the columns are neither, the bounds leave no gap, or there is no pair.
    """
    columns = set(rows.column_names)
    if {"chosen", "rejected"} <= columns:
        return rows.select_columns(list(PAIRS)).cast(PAIRS)
    if not {"response", "score"} <= columns:
        raise TrainingError(
            f"The data have the columns {', '.join(rows.column_names)}: neither pairs nor scored responses.",
            "Give `question, chosen, rejected`, or `question, response, score` of a build's stage `score`.",
        )
    if rejected_score >= chosen_score:
        raise TrainingError(
            f"rejected_score is {rejected_score} and chosen_score {chosen_score}: a response could be both.",
            "Set `rejected_score` below `chosen_score`.",
        )
    responses: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows.select_columns(["question", "response", "score"]):
        responses[row_id(row["question"])].append(row)
    pairs = [pair for group in responses.values() if (pair := _pair(group, chosen_score, rejected_score))]
    if not pairs:
        several = sum(len({row["response"] for row in group}) > 1 for group in responses.values())
        raise TrainingError(
            f"There are no pairs: of {len(responses)} questions, {several} have more than one response, and none has "
            f"both one with {chosen_score} or more on every criterion and one with {rejected_score} or less on some.",
            "A build scores one response per question. Add the scored rows of a second build of the same questions to "
            "`datasets` (docs/training.md, Preferences), or change `chosen_score` and `rejected_score`.",
        )
    return Dataset.from_list(pairs, features=PAIRS)


def _pair(group: list[Mapping[str, Any]], chosen_score: int, rejected_score: int) -> dict[str, str] | None:
    marked = [(list(row["score"].values()), row) for row in group if row["score"]]
    complete = [(min(marks), sum(marks), row) for marks, row in marked if None not in marks]
    high = [entry for entry in complete if entry[0] >= chosen_score]
    low = [entry for entry in complete if entry[0] <= rejected_score]
    if not high or not low:
        return None
    best = min(high, key=lambda entry: (-entry[1], entry[2]["response"]))[2]
    worst = min(low, key=lambda entry: (entry[1], entry[2]["response"]))[2]
    return {"question": best["question"], "chosen": best["response"], "rejected": worst["response"]}
