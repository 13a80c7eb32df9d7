"""A seeded sample of a run's rows, kept and removed, with everything the run knows about each."""

import hashlib
import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..pipeline.run import Run
from ..utils.text import split_reasoning


__all__ = ["KEPT", "TWIN", "Sample", "sample"]

KEPT, TWIN = "kept", "benign twin"
"""Outcomes of rows that were not removed; the others are `<stage>: <reason>`."""

LONGEST = 6_000
"""Most characters of a text that are shown."""


@dataclass(frozen=True)
class Sample:
    """One row in the report.

    Its outcome is [`KEPT`], [`TWIN`], or `<stage>: <reason>`. What it matched has `id`, `source`, `similarity`, and
    `text` if the run has it. The origin of a twin is the `id` of its harmful original.
    """

    id: str
    question: str
    source: str
    outcome: str
    category: list[str] = field(default_factory=list)
    thought: str | None = None
    answer: str | None = None
    score: dict[str, int] = field(default_factory=dict)
    matched: dict[str, Any] | None = None
    detail: str | None = None
    origin: str | None = None


def sample(run: Run, size: int = 600, seed: int = 0) -> list[Sample]:
    """Choose at most `size` ids to browse, up to half of them kept, the others spread evenly over the reasons of
    removal.

    A row is chosen by a hash of the seed, the outcome and its `id`, so the order of rows does not matter. Copies of a
    question that were removed for one reason count once.
    """
    if not run.records:
        return []
    last = [stage for stage in run.records if stage != "rewrite"][-1]
    places = {KEPT: (last, "rows"), **({TWIN: ("rewrite", "rows")} if "rewrite" in run.records else {})}
    members: dict[str, list[str]] = {outcome: run.columns(*place, "id")[0] for outcome, place in places.items()}
    for stage in run.records:
        for row_id, reason in zip(*run.columns(stage, "removed", "id", "reason"), strict=True):
            outcome = f"{stage}: {reason}"
            places[outcome] = (stage, "removed")
            members.setdefault(outcome, []).append(row_id)
    chosen = {
        outcome: _pick(members[outcome], number, f"{seed}:{outcome}")
        for outcome, number in _quotas({outcome: len(set(ids)) for outcome, ids in members.items()}, size).items()
    }
    records = {
        outcome: [
            row
            for row in run.find(*places[outcome], *ids)
            if places[outcome][1] == "rows" or outcome.endswith(f": {row['reason']}")
        ]
        for outcome, ids in chosen.items()
    }
    known = _Known(run, [row for rows in records.values() for row in rows])
    return [known.sample(row, outcome) for outcome, rows in records.items() for row in rows]


def _quotas(sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Rows per outcome: half for the kept ones, and equal shares for the others as far as there are rows."""
    quotas = {KEPT: min(sizes[KEPT], (total + 1) // 2)}
    left = total - quotas[KEPT]
    others = sorted((size, outcome) for outcome, size in sizes.items() if outcome != KEPT)
    for position, (size, outcome) in enumerate(others):
        quotas[outcome] = min(size, left // (len(others) - position))
        left -= quotas[outcome]
    quotas[KEPT] = min(sizes[KEPT], quotas[KEPT] + left)
    return {outcome: quotas[outcome] for outcome in sizes}


def _pick(ids: Sequence[str], number: int, salt: str) -> list[str]:
    return heapq.nsmallest(number, set(ids), key=lambda row_id: hashlib.sha256(f"{salt}:{row_id}".encode()).digest())


class _Known:
    """What the run's stages know about some rows, looked up once for all."""

    def __init__(self, run: Run, rows: list[dict[str, Any]]):
        ids = [row["id"] for row in rows]
        matched = [row["matched_id"] for row in rows if row.get("matched_id")]
        self.columns = {
            column: {row["id"]: row[column] for row in run.find(stage, "rows", *ids)}
            for stage, column in (("classify", "category"), ("reason", "response"), ("score", "score"))
        }
        self.texts = {
            row["id"]: row["question"]
            for stage, table in (("collect", "held_out"), ("collect", "rows"), ("rewrite", "rows"))
            for row in run.find(stage, table, *matched)
        }

    def sample(self, row: Mapping[str, Any], outcome: str) -> Sample:
        """Everything known about a row."""
        known = {column: row.get(column) or values.get(row["id"]) for column, values in self.columns.items()}
        if outcome.startswith("rewrite:"):  # these are of the harmful original with the same id
            known |= {"response": None, "score": None}
        category, response, score = known["category"], known["response"], known["score"]
        parts = split_reasoning(response) if response else None
        matched = None
        if row.get("matched_id"):
            matched = {
                "id": row["matched_id"],
                "source": row["matched_source"],
                "similarity": row["similarity"],
                "text": _shorten(self.texts.get(row["matched_id"])),
            }
        return Sample(
            id=row["id"],
            question=_shorten(row["question"]),
            source=row["source"],
            outcome=outcome,
            category=category or [],
            thought=_shorten(parts.thought) if parts else None,
            answer=_shorten(parts.answer or (None if parts.thought else response)) if parts else None,
            score={name: mark for name, mark in (score or {}).items() if mark is not None},
            matched=matched,
            detail=_shorten(row.get("detail")),
            origin=row.get("origin_id"),
        )


def _shorten(text: str | None) -> str | None:
    if text is None or len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST]}… ({len(text) - LONGEST:,} more characters)"
