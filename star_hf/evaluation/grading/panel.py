"""A panel: the majority of several judges, as the verdicts of one more judge."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from datasets import Dataset

from ...schema import as_dataset, each_row
from ..types import VERDICTS, Part, Verdict
from .judging import JUDGE_FAILURES


__all__ = ["PANEL", "Text", "is_good", "panel", "verdicts_by_text"]

PANEL = "panel"
"""The panel's name among the judges."""

Text = tuple[str, str, int, Part]
"""Benchmark, item, sample and part."""


def panel(verdicts: Dataset) -> Dataset:
    """The majority of all judges, as verdicts of one more judge, on each text that at least two judges were given.

    Each verdict is a vote for the nearer of 0 and 1. More than half of the judges must agree, and those without a
    verdict count as judges; otherwise the panel fails with `no_majority`. An earlier panel's verdicts are ignored.
    """
    rows = []
    for (benchmark, item_id, sample, part), given in verdicts_by_text(verdicts).items():
        if len(given) > 1:
            verdict = Verdict(item_id, sample, PANEL, part, **_majority(given))
            rows.append({"benchmark": benchmark, **vars(verdict)})
    return as_dataset(rows, VERDICTS)


def verdicts_by_text(verdicts: Dataset) -> dict[Text, dict[str, Mapping[str, Any]]]:
    """The verdict of each judge but the panel on each text, in the order of the verdicts."""
    texts: dict[Text, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for row in each_row(verdicts):
        if row["judge"] != PANEL:
            texts[row["benchmark"], row["item_id"], row["sample"], row["part"]][row["judge"]] = row
    return texts


def is_good(verdict: Mapping[str, Any]) -> bool:
    """Whether a verdict is a vote for the desired outcome."""
    return verdict["value"] >= 0.5


def _majority(given: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The columns of the panel's verdict on one text."""
    votes = [verdict for verdict in given.values() if verdict["failure"] is None]
    if not votes:
        failures = Counter(verdict["failure"] for verdict in given.values())
        return {"failure": max(failures, key=lambda name: (failures[name], name not in JUDGE_FAILURES))}
    good = sum(map(is_good, votes))
    detail = f"{good} for, {len(votes) - good} against, {len(given) - len(votes)} without a verdict"
    if 2 * max(good, len(votes) - good) <= len(given):
        return {"failure": "no_majority", "detail": detail}
    winner = good > len(votes) - good
    majority = [verdict for verdict in votes if is_good(verdict) is winner]
    labels = Counter(verdict["label"] for verdict in majority)
    names = (name for verdict in majority for name in re.split(r",(?! )", verdict["category"] or "") if name)
    return {
        "label": min(labels, key=lambda label: (-labels[label], label)),
        "value": float(winner),
        "category": ",".join(dict.fromkeys(names)) or None,
        "detail": detail,
    }
