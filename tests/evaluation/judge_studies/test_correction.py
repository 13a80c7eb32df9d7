import numpy as np
import pytest
from scipy import stats

from star_hf.evaluation.judge_studies.calibration import Calibration
from star_hf.evaluation.judge_studies.correction import corrected_difference, corrected_rate, rogan_gladen


def study(tp, fn, tn, fp):
    return Calibration("judge", tp, fp, fn, tn, failures={})


PERFECT = [study(100_000, 0, 100_000, 0)]
GOOD = [study(90, 10, 95, 5)]


def answers(positive, n):
    return np.repeat([1, 0], [positive, n - positive])


@pytest.mark.parametrize(
    ("observed", "sensitivity", "specificity", "true"),
    [
        (0.5, 0.9, 0.95, 9 / 17),  # (0.5 + 0.95 - 1) / 0.85
        (0.05, 0.9, 0.95, 0),  # all of it false alarms
        (0.9, 0.9, 0.95, 1),
        (0.3, 1, 1, 0.3),
        (0.01, 0.9, 0.95, 0),  # fewer than its false alarms: not below 0
        (0.99, 0.9, 0.95, 1),
    ],
)
def test_the_true_rate_is_solved_for_and_stays_a_rate(observed, sensitivity, specificity, true):
    assert rogan_gladen(observed, sensitivity, specificity) == pytest.approx(true)


def test_a_judge_that_tells_nothing_gives_no_rate():
    assert np.isnan(rogan_gladen(0.5, 0.5, 0.5)) and np.isnan(rogan_gladen(0.5, 0.2, 0.3))
    assert corrected_rate(answers(5, 10), [study(50, 50, 50, 50)]).value is None


def test_the_formula_inverts_what_a_judge_does():
    true = np.linspace(0, 1, 11)
    assert rogan_gladen(true * 0.8 + (1 - true) * 0.1, 0.8, 0.9) == pytest.approx(true)


def test_with_a_perfect_judge_the_interval_is_that_of_the_rate():
    found = corrected_rate(answers(30, 100), PERFECT)
    assert (found.value, found.n) == (pytest.approx(0.3), 100)
    assert (found.low, found.high) == pytest.approx(stats.beta(30.5, 70.5).ppf([0.025, 0.975]), abs=0.005)


def test_the_interval_is_as_wide_as_the_delta_method_says():
    """Var(t) = (Var(p) + t^2 Var(se) + (1 - t)^2 Var(sp)) / (se + sp - 1)^2 (Rogan and Gladen)."""
    found = corrected_rate(answers(1600, 4000), [study(180, 20, 190, 10)])
    t = found.value
    spread = (0.4 * 0.6 / 4000 + t**2 * 0.9 * 0.1 / 200 + (1 - t) ** 2 * 0.95 * 0.05 / 200) ** 0.5 / 0.85
    assert t == pytest.approx(0.35 / 0.85)
    assert (found.low, found.high) == pytest.approx((t - 1.96 * spread, t + 1.96 * spread), abs=0.006)


def test_a_judge_blind_to_one_model_widens_the_interval():
    one_style = corrected_rate(answers(60, 100), [study(95, 5, 95, 5), study(95, 5, 95, 5)])
    two_styles = corrected_rate(answers(60, 100), [study(95, 5, 95, 5), study(65, 35, 95, 5)])
    assert two_styles.high - two_styles.low > 1.5 * (one_style.high - one_style.low)
    assert two_styles.value == pytest.approx((0.6 - 0.05) / (0.8 - 0.05))  # by both together


def test_a_difference_is_stretched_by_the_judges_power():
    found = corrected_difference(answers(20, 100), answers(60, 100), GOOD)
    assert found.value == pytest.approx(0.4 / 0.85) and found.low > 0.3
    back = corrected_difference(answers(60, 100), answers(20, 100), GOOD)
    assert back.value == pytest.approx(-found.value)


def test_a_difference_knows_which_questions_are_the_same():
    """The same two rates are closer to certain if the questions that moved are few."""
    first = answers(50, 100)
    nested, crossed = answers(60, 100), np.concatenate([answers(10, 50), np.ones(50)])
    assert nested.mean() == crossed.mean() == 0.6
    narrow, wide = (corrected_difference(first, second, PERFECT) for second in (nested, crossed))
    assert narrow.value == wide.value == pytest.approx(0.1)
    assert narrow.low > 0 > wide.low


def test_no_difference_is_reported_as_none():
    found = corrected_difference(answers(30, 100), answers(30, 100), GOOD)
    assert found.value == 0 and found.low < 0 < found.high


def test_nothing_judged_has_no_value_and_pairs_must_match():
    assert corrected_rate([], GOOD).value is None and corrected_difference([], [], GOOD).n == 0
    with pytest.raises(ValueError, match="same shape"):
        corrected_difference([1, 0], [1], GOOD)


def test_equal_verdicts_always_give_the_equal_interval():
    assert corrected_rate(answers(3, 9), GOOD) == corrected_rate(answers(3, 9), GOOD)
