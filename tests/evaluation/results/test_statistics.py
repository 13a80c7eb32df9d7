from itertools import combinations, product

import numpy as np
import pytest

from star_hf.evaluation.results.statistics import (
    Estimate,
    bootstrap_mean,
    mcnemar,
    mean_of,
    paired_difference,
    pass_at_k,
    rate,
    wilson,
)


def test_wilson_is_the_published_interval():
    estimate = wilson(90, 100)
    assert (estimate.value, estimate.n) == (0.9, 100)
    assert (round(estimate.low, 4), round(estimate.high, 4)) == (0.8256, 0.9448)
    assert wilson(15, 30).low == pytest.approx(0.3315, abs=1e-4)


def test_wilson_is_never_certain_and_never_leaves_0_to_1():
    assert wilson(0, 5).low == 0 and 0.4 < wilson(0, 5).high < 0.5
    assert wilson(5, 5).high == 1 and wilson(5, 5).low > 0.5
    assert wilson(0, 0) == Estimate(None, None, None, 0)


def test_wilson_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(0)
    intervals = [wilson(successes, 100) for successes in random.binomial(100, 0.93, 400)]
    assert 0.91 < np.mean([each.low <= 0.93 <= each.high for each in intervals]) < 0.99


@pytest.mark.parametrize("values", [np.arange(400) % 5 / 4, np.random.default_rng(1).random(400)])
def test_bootstrap_agrees_with_the_normal_interval_of_a_large_sample(values):
    estimate, half = bootstrap_mean(values), 1.96 * values.std() / 20
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert estimate == bootstrap_mean(values) != bootstrap_mean(values, seed=1)


def test_rate_takes_wilson_for_yes_and_no_and_the_bootstrap_for_the_rest():
    assert rate([1, 1, 0, 1]) == wilson(3, 4)
    assert rate([0.25, 0.75]) == bootstrap_mean([0.25, 0.75])
    assert rate([]).value is None


def test_complement_turns_the_interval_around():
    assert Estimate(0.9, 0.8, 0.95, 10).complement().low == pytest.approx(0.05)
    assert Estimate(None, None, None, 0).complement().value is None


def test_mcnemar_is_exact():
    assert mcnemar(0, 0) == 1
    assert mcnemar(6, 0) == pytest.approx(2 * 0.5**6)
    assert mcnemar(9, 1) == mcnemar(1, 9) == pytest.approx(2 * (1 + 10) / 2**10)


def test_paired_difference_of_yes_and_no():
    first, second = [1] * 50 + [0] * 50, [1] * 45 + [0] * 5 + [1] * 20 + [0] * 30
    difference = paired_difference(first, second)
    assert (difference.value, difference.better, difference.worse, difference.n) == (0.15, 20, 5, 100)
    assert difference.p_value == mcnemar(20, 5)
    assert 0 < difference.low < 0.15 < difference.high < 0.3


def test_the_interval_of_a_paired_difference_is_bonett_and_prices():
    """By hand, of 21 pairs with 1 better and 7 worse: -6/23, give or take 1.96 standard errors of 0.1263."""
    first, second = [1] * 7 + [0] * 14, [0] * 7 + [1] + [0] * 13
    difference = paired_difference(first, second)
    assert (difference.better, difference.worse) == (1, 7)
    assert (round(difference.low, 3), round(difference.high, 3)) == (-0.508, -0.013)


def test_models_that_agree_on_few_items_are_not_called_equal():
    difference = paired_difference([1, 1, 1, 1], [1, 1, 1, 1])
    assert difference.value == 0 and difference.low < -0.3 and difference.high > 0.3 and difference.p_value == 1


def test_paired_difference_of_means_finds_what_is_there_and_not_what_is_not():
    random = np.random.default_rng(2)
    first = random.random(300)
    worse = paired_difference(first, np.clip(first - 0.05 + random.normal(0, 0.1, 300), 0, 1))
    same = paired_difference(first, first[::-1])
    assert worse.high < 0 and worse.p_value < 0.001
    assert same.low < 0 < same.high and same.p_value > 0.05


def test_paired_difference_refuses_what_is_not_paired_and_has_no_value_for_nothing():
    with pytest.raises(ValueError, match="same shape"):
        paired_difference([1, 0], [1])
    assert paired_difference([], []).value is None


def test_pass_at_k_is_the_share_of_draws_with_a_correct_one():
    samples = [1, 0, 0, 1, 0, 0]
    draws = list(combinations(samples, 3))
    expected = sum(map(any, draws)) / len(draws)
    assert pass_at_k([6], [2], 3)[0] == pytest.approx(expected)
    assert pass_at_k([64, 64, 64], [0, 8, 64], 1) == pytest.approx([0, 1 / 8, 1])
    assert pass_at_k([4], [3], 2)[0] == 1
    with pytest.raises(ValueError, match="pass@4"):
        pass_at_k([3], [1], 4)


def test_mean_of_benchmarks_is_unweighted_and_narrower_than_its_parts():
    parts = [wilson(90, 100), wilson(250, 500)]
    mean = mean_of(parts)
    assert mean.value == pytest.approx(0.7) and mean.n == 2
    assert 0.7 - mean.low < max(part.value - part.low for part in parts)
    assert mean_of([wilson(1, 2), wilson(0, 0)]).value is None
    assert mean_of([]).value is None


def test_the_interval_of_a_mean_combines_half_widths_and_does_not_add_them():
    mean = mean_of([wilson(90, 100), wilson(250, 500)])
    assert (round(mean.value, 3), round(mean.low, 3), round(mean.high, 3)) == (0.700, 0.657, 0.731)


def test_the_p_value_of_random_signs_is_that_of_all_signs_and_never_0():
    gain = np.array([0.5, 0.25, 0.25, -0.25, 0.75, 0.5, 0.25, -0.5])
    signs = np.array(list(product((1, -1), repeat=gain.size)))
    exact = np.mean(abs(signs @ gain) >= abs(gain.sum()))
    found = paired_difference(np.full(gain.size, 0.125), 0.125 + gain / 2)
    assert 0.2 < exact < 0.3 and found.p_value == pytest.approx(exact, abs=0.03)  # 2,000 draws: 3 standard errors
    certain = paired_difference(np.full(500, 0.25), np.full(500, 0.5))
    assert 0 < certain.p_value == pytest.approx(1 / 2001)


@pytest.mark.parametrize("n", [1, 3, 12, 400])
def test_wilsons_interval_of_shares_lies_between_those_of_whole_numbers(n):
    for below in range(min(n, 20)):
        low, middle, high = (wilson(below + part, n) for part in (0, 0.5, 1))
        assert low.low < middle.low < high.low and low.high < middle.high < high.high
        assert middle.value == pytest.approx((below + 0.5) / n) and 0 <= middle.low and middle.high <= 1
    exact = wilson(below, n)
    assert (wilson(below + 1e-13, n).low, wilson(below + 1e-13, n).high) == pytest.approx((exact.low, exact.high))
