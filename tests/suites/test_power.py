"""A model that breaks some of n rules now and then: a suite finds each of them, and accuses none that it keeps."""

import random

import pytest
from policy_world import World, policy, suite_of
from scipy.stats import binom
from suites.test_testing import judge_at, served

from star_hf.evaluation.results.statistics import wilson
from star_hf.evaluation.tasks.profiles import Evaluation
from star_hf.policies import rule_refs
from star_hf.suites.testing import gate, run_suite


RULES, EACH, LEAST = 8, 20, 0.9
BREAKS, SLIPS = 0.6, 0.02
"""How often an answer to a case breaks a rule that the model breaks, and fails where it keeps it."""

GREEDY = Evaluation(profile="recommended", name="greedy", generation={"max_tokens": 64})
long = pytest.mark.long


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=[long] if seed > 1 else []) for seed in range(20)])
def test_every_broken_rule_is_found_and_no_kept_one_is_accused(tmp_path, seed):
    taxonomy = policy(RULES)
    suite, refs = suite_of(taxonomy, EACH), list(rule_refs(taxonomy))
    broken = set(random.Random(seed).sample(refs, seed % (len(refs) + 1)))
    with World(suite, broken, BREAKS, SLIPS, seed).server() as server:
        found = run_suite(suite, served(server), tmp_path, judge=judge_at(server), evaluation=GREEDY, progress=False)
    assert set(found.surely_below(LEAST)) == broken
    assert {ref for ref, rate in found.per_rule.items() if rate.value < LEAST} >= broken
    told = {
        check.name.rpartition(": pass rate")[0]
        for check in gate(found, None, {None: LEAST})
        if "surely" in check.detail
    }
    assert told == broken


def chance(cases: int, share: float) -> float:
    """The chance that a rule of so many cases is surely below `LEAST` if this share of the answers fails."""
    least = next((failed for failed in range(cases + 1) if wilson(cases - failed, cases).high < LEAST), cases + 1)
    return float(binom.sf(least - 1, cases, share))


@pytest.mark.parametrize(
    ("cases", "kept", "rare", "often", "always"),
    [
        (5, 0.004, 0.47, 0.81, 1.0),
        (10, 0.001, 0.62, 0.95, 1.0),
        (20, 0.000, 0.76, 0.99, 1.0),
        (50, 0.0, 0.96, 1.0, 1.0),
    ],
)
def test_the_guide_says_how_many_cases_a_rule_needs(cases, kept, rare, often, always):
    """The table of docs/policy_suites.md."""
    found = [chance(cases, share) for share in (SLIPS, 0.3, 0.5, 1.0)]
    assert found == pytest.approx([kept, rare, often, always], abs=0.006)
