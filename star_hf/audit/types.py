"""What an audit says: findings with their rows, what was looked at, and above all what was not."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


__all__ = ["SEVERITIES", "Audit", "Finding", "Hit", "Severity"]

Severity = Literal["error", "gap", "warning", "note"]

SEVERITIES: dict[Severity, str] = {
    "error": "must be mended before anyone trains on the data or publishes it",
    "gap": "could not be looked at: nobody knows",
    "warning": "for a person to look at",
    "note": "good to know",
}
"""What each severity means, the gravest first."""


@dataclass(frozen=True)
class Hit:
    """One row that a finding is about.

    Attributes:
        row (`int`): Position in the data set, from 0.
        id (`str`): The row's `id`, or where there is none that of its question ([`~star_hf.utils.text.row_id`]).
        matched_id (`str` or `None`): Id of the earlier row or of the benchmark's text that it is like.
        matched_row (`int` or `None`): Position of that earlier row; `None` for a benchmark's text.
        benchmark (`str` or `None`): The benchmark that the match is from; `None` for a row of the data set itself.
        similarity (`float` or `None`): How alike they are; 1.0 for equal texts and for a shared n-gram.
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
    """One thing that an audit found.

    Attributes:
        check (`str`): Name of the check, such as `"ngram_contamination"`.
        severity (`str`): One of [`SEVERITIES`].
        summary (`str`): One sentence, without any text of the data.
        hits (`tuple[Hit, ...]`): The rows, in the data set's order; empty where it is about the whole.
    """

    check: str
    severity: Severity
    summary: str
    hits: tuple[Hit, ...] = ()

    @property
    def rows(self) -> int:
        """How many different rows it is about."""
        return len({hit.row for hit in self.hits})

    @property
    def details(self) -> dict[str, int]:
        """How many hits each detail has, by benchmark where the finding is about benchmarks."""
        return dict(Counter(hit.benchmark or hit.detail or "" for hit in self.hits).most_common())


@dataclass(frozen=True)
class Audit:
    """The result of [`audit`].

    Attributes:
        dataset (`str`): The data set as it was named.
        revision (`str` or `None`): Its revision on the Hub, where one was given.
        rows (`int`): Rows that were looked at.
        columns (`dict[str, str]`): Which column was read as what.
        options (`dict`): Thresholds and the other choices.
        findings (`tuple[Finding, ...]`): The gravest first.
        benchmarks (`dict[str, dict]`): Of each benchmark that was searched for: place, revision, licence, texts.
        skipped (`dict[str, str]`): Checks that could not be made, with the reason.
        statistics (`dict`): Lengths, languages, categories by sources, licences.
        texts (`dict`): The texts that findings name, of rows by position and of benchmarks by id, for a page that
            hides them. In no JSON.
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
        """Whether there is no error. Gaps are no errors: ask [`complete`] too."""
        return not self.of("error")

    @property
    def complete(self) -> bool:
        """Whether every benchmark could be searched for."""
        return not self.of("gap")

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the texts, JSON-able."""
        values = asdict(self)
        del values["texts"]
        for found, finding in zip(values["findings"], self.findings, strict=True):
            found["rows"] = finding.rows
        return {"ok": self.ok, "complete": self.complete, **values}

    def to_json(self) -> str:
        """[`to_dict`] as text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"
