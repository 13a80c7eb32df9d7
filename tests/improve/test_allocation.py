"""Which rules get rows: by what they can gain, in whole numbers that add up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_hf.improve.allocation import Need, Quota, allocate, expected_shortfall, shares


def need(rule, passed, cases, target=0.8, **more):
    return Need(rule, target, (passed, cases), **more)


def test_the_expected_shortfall_is_that_of_many_draws():
    draws = np.random.default_rng(0)
    for passed, cases, target in [(0, 3, 0.8), (3, 3, 0.8), (20, 30, 0.9), (2.5, 7, 0.5), (0, 0, 0.95)]:
        p = draws.beta(passed + 0.5, cases - passed + 0.5, 400_000)
        assert expected_shortfall(passed, cases, target) == pytest.approx(np.maximum(0, target - p).mean(), abs=2e-3)


def test_rows_go_to_the_rules_under_target_by_what_they_can_gain():
    given = allocate([need("none", 0, 20), need("half", 10, 20), need("all", 20, 20)], 100, twins=0)
    assert set(given) == {"none", "half"}, "20 of 20 surely reach 80 %"
    assert given["none"].rows > 2 * given["half"].rows > 20
    assert sum(quota.rows for quota in given.values()) == 100


def test_a_rule_that_passed_its_few_cases_gets_few_rows_though_its_lower_bound_is_low():
    given = allocate([need("fails", 3, 12), need("few", 3, 3)], 100)
    assert need("few", 3, 3).is_below and given["few"].rows <= 3


def test_more_cases_or_a_greater_weight_count_more():
    small, large = need("small", 2, 4), need("large", 20, 40)
    given = allocate([small, large], 90)
    assert given["large"].rows > 3 * given["small"].rows
    given = allocate([need("light", 2, 4, weight=1), need("heavy", 2, 4, weight=3)], 100)
    assert (given["light"].rows, given["heavy"].rows) == (25, 75)


def test_a_rule_that_was_not_measured_is_under_target():
    assert need("new", 0, 0).is_below and allocate([need("new", 0, 0)], 10)["new"].rows == 10


def test_a_category_decides_for_its_rules():
    given = allocate([need("in", 9, 9, below=True), need("out", 0, 9, below=False)], 10)
    assert set(given) == {"in"}


def test_an_even_spread_gives_all_rules_the_same_whatever_they_need():
    needs = [need("bad", 0, 30), need("good", 30, 30), need("new", 0, 0)]
    given = allocate(needs, 31, spread="even")
    assert [quota.rows for quota in given.values()] == [11, 10, 10] and list(given) == ["bad", "good", "new"]


@pytest.mark.parametrize(
    ("harmful", "harmless", "share"),
    [
        ((0, 8), (4, 4), 0.25),  # only forbidden requests fail
        ((4, 8), (0, 4), 0.5),  # half of the failures are refusals of harmless questions
        ((8, 8), (0, 4), 0.75),  # all of them; some rows still refuse, so that this is not unlearnt
        ((8, 8), (4, 4), 0.25),
        ((0, 0), (1, 4), 1.0),  # a rule about what is allowed
        ((2, 8), (0, 0), 0.25),
    ],
)
def test_the_share_of_harmless_rows_follows_what_fails(harmful, harmless, share):
    assert Need("rule", 0.9, harmful, harmless).harmless_share(0.25) == share
    given = allocate([Need("rule", 0.99, harmful, harmless, below=True)], 40)
    assert given["rule"] == Quota(40, round(40 * share))


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=12),
    st.integers(0, 300),
    st.floats(0, 1),
    st.sampled_from(["gain", "even"]),
    st.floats(0, 0.5),
)
def test_rows_always_add_up(tallies, size, target, spread, twins):
    needs = [Need(str(n), target, (passed, passed + failed)) for n, (passed, failed) in enumerate(tallies)]
    given = allocate(needs, size, spread=spread, twins=twins)
    some = any(each.is_below for each in needs) if spread == "gain" else bool(needs)
    assert sum(quota.rows for quota in given.values()) == (size if some else 0)
    assert all(0 <= quota.harmless <= quota.rows and quota.rows for quota in given.values())
    if spread == "gain":
        assert set(given) <= {each.rule for each in needs if each.is_below}
        order = sorted((each for each in needs if each.rule in given), key=lambda each: each.gain)
        rows = [given[each.rule].rows for each in order]
        assert all(later >= earlier - 1 for earlier, later in zip(rows, rows[1:], strict=False)), "more for more gain"


def test_shares_are_whole_and_fair():
    assert shares([1, 1, 1], 10) == [4, 3, 3] and shares([0, 0], 5) == [0, 0] and shares([], 3) == []
    assert shares([1, 2, 3], 60) == [10, 20, 30] and shares([1e-12, 1], 3) == [0, 3]
