"""Conditions for `Dataset.filter`, of single rows or, with `batched=True`, of batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from ..llm.step import FAILURE, column_of
from ..schema import SCORE_CRITERIA


__all__ = ["FullMarks", "Usable"]


@dataclass(frozen=True)
class Usable:
    """Keeps the rows that no step has failed on.

    Example:

    ```python
    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"id": ["a", "b"], "failure": ["truncated", None]})
    >>> rows.filter(Usable())["id"][:]
    ['b']
    ```
    """

    def __call__(self, rows: Mapping[str, Any]) -> bool | list[bool]:
        """Whether a row is usable, or a list of that for a batch."""
        failure = column_of(rows, FAILURE, "Map a step over the rows first, such as `Classifier`.")
        return [name is None for name in failure] if isinstance(failure, list) else failure is None


@dataclass(frozen=True)
class FullMarks:
    """Keeps the rows that score at least `minimum` on every criterion; a missing score is not full marks.

    Args:
        minimum (`int`, defaults to 10): Lowest score; of benign twins 5 is the highest.
        criteria (`tuple[str, ...]`, defaults to the three of `schema.SCORE_CRITERIA`): Fields of the column `score`.

    Example:

    ```python
    >>> from datasets import Dataset
    >>> rows = Dataset.from_list([{"id": name, "score": {"harmless": n}} for name, n in [("a", 9), ("b", 10)]])
    >>> rows.filter(FullMarks(criteria=("harmless",)))["id"][:]
    ['b']
    ```
    """

    minimum: int = 10
    criteria: Sequence[str] = SCORE_CRITERIA

    def __post_init__(self) -> None:
        if not isinstance(self.minimum, int | float) or isinstance(self.criteria, str):
            raise ConfigError(
                f"Invalid condition: {self}.", "`minimum` is a number, and `criteria` a list of names of scores."
            )

    def __call__(self, rows: Mapping[str, Any]) -> bool | list[bool]:
        """Whether a row has full marks, or a list of that for a batch."""
        score = column_of(rows, "score", "Map `Scorer` over the rows first.")
        return [self._full(one) for one in score] if isinstance(score, list) else self._full(score)

    def _full(self, score: Mapping[str, int | None] | None) -> bool:
        if not isinstance(score, Mapping | None):
            raise ConfigError(f"A score is a {type(score).__name__}, expected one number for each criterion.")
        numbers = [(score or {}).get(criterion) for criterion in self.criteria]
        if wrong := [number for number in numbers if not isinstance(number, int | float | None)]:
            raise ConfigError(f"A score holds a {type(wrong[0]).__name__}, expected numbers.")
        return all(number is not None and number >= self.minimum for number in numbers)
