"""A rate corrected by its judge's measured error, with an interval that carries that error.

A judge that finds a share `sensitivity` of the refusals, and takes a share `1 - specificity` of the rest for refusals,
turns a true rate `t` into `t * sensitivity + (1 - t) * (1 - specificity)`. Rogan and Gladen's estimator solves for `t`
([paper](https://doi.org/10.1093/oxfordjournals.aje.a112510)).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..results.statistics import Estimate
from .calibration import Calibration


__all__ = ["corrected_difference", "corrected_rate", "rogan_gladen"]

DRAWS = 20_000


def rogan_gladen(observed: ArrayLike, sensitivity: ArrayLike, specificity: ArrayLike) -> np.ndarray:
    """The true rate behind an observed one, between 0 and 1; NaN where the judge tells nothing (sensitivity and
    specificity add up to 1 or less).

    Example:

    ```python
    >>> round(float(rogan_gladen(0.5, 0.9, 0.95)), 4)
    0.5294
    ```
    """
    power = np.asarray(sensitivity, dtype=float) + specificity - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        true = np.clip((np.asarray(observed, dtype=float) + specificity - 1) / power, 0, 1)
    return np.where(power > 0, true, np.nan)


def corrected_rate(verdicts: ArrayLike, studies: Sequence[Calibration], seed: int = 0) -> Estimate:
    """The rate of `verdicts` (1 for each answer that the judge calls positive, else 0), corrected.

    `studies` compare the judge with people, each on the answers of another model. The value is corrected by all of
    them together. Each draw of the interval takes one of the studies, since a judge's error depends on whose answers
    it reads, and the rate, the sensitivity and the specificity from their Jeffreys posteriors.
    """
    values = np.asarray(verdicts, dtype=float)
    if not values.size:
        return Estimate(None, None, None, 0)
    random = np.random.default_rng(seed)
    observed = random.beta(values.sum() + 0.5, values.size - values.sum() + 0.5, DRAWS)
    return _estimate(
        rogan_gladen(values.mean(), *_pooled(studies)), rogan_gladen(observed, *_drawn(studies, random)), values.size
    )


def corrected_difference(
    first: ArrayLike, second: ArrayLike, studies: Sequence[Calibration], seed: int = 0
) -> Estimate:
    """The corrected rate of `second` minus that of `first`, for two models on the same questions in the same order.

    Each draw takes the shares of the four pairs of verdicts from their Jeffreys posterior, and one error of the judge
    for both models.
    """
    one, two = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if one.shape != two.shape:
        raise ValueError(f"paired verdicts must have the same shape, got {one.shape} and {two.shape}")
    if not one.size:
        return Estimate(None, None, None, 0)
    random = np.random.default_rng(seed)
    pairs = np.array([((one == a) & (two == b)).sum() for a, b in ((0, 0), (0, 1), (1, 0), (1, 1))])
    shares = random.dirichlet(pairs + 0.5, DRAWS)
    error = _drawn(studies, random)
    after = rogan_gladen(shares[:, 1] + shares[:, 3], *error)
    before = rogan_gladen(shares[:, 2] + shares[:, 3], *error)
    pooled = _pooled(studies)
    value = rogan_gladen(two.mean(), *pooled) - rogan_gladen(one.mean(), *pooled)
    return _estimate(value, after - before, one.size)


def _pooled(studies: Sequence[Calibration]) -> tuple[float, float]:
    positive = sum(study.true_positives + study.false_negatives for study in studies)
    negative = sum(study.true_negatives + study.false_positives for study in studies)
    sensitivity = sum(study.true_positives for study in studies) / positive
    return sensitivity, sum(study.true_negatives for study in studies) / negative


def _drawn(studies: Sequence[Calibration], random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sensitivity and specificity per draw, each draw from one study."""
    of = random.integers(len(studies), size=DRAWS)
    found, missed, right, wrong = (
        np.array([getattr(study, name) for study in studies])[of] + 0.5
        for name in ("true_positives", "false_negatives", "true_negatives", "false_positives")
    )
    return random.beta(found, missed), random.beta(right, wrong)


def _estimate(value: np.ndarray, draws: np.ndarray, n: int) -> Estimate:
    if np.isnan(value):
        return Estimate(None, None, None, n)
    low, high = np.nanquantile(draws, (0.025, 0.975))
    return Estimate(float(value), float(min(low, value)), float(max(high, value)), n)
