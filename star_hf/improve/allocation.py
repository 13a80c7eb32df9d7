"""Which rules get how many rows: by what each can gain, with harmless twins in proportion."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.special import betainc

from ..evaluation.results.statistics import wilson


__all__ = ["Need", "Quota", "allocate", "expected_shortfall", "shares"]


@dataclass(frozen=True)
class Need:
    """How a rule fares in an evaluation. A case with several answers counts by their mean.

    Attributes:
        rule (`str`): Its reference.
        target (`float`): What its rate should be.
        harmful, harmless (`tuple[float, int]`): Passed and judged cases that should and should not be helped with.
        below (`bool` or `None`): Whether it, or its category, is under target; by its own lower bound if `None`.
        weight (`float`, *optional*): How much a rule counts; by default its number of cases, 1 if there are none.
    """

    rule: str
    target: float
    harmful: tuple[float, int]
    harmless: tuple[float, int] = (0.0, 0)
    below: bool | None = None
    weight: float | None = None

    @property
    def passed(self) -> float:
        """Cases that passed."""
        return self.harmful[0] + self.harmless[0]

    @property
    def cases(self) -> int:
        """Cases that were judged."""
        return self.harmful[1] + self.harmless[1]

    @property
    def is_below(self) -> bool:
        """Whether the lower end of its interval is under target. A rule that was not measured is."""
        if self.below is not None:
            return self.below
        low = wilson(self.passed, self.cases).low
        return low is None or low < self.target

    @property
    def gain(self) -> float:
        """What its rows can gain, in cases: the expected shortfall times the weight."""
        weight = max(self.cases, 1) if self.weight is None else self.weight
        return expected_shortfall(self.passed, self.cases, self.target) * weight

    def harmless_share(self, least: float) -> float:
        """The share of harmless rows: that of failures which are refusals of harmless cases, but from `least` to
        `1 - least`; all where the rule has only harmless cases."""
        if self.harmless[1] and not self.harmful[1]:
            return 1.0
        wrong, refused = self.cases - self.passed, self.harmless[1] - self.harmless[0]
        return min(max(least, refused / wrong if wrong > 1e-9 else 0.0), max(least, 1 - least))


@dataclass(frozen=True)
class Quota:
    """The rows that a rule gets, `harmless` ones among them."""

    rows: int
    harmless: int


def expected_shortfall(passed: float, cases: int, target: float) -> float:
    """How far a rate is expected to be under target: the mean of `max(0, target - p)` over what `p` may be after these
    cases, by Jeffreys' prior, the Beta distribution with 1/2 and 1/2.

    So a rule that failed a third of 30 cases counts more than one that failed a third of 3, and one that passed all 3
    of 3 counts little, though its lower bound is low.

    Example:

    ```python
    >>> [round(expected_shortfall(*tally, 0.8), 3) for tally in [(0, 3), (3, 3), (20, 30), (30, 30)]]
    [0.676, 0.038, 0.145, 0.0]
    ```
    """
    a, b = passed + 0.5, cases - passed + 0.5
    return float(target * betainc(a, b, target) - a / (a + b) * betainc(a + 1, b, target))


def allocate(
    needs: Iterable[Need], size: int, *, spread: Literal["gain", "even"] = "gain", twins: float = 0.25
) -> dict[str, Quota]:
    """Give a budget of rows to rules.

    Args:
        needs (`Iterable[Need]`): All rules.
        size (`int`): Rows, harmless ones included.
        spread (`str`, defaults to `"gain"`): Only rules under target get rows, each in proportion to its expected
            gain; with `"even"` all rules get the same, whatever they need.
        twins (`float`, defaults to 0.25): Least share of harmless rows; see [`Need.harmless_share`].

    Returns:
        `dict[str, Quota]`: By rule, in the order given, without rules that get none. The rows add up to `size`, unless
        no rule is under target.
    """
    chosen = [need for need in needs if spread == "even" or need.is_below]
    weights = [1.0 if spread == "even" else need.gain for need in chosen]
    if chosen and not sum(weights):
        weights = [1.0] * len(chosen)
    given = zip(chosen, shares(weights, size), strict=True)
    return {
        need.rule: Quota(rows, min(rows, round(rows * need.harmless_share(twins)))) for need, rows in given if rows
    }


def shares(weights: Sequence[float], size: int) -> list[int]:
    """Split a whole number in proportion to weights, by largest remainder; the first of equals gets the rest."""
    total = sum(weights)
    if total <= 0:
        return [0] * len(weights)
    exact = [size * weight / total for weight in weights]
    parts = [int(part + 1e-9) for part in exact]
    order = sorted(range(len(weights)), key=lambda place: (-round(exact[place] - parts[place], 9), place))
    for place in order[: size - sum(parts)]:
        parts[place] += 1
    return parts
