"""What a results folder holds already, and what of it stays true when the same model is evaluated further."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, concatenate_datasets

from ...errors import SourceError
from ...schema import as_dataset
from ..types import VERDICTS
from .rejudge import read_answers, read_verdicts
from .results import Results, load_results


__all__ = ["Carried", "by_benchmark", "carried"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Carried:
    """What earlier runs left in a folder.

    Attributes:
        answers, verdicts (`dict[str, Dataset]`): By benchmark.
        results (`Results` or `None`): What was made of them.
    """

    answers: dict[str, Dataset] = field(default_factory=dict)
    verdicts: dict[str, Dataset] = field(default_factory=dict)
    results: Results | None = None

    @property
    def judges(self) -> list[dict[str, Any]]:
        """Who judged."""
        return self.results.judges if self.results else []

    def verdicts_beside(self, benchmark: str, answers: Dataset, judges: Sequence[str]) -> Dataset:
        """Verdicts on a benchmark by others than `judges`, which hold if its answers are still the same."""
        there = self.verdicts.get(benchmark)
        if there is None or self.answers[benchmark].to_dict() != answers.to_dict():
            return as_dataset([], VERDICTS)
        return there.select([n for n, judge in enumerate(there["judge"][:]) if judge not in judges])


def carried(folder: Path, fingerprint: str, profile: str) -> Carried:
    """Read a results folder. One of other weights or of another profile holds nothing that stays.

    Args:
        folder (`Path`): The folder; it need not hold anything.
        fingerprint (`str`): The model's.
        profile (`str`): The evaluation's.
    """
    try:
        results = load_results(folder)
        answers, verdicts = by_benchmark(read_answers(folder)), by_benchmark(read_verdicts(folder))
    except SourceError:
        return Carried()
    if (results.model.get("fingerprint"), results.profile) != (fingerprint, profile):
        logger.warning("%s: results of other weights or of another profile are replaced; answers stay", folder)
        return Carried()
    return Carried(answers, verdicts, results)


def by_benchmark(table: Dataset) -> dict[str, Dataset]:
    """The rows of each benchmark."""
    places: dict[str, list[int]] = {}
    for place, name in enumerate(table["benchmark"][:]):
        places.setdefault(name, []).append(place)
    return {name: concatenate_datasets([table.select(rows)]) for name, rows in places.items()}
