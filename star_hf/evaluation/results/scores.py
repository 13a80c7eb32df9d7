"""What each answer and each item scored. The only place that decides which failures are part of a rate."""

from collections.abc import Mapping

import pandas as pd

from ...errors import SourceError
from ..types import Part


__all__ = ["MODEL_FAILURES", "item_values", "scored_responses", "strict_values"]

MODEL_FAILURES = ("empty", "truncated", "unclosed", "unparseable")
"""Failures of the model itself where an extractor grades: a strict accuracy counts them as wrong."""

KEY = ["benchmark", "item_id", "sample"]


def scored_responses(
    answers: pd.DataFrame, verdicts: pd.DataFrame, judges: Mapping[str, str | None], part: Part = "answer"
) -> pd.DataFrame:
    """One row per answer, in their order, with the `value` that a judge gave it, or the `failure` why it has none.

    An answer without a verdict has the failure `judge_error`. Two rows of an answer, or two verdicts of its judge,
    are a [`SourceError`].

    Args:
        answers, verdicts ([`~pandas.DataFrame`]): Columns of `RESPONSES` and `VERDICTS`; `answers` needs only
            the key, `failure`, and those to be returned.
        judges (`dict[str, str | None]`): The judge of each benchmark; with `None`, no answer to it has a value.
            Benchmarks that are not listed are left out.
    """
    given = answers[answers["benchmark"].isin(list(judges))]
    wanted = verdicts[(verdicts["part"] == part) & (verdicts["judge"] == verdicts["benchmark"].map(judges))]
    for table, what in ((given, "answer"), (wanted, "verdict")):
        if (twice := table.duplicated(KEY)).any():
            first = table[twice].iloc[0]
            raise SourceError(
                f"{first['benchmark']}: item {first['item_id']}, sample {first['sample']} has more than one {what}.",
                "Write each item and sample once. `star-hf judge run` makes the verdicts anew.",
            )
    rows = given.merge(wanted[[*KEY, "value", "failure"]], "left", KEY, suffixes=("", "_judge"))
    rows["failure"] = rows["failure"].fillna(rows.pop("failure_judge"))
    rows.loc[rows["failure"].notna(), "value"] = float("nan")
    rows.loc[rows["failure"].isna() & rows["value"].isna(), "failure"] = "judge_error"
    return rows


def item_values(rows: pd.DataFrame, strict: bool = False) -> pd.Series:
    """The mean value of each item over its samples, by benchmark and item id, in their order.

    Failures are left out, and an item with nothing but failures has no value; if `strict`, failures of the model
    itself count as wrong.
    """
    values = strict_values(rows) if strict else rows["value"]
    return values.groupby([rows["benchmark"], rows["item_id"]]).mean().dropna()


def strict_values(rows: pd.DataFrame) -> pd.Series:
    """The value of each answer: 0 where the model failed, none where there was no answer or no verdict."""
    return rows["value"].mask(rows["failure"].isin(MODEL_FAILURES), 0.0)
