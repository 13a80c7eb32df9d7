"""What an audit returns: findings with their rows, what was checked, and what was not."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


__all__ = ["SEVERITIES", "Audit", "Finding", "Hit", "Severity", "row_findings"]

Severity = Literal["error", "gap", "warning", "note"]

SEVERITIES: dict[Severity, str] = {
    "error": "fix it before you train on the data or publish it",
    "gap": "could not be checked",
    "warning": "needs a look by a person",
    "note": "for information",
}
"""What each severity means, the most severe first."""


@dataclass(frozen=True)
class Hit:
    """One row of a finding.

    Attributes:
        row (`int`): Position in the data set, from 0.
        id (`str`): The row's `id`, or without one that of its question ([`~star_hf.utils.text.row_id`]).
        matched_id (`str` or `None`): Id of the similar earlier row or benchmark text.
        matched_row (`int` or `None`): Position of that earlier row; `None` for a benchmark text.
        benchmark (`str` or `None`): The benchmark of the match; `None` for a row of the data set itself.
        similarity (`float` or `None`): The cosine; 1.0 for equal texts and shared n-grams.
        detail (`str` or `None`): What is wrong, or the benchmark's field.
    """

    row: int
    id: str
    matched_id: str | None = None
    matched_row: int | None = None
    benchmark: str | None = None
    similarity: float | None = None
    detail: str | None = None


@dataclass(frozen=True)
class Finding:
    """The result of one check that found something.

    Attributes:
        check (`str`): Name of the check, such as `"ngram_contamination"`.
        severity (`str`): One of [`SEVERITIES`].
        summary (`str`): One sentence, without any text of the data.
        hits (`tuple[Hit, ...]`): The rows in order; empty if the finding is about the whole data set.
    """

    check: str
    severity: Severity
    summary: str
    hits: tuple[Hit, ...] = ()

    @property
    def rows(self) -> int:
        """Number of different rows."""
        return len({hit.row for hit in self.hits})

    @property
    def details(self) -> dict[str, int]:
        """Number of hits by benchmark or, in findings without benchmarks, by detail."""
        return dict(Counter(hit.benchmark or hit.detail or "" for hit in self.hits).most_common())


def row_findings(
    check: str, severity: Severity, summary: str, ids: Sequence[str], details: Iterable[str | bool | None]
) -> list[Finding]:
    """One finding for the rows with a detail, which is a text or `True`; none if there are no such rows."""
    hits = tuple(
        Hit(row, id, detail=None if detail is True else detail[:80])
        for row, (id, detail) in enumerate(zip(ids, details, strict=True))
        if detail
    )
    return [Finding(check, severity, summary, hits)] if hits else []


@dataclass(frozen=True)
class Audit:
    """The result of [`audit`].

    Attributes:
        dataset (`str`): The data set as it was given.
        revision (`str` or `None`): Its revision on the Hub, if given.
        rows (`int`): Number of rows.
        columns (`dict[str, str]`): The column of each role.
        options (`dict`): Thresholds and other options.
        findings (`tuple[Finding, ...]`): The most severe first.
        benchmarks (`dict[str, dict]`): Place, revision, licence and texts of each benchmark searched for.
        skipped (`dict[str, str]`): Checks that could not be made, with the reason.
        statistics (`dict`): Lengths, languages, categories by source, licences.
        texts (`dict`): Texts of the findings' rows by position, and of benchmarks by id. Only for the HTML page.
    """

    dataset: str
    revision: str | None
    rows: int
    columns: dict[str, str]
    options: dict[str, Any]
    findings: tuple[Finding, ...]
    benchmarks: dict[str, dict[str, Any]]
    skipped: dict[str, str]
    statistics: dict[str, Any]
    texts: dict[int | str, str] = field(repr=False, default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there is no error. A gap is not an error: check [`complete`] too."""
        return not self.of("error")

    @property
    def complete(self) -> bool:
        """Whether all benchmarks were searched for."""
        return not self.of("gap")

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def to_dict(self) -> dict[str, Any]:
        """Everything except the texts, for JSON."""
        values = asdict(self)
        del values["texts"]
        for found, finding in zip(values["findings"], self.findings, strict=True):
            found["rows"] = finding.rows
        return {"ok": self.ok, "complete": self.complete, **values}

    def to_json(self) -> str:
        """[`to_dict`] as JSON."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"
