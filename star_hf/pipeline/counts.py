"""The numbers of a run: categories by sources, overlaps, scores, similarities and costs."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from .run import Run


__all__ = ["Bill", "Grid", "balance", "bills", "marks", "overlap", "similarities"]


@dataclass(frozen=True)
class Grid:
    """Counts by two labels, which are in the order of their sums, largest first."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[int, ...], ...]

    @classmethod
    def count(cls, pairs: Iterable[tuple[str, str]]) -> "Grid":
        """Count pairs of a row's and a column's label; equal sums are in the order of their labels."""
        counts = Counter(pairs)
        sums: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        for pair, number in counts.items():
            for total, label in zip(sums, pair, strict=True):
                total[label] += number
        rows, columns = (tuple(sorted(total, key=lambda label, total=total: (-total[label], label))) for total in sums)
        return cls(rows, columns, tuple(tuple(counts[row, column] for column in columns) for row in rows))

    @property
    def total(self) -> int:
        """The sum of all cells."""
        return sum(map(sum, self.cells))


@dataclass(frozen=True)
class Bill:
    """Calls (with second attempts), tokens and cost of one stage; no cost if none of its endpoints has a price."""

    stage: str
    models: tuple[str, ...]
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None


def balance(run: Run, stage: str) -> Grid:
    """Count the rows of a stage by source and category; a row with several categories counts in each."""
    categories, sources = run.columns(stage, "rows", "category", "source")
    return Grid.count((source, label) for labels, source in zip(categories, sources, strict=True) for label in labels)


def overlap(run: Run, contamination: bool = False) -> Grid:
    """Count the rows that were removed because they matched another row or, with `contamination`, a held-out item: by
    their own source and that of the match."""
    removed = run.columns("deduplicate", "removed", "source", "matched_source", "reason")
    return Grid.count(
        (source, matched)
        for source, matched, reason in zip(*removed, strict=True)
        if matched is not None and reason.endswith("_contamination") == contamination
    )


def similarities(run: Run) -> dict[str, list[float]]:
    """Similarity of the removed rows to what they matched, by reason; without exact and n-gram matches, always 1.0."""
    found: dict[str, list[float]] = {}
    for reason, similarity in zip(*run.columns("deduplicate", "removed", "reason", "similarity"), strict=True):
        if similarity is not None and not reason.startswith(("exact", "ngram")):
            found.setdefault(reason, []).append(similarity)
    return dict(sorted(found.items()))


def marks(run: Run, stage: str = "score") -> dict[str, Counter[int]]:
    """How often each score was given, by criterion, in a stage with a column `score`."""
    found: dict[str, Counter[int]] = {}
    (scores,) = run.columns(stage, "rows", "score")
    for score in scores:
        for criterion, mark in score.items():
            if mark is not None:
                found.setdefault(criterion, Counter())[mark] += 1
    return found


def bills(run: Run) -> list[Bill]:
    """The bill of each stage that called a model, in the paper's order."""
    found = []
    for stage, record in run.records.items():
        if "provenance" not in record.tables:
            continue
        models, attempts, tokens_in, tokens_out, costs = run.columns(
            stage, "provenance", "model", "attempts", "prompt_tokens", "completion_tokens", "cost_usd"
        )
        priced = [cost for cost in costs if cost is not None]
        found.append(
            Bill(
                stage=stage,
                models=tuple(sorted(set(models))),
                calls=sum(attempts),
                prompt_tokens=sum(tokens_in),
                completion_tokens=sum(tokens_out),
                cost_usd=sum(priced) if priced else None,
            )
        )
    return found
