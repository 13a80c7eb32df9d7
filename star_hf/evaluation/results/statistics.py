"""What a number is worth: intervals of rates and means, paired differences, several samples.

Everything is vectorised over items and seeded, so that the same verdicts always give the same interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats


__all__ = [
    "Difference",
    "Estimate",
    "bootstrap_mean",
    "difference_of",
    "mcnemar",
    "mean_of",
    "paired_difference",
    "pass_at_k",
    "rate",
    "wilson",
]

CONFIDENCE = 0.95
RESAMPLES = 2000
_BLOCK = 4_000_000
"""Numbers that are drawn at once: 32 MB."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval.

    Attributes:
        value, low, high (`float` or `None`): The value and its interval; `None` where there was nothing to measure.
        n (`int`): How many items it rests on.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int

    def complement(self) -> "Estimate":
        """The same of the opposite: a rate of refusals from a rate of answers."""
        if self.value is None:
            return self
        return Estimate(1 - self.value, 1 - self.high, 1 - self.low, self.n)

    def negative(self) -> "Estimate":
        """The same with its sign turned: a cost from a gain."""
        if self.value is None:
            return self
        return Estimate(-self.value, -self.high, -self.low, self.n)

    def percent(self, interval: bool = True, sign: bool = False) -> str:
        """In percent, such as `93.3 (90.0 to 95.6)`; `-` where there is no value."""
        if self.value is None:
            return "-"
        form = "+z.1f" if sign else "z.1f"
        value, low, high = (format(100 * number, form) for number in (self.value, self.low, self.high))
        return f"{value} ({low} to {high})" if interval else value


@dataclass(frozen=True)
class Difference:
    """How much a second model differs from a first on the same items.

    Attributes:
        value (`float` or `None`): Mean of second minus first; `None` without an item that both have.
        low, high (`float` or `None`): Its 95 % interval.
        p_value (`float` or `None`): Of no difference: McNemar's exact test; random signs for values between 0 and 1.
        n (`int`): Items that both have.
        better, worse (`int`): Items on which the second is better, or worse.
    """

    value: float | None
    low: float | None
    high: float | None
    p_value: float | None
    n: int
    better: int
    worse: int

    @property
    def estimate(self) -> Estimate:
        """The difference with its interval."""
        return Estimate(self.value, self.low, self.high, self.n)


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> Estimate:
    """A rate with Wilson's score interval, which is honest at 0 % and 100 % and with few items.

    Args:
        successes (`int`): How many of `n` succeeded.
        n (`int`): How many there are; with none, the estimate has no value.
        confidence (`float`, defaults to 0.95): How sure the interval is.

    Example:

    ```python
    >>> estimate = wilson(90, 100)
    >>> round(estimate.low, 3), round(estimate.high, 3)
    (0.826, 0.945)
    ```
    """
    if n == 0:
        return Estimate(None, None, None, 0)
    interval = stats.binomtest(int(successes), n).proportion_ci(confidence, method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high), n)


def bootstrap_mean(values: ArrayLike, seed: int = 0, confidence: float = CONFIDENCE) -> Estimate:
    """A mean with the percentile bootstrap interval over items.

    Args:
        values (array of shape `(n,)`): One value per item; several samples of an item are averaged before.
        seed (`int`, defaults to 0): Of the resampling.
        confidence (`float`, defaults to 0.95): How sure the interval is.
    """
    values = np.asarray(values, dtype=float)
    if values.size == 0:
        return Estimate(None, None, None, 0)
    low, high = _percentiles(values, seed, confidence)
    return Estimate(float(values.mean()), low, high, values.size)


def rate(values: ArrayLike) -> Estimate:
    """The mean of values from 0 to 1: Wilson's interval where all are 0 or 1, the bootstrap's otherwise."""
    values = np.asarray(values, dtype=float)
    return wilson(int(values.sum()), values.size) if _binary(values) else bootstrap_mean(values)


def mcnemar(better: int, worse: int) -> float:
    """Two-sided exact p-value that a difference on paired items is chance.

    Args:
        better, worse (`int`): Items on which only the second, or only the first, succeeded.
    """
    return 1.0 if better + worse == 0 else float(stats.binomtest(better, better + worse).pvalue)


def paired_difference(first: ArrayLike, second: ArrayLike, seed: int = 0) -> Difference:
    """How much the second model differs from the first, item by item.

    Where all values are 0 or 1 the interval is Bonett and Price's adjusted Wald interval, which unlike the bootstrap
    does not shrink to nothing when few items differ ([paper](https://doi.org/10.3102/1076998611411915)).

    Args:
        first, second (arrays of shape `(n,)`): Values of the same items in the same order.
        seed (`int`, defaults to 0): Of the resampling.

    Raises:
        ValueError: If the shapes differ.
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if first.shape != second.shape:
        raise ValueError(f"paired values must have one shape, not {first.shape} and {second.shape}")
    gain = second - first
    n, better, worse = gain.size, int((gain > 0).sum()), int((gain < 0).sum())
    if n == 0:
        return Difference(None, None, None, None, 0, 0, 0)
    if _binary(first) and _binary(second):
        low, high = _bonett_price(better, worse, n)
        p_value = mcnemar(better, worse)
    else:
        low, high = _percentiles(gain, seed, CONFIDENCE)
        p_value = _random_signs(gain, seed)
    return Difference(float(gain.mean()), low, high, p_value, n, better, worse)


def pass_at_k(samples: ArrayLike, correct: ArrayLike, k: int) -> np.ndarray:
    """Chance that at least one of `k` samples is right, without bias ([paper](https://arxiv.org/abs/2107.03374)).

    `1 - C(n - c, k) / C(n, k)` for `n` samples of which `c` are correct, per item.

    Args:
        samples, correct (arrays of shape `(n_items,)`): Samples per item, and how many of them are correct.
        k (`int`): How many are drawn; no item may have fewer samples.

    Returns:
        array of shape `(n_items,)`.
    """
    n, c = np.asarray(samples, dtype=float), np.asarray(correct, dtype=float)
    if n.size and n.min() < k:
        raise ValueError(f"pass@{k} needs {k} samples of each item, but one has {int(n.min())}")
    wrong = np.maximum(n - c - k, 0)
    log_ratio = special.gammaln(n - c + 1) - special.gammaln(wrong + 1)
    log_ratio += special.gammaln(n - k + 1) - special.gammaln(n + 1)
    return np.where(n - c < k, 1.0, 1.0 - np.exp(log_ratio))


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """The unweighted mean of independent estimates, as the paper averages benchmarks; `n` is their number.

    The interval is Zou and Donner's (MOVER): each estimate brings its own, asymmetric one
    ([paper](https://doi.org/10.1002/sim.3095)). One estimate without a value leaves the mean without one.
    """
    count = len(estimates)
    if not count or any(estimate.value is None for estimate in estimates):
        return Estimate(None, None, None, count)
    value = sum(estimate.value for estimate in estimates) / count
    below = sum((estimate.value - estimate.low) ** 2 for estimate in estimates) ** 0.5 / count
    above = sum((estimate.high - estimate.value) ** 2 for estimate in estimates) ** 0.5 / count
    return Estimate(value, value - below, value + above, count)


def difference_of(first: Estimate, second: Estimate) -> Estimate:
    """Second minus first, for rates that were measured apart; `n` is the smaller of theirs.

    The interval is Newcombe's for two rates, made of their own intervals as Zou and Donner do it for any two estimates
    ([paper](https://doi.org/10.1002/sim.3095)). For two models on the same items [`paired_difference`] tells more.
    """
    n = min(first.n, second.n)
    if first.value is None or second.value is None:
        return Estimate(None, None, None, n)
    value = second.value - first.value
    below = ((second.value - second.low) ** 2 + (first.high - first.value) ** 2) ** 0.5
    above = ((second.high - second.value) ** 2 + (first.value - first.low) ** 2) ** 0.5
    return Estimate(value, value - below, value + above, n)


def _binary(values: np.ndarray) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def _bonett_price(better: int, worse: int, n: int) -> tuple[float, float]:
    up, down = (better + 1) / (n + 2), (worse + 1) / (n + 2)
    half = stats.norm.ppf(0.5 + CONFIDENCE / 2) * ((up + down - (up - down) ** 2) / (n + 2)) ** 0.5
    return float(max(up - down - half, -1)), float(min(up - down + half, 1))


def _percentiles(values: np.ndarray, seed: int, confidence: float) -> tuple[float, float]:
    """Bootstrap percentiles of the mean; few distinct values are drawn by their counts, which is the same, faster."""
    distinct, counts = np.unique(values, return_counts=True)
    random = np.random.default_rng(seed)
    if distinct.size <= 100:
        means = random.multinomial(values.size, counts / values.size, RESAMPLES) @ distinct / values.size
    else:
        block = max(1, _BLOCK // values.size)
        sizes = [min(block, RESAMPLES - start) for start in range(0, RESAMPLES, block)]
        drawn = (values[random.integers(0, values.size, (size, values.size), dtype=np.int32)] for size in sizes)
        means = np.concatenate([sample.mean(axis=1) for sample in drawn])
    low, high = np.quantile(means, ((1 - confidence) / 2, (1 + confidence) / 2))
    return float(low), float(high)


def _random_signs(gain: np.ndarray, seed: int) -> float:
    """Share of random signs of the differences that give a sum at least as far from zero, the given ones counted."""
    gain = gain[gain != 0]
    if gain.size == 0:
        return 1.0
    random = np.random.default_rng(seed)
    block = max(1, _BLOCK // gain.size)
    observed, extreme = abs(gain.sum()) * (1 - 1e-9), 0
    for start in range(0, RESAMPLES, block):
        signs = random.integers(0, 2, (min(block, RESAMPLES - start), gain.size), dtype=np.int8) * 2 - 1
        extreme += int((abs(signs @ gain) >= observed).sum())
    return (extreme + 1) / (RESAMPLES + 1)
