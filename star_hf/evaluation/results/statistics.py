"""Statistics: intervals of rates and means, paired differences, pass@k.

Everything is seeded: the same verdicts always give the same interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from ...utils.formatting import percent


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
"""Random numbers drawn at once: 32 MB."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval.

    Attributes:
        value, low, high (`float` or `None`): The value and its interval; `None` where there was nothing to measure.
        n (`int`): Number of items behind it.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int

    def complement(self) -> "Estimate":
        """1 minus it: a rate of refusals from a rate of answers."""
        if self.value is None:
            return self
        return Estimate(1 - self.value, 1 - self.high, 1 - self.low, self.n)

    def negative(self) -> "Estimate":
        """Minus it: a cost from a gain."""
        if self.value is None:
            return self
        return Estimate(-self.value, -self.high, -self.low, self.n)

    def percent(self, interval: bool = True, sign: bool = False) -> str:
        """In percent, such as `93.3 (90.0 to 95.6)`; `-` without a value."""
        value = percent(self.value, sign)
        if self.low is None or not interval:
            return value
        return f"{value} ({percent(self.low, sign)} to {percent(self.high, sign)})"

    def interval(self) -> str:
        """The interval alone in percent, such as `90.0-95.6`; `-` without one."""
        return "-" if self.low is None else f"{percent(self.low)}-{percent(self.high)}"


@dataclass(frozen=True)
class Difference(Estimate):
    """The mean of second minus first, for two models on the same items.

    Attributes:
        p_value (`float` or `None`): By McNemar's exact test, or by random signs for values between 0 and 1.
        better, worse (`int`): Number of items on which the second is better, or worse.
    """

    p_value: float | None
    better: int
    worse: int


def wilson(successes: float, n: int) -> Estimate:
    """A rate with Wilson's score interval, which holds at 0 % and 100 % and with few items, too.

    Successes need not be whole: of items with several samples each, they are the sum of the items' own rates. The
    interval is that of single samples then, which is never narrower than it should be.

    Example:

    ```python
    >>> estimate = wilson(90, 100)
    >>> round(estimate.low, 3), round(estimate.high, 3)
    (0.826, 0.945)
    ```
    """
    if n == 0:
        return Estimate(None, None, None, 0)
    if successes != int(successes):
        z2, share = float(stats.norm.ppf(0.5 + CONFIDENCE / 2)) ** 2, successes / n
        half = (z2 * (share * (1 - share) / n + z2 / (4 * n * n))) ** 0.5
        middle, scale = share + z2 / (2 * n), 1 + z2 / n
        return Estimate(share, (middle - half) / scale, (middle + half) / scale, n)
    interval = stats.binomtest(int(successes), n).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high), n)


def bootstrap_mean(values: ArrayLike, seed: int = 0) -> Estimate:
    """A mean with the percentile bootstrap interval over items; each value is averaged over an item's samples."""
    values = np.asarray(values, dtype=float)
    if values.size == 0:
        return Estimate(None, None, None, 0)
    low, high = _percentiles(values, seed)
    return Estimate(float(values.mean()), low, high, values.size)


def rate(values: ArrayLike) -> Estimate:
    """The mean of values from 0 to 1: Wilson's interval where all are 0 or 1, the bootstrap's otherwise."""
    values = np.asarray(values, dtype=float)
    return wilson(int(values.sum()), values.size) if _binary(values) else bootstrap_mean(values)


def mcnemar(better: int, worse: int) -> float:
    """Two-sided exact p-value of no difference, from the numbers of items on which only one model succeeded."""
    return 1.0 if better + worse == 0 else float(stats.binomtest(better, better + worse).pvalue)


def paired_difference(first: ArrayLike, second: ArrayLike, seed: int = 0) -> Difference:
    """The second model minus the first, item by item: `first` and `second` have the same items in the same order.

    Where all values are 0 or 1 the interval is Bonett and Price's adjusted Wald interval, which unlike the bootstrap
    does not shrink to a point when few items differ ([paper](https://doi.org/10.3102/1076998611411915)).
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if first.shape != second.shape:
        raise ValueError(f"paired values must have the same shape, got {first.shape} and {second.shape}")
    gain = second - first
    n, better, worse = gain.size, int((gain > 0).sum()), int((gain < 0).sum())
    if n == 0:
        return Difference(None, None, None, 0, None, 0, 0)
    if _binary(first) and _binary(second):
        low, high = _bonett_price(better, worse, n)
        p_value = mcnemar(better, worse)
    else:
        low, high = _percentiles(gain, seed)
        p_value = _random_signs(gain, seed)
    return Difference(float(gain.mean()), low, high, n, p_value, better, worse)


def pass_at_k(samples: ArrayLike, correct: ArrayLike, k: int) -> np.ndarray:
    """Unbiased estimate of the chance that at least one of `k` samples is right.

    `1 - C(n - c, k) / C(n, k)` for `n` samples of which `c` are correct, per item, each with at least `k` samples
    ([paper](https://arxiv.org/abs/2107.03374)).
    """
    n, c = np.asarray(samples, dtype=float), np.asarray(correct, dtype=float)
    if n.size and n.min() < k:
        raise ValueError(f"pass@{k} needs {k} samples of each item, one has {int(n.min())}")
    wrong = np.maximum(n - c - k, 0)
    log_ratio = special.gammaln(n - c + 1) - special.gammaln(wrong + 1)
    log_ratio += special.gammaln(n - k + 1) - special.gammaln(n + 1)
    return np.where(n - c < k, 1.0, 1.0 - np.exp(log_ratio))


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """The unweighted mean of independent estimates, as the paper averages benchmarks; `n` is their number.

    The interval combines those of the estimates, which may be asymmetric (Zou and Donner's MOVER,
    [paper](https://doi.org/10.1002/sim.3095)). If one estimate has no value, the mean has none.
    """
    count = len(estimates)
    if not count or any(estimate.value is None for estimate in estimates):
        return Estimate(None, None, None, count)
    value = sum(estimate.value for estimate in estimates) / count
    below = sum((estimate.value - estimate.low) ** 2 for estimate in estimates) ** 0.5 / count
    above = sum((estimate.high - estimate.value) ** 2 for estimate in estimates) ** 0.5 / count
    return Estimate(value, value - below, value + above, count)


def difference_of(first: Estimate, second: Estimate) -> Estimate:
    """Second minus first, for rates of different items; `n` is the smaller of theirs.

    The interval is Newcombe's, which Zou and Donner extend to any two estimates
    ([paper](https://doi.org/10.1002/sim.3095)). For two models on the same items use [`paired_difference`].
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


def _percentiles(values: np.ndarray, seed: int) -> tuple[float, float]:
    """Bootstrap percentiles of the mean. With few distinct values their counts are drawn, which is faster."""
    distinct, counts = np.unique(values, return_counts=True)
    random = np.random.default_rng(seed)
    if distinct.size <= 100:
        means = random.multinomial(values.size, counts / values.size, RESAMPLES) @ distinct / values.size
    else:
        block = max(1, _BLOCK // values.size)
        sizes = [min(block, RESAMPLES - start) for start in range(0, RESAMPLES, block)]
        drawn = (values[random.integers(0, values.size, (size, values.size), dtype=np.int32)] for size in sizes)
        means = np.concatenate([sample.mean(axis=1) for sample in drawn])
    low, high = np.quantile(means, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return float(low), float(high)


def _random_signs(gain: np.ndarray, seed: int) -> float:
    """Share of random signs that bring the sum at least as far from 0. The actual signs count as one draw."""
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
