"""The data set as a whole: lengths, balance and licences."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..sources.loading import licences_by_name
from ..utils.text import split_reasoning
from .rows import Rows
from .types import Finding, row_findings


__all__ = ["check_shape"]

SKEW = 5
"""From this ratio of the largest to the smallest category on, the data set is unbalanced; STAR-1 has 7.3."""


def check_shape(rows: Rows) -> tuple[list[Finding], dict[str, Any]]:
    """Describe the data set.

    Returns:
        The findings, and the statistics: `words` (of questions, reasoning and answers), `sources`, `categories`
        (labels by source) and `licenses` (rows by licence).
    """
    parts = [split_reasoning(text or "") for text in rows.responses] if rows.has("response") else []
    statistics: dict[str, Any] = {
        "words": {
            "question": _lengths(rows.questions),
            "thought": _lengths(part.thought for part in parts if part.thought),
            "answer": _lengths(part.answer for part in parts if part.answer),
        },
        "sources": dict(Counter(source or "unknown" for source in rows.sources).most_common()),
        "categories": _balance(rows),
        "licenses": {},
    }
    findings = _skew(statistics["categories"])
    if rows.has("source"):
        known = licences_by_name()
        licences = [known.get(source or "", "not in the catalogue") for source in rows.sources]
        statistics["licenses"] = dict(Counter(licences).most_common())
        findings += _licences(rows, licences)
    return findings, statistics


def _lengths(texts: Iterable[str]) -> dict[str, float]:
    """Number of texts, and minimum, median, mean, 95th percentile and maximum of their words."""
    counts = np.array([len(text.split()) for text in texts])
    if not len(counts):
        return {"n": 0}
    return {
        "n": len(counts),
        "min": int(counts.min()),
        "median": float(np.median(counts)),
        "mean": round(float(counts.mean()), 1),
        "p95": round(float(np.percentile(counts, 95)), 1),
        "max": int(counts.max()),
    }


def _balance(rows: Rows) -> dict[str, dict[str, int]]:
    """Rows of each category by source, the largest first."""
    pairs = zip(rows.categories, rows.sources, strict=True)
    cells = Counter((label, source or "unknown") for labels, source in pairs for label in dict.fromkeys(labels or ()))
    totals: Counter[str] = Counter()
    for (label, _), count in cells.items():
        totals[label] += count
    return {
        label: {source: count for (of, source), count in cells.most_common() if of == label}
        for label, _ in totals.most_common()
    }


def _skew(categories: dict[str, dict[str, int]]) -> list[Finding]:
    totals = {label: sum(cells.values()) for label, cells in categories.items()}
    if len(totals) < 2 or max(totals.values()) < SKEW * min(totals.values()):
        return []
    least, most = min(totals, key=totals.__getitem__), max(totals, key=totals.__getitem__)
    ratio = totals[most] / totals[least]
    counts = f"{most} has {totals[most]:,} rows, {least} {totals[least]:,} ({ratio:.1f} : 1)"
    return [Finding("unbalanced", "note", f"The categories are unbalanced: {counts}.")]


def _licences(rows: Rows, licences: list[str]) -> list[Finding]:
    """Rows with a licence that is unknown or forbids commercial use."""
    findings = []
    for check, summary, wanted in (
        ("unknown_licence", "From a source with an unknown licence.", ("unknown", "not in the catalogue")),
        ("noncommercial_licence", "From a source that forbids commercial use.", ("-nc",)),
    ):
        details = (
            f"{source}: {licence}" if any(part in licence for part in wanted) else None
            for source, licence in zip(rows.sources, licences, strict=True)
        )
        findings += row_findings(check, "note", summary, rows.ids, details)
    return findings
