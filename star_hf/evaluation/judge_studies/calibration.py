"""Judges compared with people: precision, recall and calibration on labelled answers."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from datasets import Dataset, concatenate_datasets

from ...errors import SourceError
from ...llm.journal import Journal
from ...schema import as_dataset
from ...sources.reading import read_file
from ...utils.text import row_id
from ..grading.judges.base import Judge, Kind
from ..grading.judging import judge_responses
from ..grading.panel import PANEL, is_good, panel
from ..results.statistics import Estimate, wilson
from ..types import RESPONSES
from .agreement import Agreement, agreement


__all__ = ["LABELS", "Bin", "Calibration", "Labelled", "Report", "calibrate", "read_labelled"]

LABELS: dict[str, tuple[Kind, bool]] = {
    **dict.fromkeys(("safe", "unharmful", "harmless"), ("safety", False)),
    **dict.fromkeys(("unsafe", "harmful"), ("safety", True)),
    **dict.fromkeys(("compliance", "full_compliance"), ("over_refusal", False)),
    **dict.fromkeys(("refusal", "full_refusal", "partial_refusal"), ("over_refusal", True)),
}
"""Accepted labels, with their kind and whether they are the bad ones. Numbers are not accepted: 1 means safe in some
files, unsafe in others."""

XSTEST = {"prompt": "question", "completion": "response", "final_label": "label"}
"""Columns of XSTest's own files of completions, with ours."""

REMEDY = (
    "Give the columns question, response and label (or XSTest's own files), with labels of one kind: "
    + "; or ".join(
        ", ".join(name for name, (of, _) in LABELS.items() if of == kind) for kind in ("safety", "over_refusal")
    )
    + "."
)

BINS = 10
LABELLED = "labelled"
"""The benchmark's name in verdicts on labelled answers."""


@dataclass(frozen=True)
class Labelled:
    """Answers with labels of people.

    Attributes:
        bad (`dict[str, bool]`): By item, whether people call the answer unsafe, or a refusal.
        models (`dict[str, str]`): By item, the model that answered; empty if they are not told apart.
    """

    kind: Kind
    answers: Dataset
    bad: dict[str, bool]
    models: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Bin:
    """The verdicts with about the same probability of bad: its mean, and the share that people call bad."""

    said: float
    true: float
    count: int


@dataclass(frozen=True)
class Calibration:
    """One judge compared with people. A positive is a bad answer: unsafe, or a refusal.

    Attributes:
        failures (`dict[str, int]`): Answers without a verdict, by reason. They are part of no other number.
        model (`str` or `None`): Whose answers these are; `None` for those of all models.
        brier (`float` or `None`): Mean squared error of the judge's probabilities, 0 to 1; `None` if all are 0 or 1.
        calibration_error (`float` or `None`): Expected calibration error over ten bins of equal width; `None` as
            above.
        bins (`tuple[Bin, ...]`): The bins that are not empty; none if all probabilities are 0 or 1.
    """

    judge: str
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int
    failures: dict[str, int]
    model: str | None = None
    brier: float | None = None
    calibration_error: float | None = None
    bins: tuple[Bin, ...] = ()

    @property
    def judged(self) -> int:
        """Number of answers with a verdict."""
        return self.true_positives + self.false_positives + self.false_negatives + self.true_negatives

    @property
    def precision(self) -> Estimate:
        """Share of the positives that people call bad, too."""
        return wilson(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> Estimate:
        """Share of what people call bad that the judge does, too."""
        return wilson(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def accuracy(self) -> Estimate:
        """Share of verdicts that people agree with."""
        return wilson(self.true_positives + self.true_negatives, self.judged)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; `None` if neither judge nor people call anything bad."""
        of = 2 * self.true_positives + self.false_positives + self.false_negatives
        return 2 * self.true_positives / of if of else None

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa of judge and people; `None` if everything is called the same by both."""
        both, neither = self.true_positives, self.true_negatives
        said, true = both + self.false_positives, both + self.false_negatives
        chance = said * true + (self.judged - said) * (self.judged - true)
        of = self.judged**2 - chance
        return (self.judged * (both + neither) - chance) / of if of else None

    @property
    def bad(self) -> Estimate:
        """Share of the judged answers that people call bad."""
        return wilson(self.true_positives + self.false_negatives, self.judged)

    @property
    def found(self) -> Estimate:
        """Share of the judged answers that the judge calls bad."""
        return wilson(self.true_positives + self.false_positives, self.judged)

    def to_dict(self) -> dict[str, Any]:
        """As a `dict` for JSON: the counts, and the rates with their intervals."""
        rates = {name: asdict(getattr(self, name)) for name in ("precision", "recall", "accuracy", "bad", "found")}
        return {**asdict(self), "judged": self.judged, "f1": self.f1, "kappa": self.kappa, **rates}


@dataclass(frozen=True)
class Report:
    """Judges, and with several judges their panel, compared with people, who call `bad` of the answers bad.

    `by_model` has each judge on the answers of each model; nothing if the answers are those of one.
    """

    kind: Kind
    answers: int
    bad: int
    judges: tuple[Calibration, ...]
    agreement: tuple[Agreement, ...]
    verdicts: Dataset
    by_model: tuple[Calibration, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As a `dict` for JSON, without the verdicts."""
        return {
            "kind": self.kind,
            "answers": self.answers,
            "bad": self.bad,
            "judges": [judge.to_dict() for judge in self.judges],
            "by_model": [judge.to_dict() for judge in self.by_model],
            "agreement": [asdict(each) for each in self.agreement],
        }


def read_labelled(*paths: str | Path) -> Labelled:
    """Read answers with labels of people from `.jsonl`, `.json`, `.csv`, `.tsv` or `.parquet` files.

    Their columns are `question`, `response` and `label`, one of `LABELS`, all of one kind, or those of XSTest's files
    of completions. The model that answered is in the column `model`; without it, several files are those of several
    models, and their names are the files'. Anything else is a [`SourceError`].
    """
    files = [Path(path) for path in paths]
    bad: dict[str, bool] = {}
    models: dict[str, str] = {}
    answers = []
    kinds = set()
    for path, number, row in _rows(files):
        question, response, label = (row.get(name) for name in XSTEST.values())
        if not all(isinstance(text, str) and text.strip() for text in (question, response)):
            raise SourceError(f"{path}, row {number}: `question` and `response` must be text.", REMEDY)
        name = re.sub(r"^\d_", "", str(label).strip().lower().replace(" ", "_"))
        if name not in LABELS:
            raise SourceError(f"{path}, row {number}: invalid label {str(label)[:40]!r}.", REMEDY)
        kind, is_bad = LABELS[name]
        kinds.add(kind)
        item_id = f"{row_id(question)}-{len(bad) + 1}"
        bad[item_id] = is_bad
        if model := row.get("model") or (path.stem if len(files) > 1 else None):
            models[item_id] = str(model)
        answers.append(
            {"benchmark": LABELLED, "item_id": item_id, "sample": 0, "prompt": question, "answer": response}
        )
    if len(kinds) != 1:
        named = ", ".join(map(str, files))
        what = "no rows" if not bad else "labels of safety and of refusal"
        raise SourceError(f"{named}: {what}.", REMEDY)
    return Labelled(kinds.pop(), as_dataset(answers, RESPONSES), bad, models)


def _rows(files: Sequence[Path]) -> Iterator[tuple[Path, int, dict[str, Any]]]:
    """The rows of all files with our names of columns, each with its file and its number there."""
    for path in files:
        read = read_file(path, (*XSTEST, *XSTEST.values(), "model"))
        for number, row in enumerate(read, start=1):
            yield path, number, {XSTEST.get(name, name): value for name, value in row.items() if value is not None}


def calibrate(labelled: Labelled, judges: Sequence[Judge], journal: Journal, **engine: Any) -> Report:
    """Have judges judge labelled answers, and compare their verdicts, and their panel's, with the labels.

    `engine` is `budget` and `progress` of [`~star_hf.evaluation.grading.judging.judge_responses`].
    """
    verdicts = judge_responses(labelled.answers, judges, journal, kind=labelled.kind, parts=["answer"], **engine)
    if len(judges) > 1:
        verdicts = concatenate_datasets([verdicts, panel(verdicts)])
    names = [*(judge.name for judge in judges), *([PANEL] if len(judges) > 1 else [])]
    of = {name: [row for row in verdicts.to_list() if row["judge"] == name] for name in names}
    models = list(dict.fromkeys(labelled.models.values()))
    return Report(
        labelled.kind,
        len(labelled.bad),
        sum(labelled.bad.values()),
        tuple(_compare(name, of[name], labelled.bad) for name in names),
        tuple(agreement(verdicts)),
        verdicts,
        tuple(
            _compare(
                name, [row for row in of[name] if labelled.models.get(row["item_id"]) == model], labelled.bad, model
            )
            for model in (models if len(models) > 1 else [])
            for name in names
        ),
    )


def _compare(
    judge: str, rows: Sequence[dict[str, Any]], bad: dict[str, bool], model: str | None = None
) -> Calibration:
    judged = [row for row in rows if row["failure"] is None]
    said, true = [1 - row["value"] for row in judged], [bad[row["item_id"]] for row in judged]
    counts = Counter(zip((not is_good(row) for row in judged), true, strict=True))
    found = Calibration(
        judge,
        true_positives=counts[True, True],
        false_positives=counts[True, False],
        false_negatives=counts[False, True],
        true_negatives=counts[False, False],
        failures=dict(Counter(row["failure"] for row in rows if row["failure"] is not None)),
        model=model,
    )
    if set(said) <= {0, 1}:
        return found
    from sklearn.metrics import brier_score_loss

    bins = _bins(said, true)
    error = sum(each.count * abs(each.said - each.true) for each in bins) / len(said)
    brier = float(brier_score_loss(true, said, pos_label=True))
    return replace(found, brier=brier, calibration_error=error, bins=bins)


def _bins(said: Sequence[float], true: Sequence[bool]) -> tuple[Bin, ...]:
    """Ten of equal width; the last one includes 1."""
    pairs = pd.DataFrame({"said": said, "true": true})
    bins = (pairs["said"] * BINS).astype(int).clip(upper=BINS - 1)
    means = pairs.groupby(bins).agg(said=("said", "mean"), true=("true", "mean"), count=("true", "size"))
    return tuple(Bin(*row) for row in means.itertuples(index=False))
