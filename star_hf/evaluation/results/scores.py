"""Answers and verdicts as tables, and what each item scored: the one place where failures leave the rates."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict

import pandas as pd
from datasets import Dataset

from ...errors import SourceError
from ...schema import as_dataset
from ..types import ANSWERS, VERDICTS, Answer, Item, Part, Verdict


__all__ = ["MODEL_FAILURES", "answers_table", "item_values", "scored_answers", "strict_values", "verdicts_table"]

MODEL_FAILURES = ("empty", "truncated", "unclosed", "unparseable")
"""Failures that are the model's own where an extractor grades: a strict accuracy counts them as wrong."""

KEY = ["item_id", "sample"]


def answers_table(benchmark: str, items: Sequence[Item], answers: Iterable[Answer]) -> Dataset:
    """Answers to a benchmark as `ANSWERS`, in their order.

    Args:
        benchmark (`str`): The benchmark's name.
        items (`list[Item]`): What was asked.
        answers (iterable of `Answer`): The answers, any number per item.
    """
    asked = {item.id: item for item in items}
    rows = []
    for answer in answers:
        item = asked[answer.item_id]
        about = {"prompt": item.prompt, "question": item.question, "category": item.category, "target": item.target}
        rows.append({"benchmark": benchmark, **asdict(answer), **about})
    return as_dataset(rows, ANSWERS)


def verdicts_table(benchmark: str, verdicts: Iterable[Verdict]) -> Dataset:
    """Verdicts on a benchmark as `VERDICTS`, in their order."""
    return as_dataset(({"benchmark": benchmark, **asdict(verdict)} for verdict in verdicts), VERDICTS)


def scored_answers(
    answers: pd.DataFrame, verdicts: pd.DataFrame, benchmark: str, judge: str | None, part: Part = "answer"
) -> pd.DataFrame:
    """One row per answer to a benchmark, with one judge's value or why there is none.

    Args:
        answers, verdicts ([`~pandas.DataFrame`]): With the columns of `ANSWERS` and `VERDICTS`.
        benchmark (`str`), judge (`str` or `None`), part (`str`): Which; without a judge nothing is judged.

    Returns:
        [`~pandas.DataFrame`]: `item_id, sample, category, value, failure`. An answer that nobody judged has the
        failure `judge_error`: what is not judged is never a rate.

    Raises:
        [`SourceError`]: If the same answer or verdict stands twice.
    """
    given = answers[answers["benchmark"] == benchmark]
    wanted = (verdicts["benchmark"] == benchmark) & (verdicts["judge"] == judge) & (verdicts["part"] == part)
    try:
        rows = given[[*KEY, "category", "failure"]].merge(
            verdicts.loc[wanted, [*KEY, "value", "failure"]], "left", KEY, suffixes=("", "_judge"), validate="1:1"
        )
    except pd.errors.MergeError as error:
        raise SourceError(
            f"{benchmark}: an answer or a verdict of {judge} stands twice ({error}).",
            "Write each item and sample once; `star-hf judge run` makes the verdicts anew.",
        ) from None
    rows["failure"] = rows["failure"].fillna(rows.pop("failure_judge"))
    rows.loc[rows["failure"].notna(), "value"] = float("nan")
    rows.loc[rows["failure"].isna() & rows["value"].isna(), "failure"] = "judge_error"
    return rows


def item_values(rows: pd.DataFrame, strict: bool = False) -> pd.Series:
    """The mean value of each item over its samples, by item id, in the order of the ids.

    Args:
        rows ([`~pandas.DataFrame`]): As `scored_answers` returns them.
        strict (`bool`, defaults to `False`): Whether the model's own failures count as wrong. Without it, a failure
            is left out, and an item that only failed has no value.
    """
    values = strict_values(rows) if strict else rows["value"]
    return values.groupby(rows["item_id"]).mean().dropna()


def strict_values(rows: pd.DataFrame) -> pd.Series:
    """The value of each answer, 0 where the model itself failed; answers that were never had or judged have none."""
    return rows["value"].mask(rows["failure"].isin(MODEL_FAILURES), 0.0)
