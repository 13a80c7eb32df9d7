"""What follows a round: ship, again, or stop with the reason."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from improve_world import ImproveWorld, options

from star_hf.evaluation.comparison.decision import Criterion
from star_hf.improve import gate
from star_hf.improve.allocation import Need, allocate
from star_hf.improve.measure import Measured, needs_of
from star_hf.suites.plan import HELPFUL
from star_hf.suites.results import CaseResult, Rate, SuiteResults


ONE, TWO = "Keys, doors#rule-1", "Keys, doors#rule-2"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return ImproveWorld(tmp_path_factory.mktemp("gate"), {})


@pytest.fixture
def config(world, monkeypatch):
    """A configuration, in a world where benchmarks say nothing against any model."""
    monkeypatch.setattr(gate, "compare", lambda *args: SimpleNamespace(checks=(Criterion("benchmarks", True, ""),)))
    return options(world.run.parent / "in", "http://127.0.0.1:1/v1", world)


def measured(world, config, name, passes, target=None):
    """A model that passes the cases for which `passes` is true; `None` leaves a case without a verdict."""
    cases = world.suite.half("sealed").cases
    verdicts = [passes(case) for case in cases]
    found = tuple(
        CaseResult(case, 0, case.expect, (), passed, "judge_error" if passed is None else None)
        for case, passed in zip(cases, verdicts, strict=True)
    )
    suite = SuiteResults("house", name, "judge", world.suite.rules, found)
    units = suite.per_rule
    if config.targets.by == "category":
        units = {"Keys, doors": Rate.of(found)}
    targets = {unit: config.targets.of.get(unit, config.targets.rate) for unit in units}
    return Measured(name, name, Path(name), name, suite, SimpleNamespace(averages={}), targets, units)


def all_but(*rules):
    return lambda case: case.rule not in rules


def helps_nobody(case):
    return case.expect not in HELPFUL


def step(world, config, *rounds):
    names = ["base", *(f"round-{n}" for n in range(1, len(rounds)))]
    return gate.next_step([measured(world, config, *each) for each in zip(names, rounds, strict=True)], config)


def test_a_base_model_that_reaches_all_targets_ships(world, config):
    found = step(world, config, all_but())
    assert found.action == "ship" and "base model" in found.reason


def test_a_rule_under_target_needs_a_round(world, config):
    found = step(world, config, all_but(ONE))
    assert found.action == "again" and found.reason == f"Under target: {ONE}."
    assert found.checks[0].passed is False and "1 under it" in found.checks[0].detail


def test_a_model_that_follows_the_rule_ships(world, config):
    assert step(world, config, all_but(ONE), all_but()).action == "ship"


def test_a_benchmark_against_it_stops_it_when_all_targets_are_reached(world, config, monkeypatch):
    checks = (Criterion("mean reasoning cost", False, "+9.0"),)
    monkeypatch.setattr(gate, "compare", lambda *args: SimpleNamespace(checks=checks))
    found = step(world, config, all_but(ONE), all_but())
    assert found.action == "stop" and "mean reasoning cost: +9.0" in found.reason


@pytest.mark.parametrize(("cost", "kinds"), [(0.03, {"reasoning"}), (None, set())])
def test_reasoning_must_be_measured_unless_it_is_left_out(world, config, monkeypatch, cost, kinds):
    asked = []
    monkeypatch.setattr(gate, "compare", lambda *args: asked.append(args) or SimpleNamespace(checks=()))
    given = config.model_copy(update={"gate": config.gate.model_copy(update={"max_reasoning_cost": cost})})
    step(world, given, all_but(ONE), all_but())
    assert set(asked[0][3]) == kinds


def test_a_model_that_refuses_everything_does_not_ship(world, config):
    found = step(world, config.model_copy(update={"rounds": 1}), all_but(ONE), helps_nobody)
    harmless = found.checks[2]
    assert harmless.name.startswith("the suite's harmless cases") and harmless.passed is False
    assert found.action == "stop" and "1 of 1 rounds are done" in found.reason


def test_without_a_gain_it_stops_after_some_patience(world, config):
    found = step(world, config, all_but(ONE, TWO), all_but(ONE, TWO))
    assert found.action == "stop" and "No gain on the sealed half in the last 1 rounds" in found.reason
    patient = config.model_copy(update={"patience": 2})
    assert step(world, patient, all_but(ONE, TWO), all_but(ONE, TWO)).action == "again"
    assert step(world, patient, all_but(ONE, TWO), all_but(ONE, TWO), all_but(ONE)).action == "again"
    assert step(world, patient, *[all_but(ONE, TWO)] * 3).action == "stop"
    assert step(world, config, all_but(ONE, TWO), all_but(ONE), all_but(TWO)).action == "stop", "no more than before"


def test_too_few_cases_are_undecided(world, config):
    targets = config.targets.model_copy(update={"rate": 0.9})
    found = step(world, config.model_copy(update={"targets": targets}), all_but())
    assert found.action == "again" and found.checks[0].passed is None
    assert "4 with too few cases to tell" in found.checks[0].detail


def test_answers_that_were_not_judged_never_ship(world, config):
    found = step(world, config, all_but(ONE), lambda case: None if case.rule == ONE else True)
    assert found.action != "ship" and found.checks[1].passed is None
    needs = needs_of(measured(world, config, "x", lambda case: None), lambda rule: rule)
    assert all(need.is_below and need.cases == 0 for need in needs)


def test_a_category_has_one_target(world, config):
    targets = config.targets.model_copy(update={"by": "category", "of": {"Keys, doors": 0.5}})
    given = config.model_copy(update={"targets": targets})
    assert step(world, given, all_but(ONE)).action == "ship", "18 of 24 surely reach half"
    assert step(world, given, all_but(ONE, TWO)).action == "again"
    needs = needs_of(measured(world, given, "x", all_but(ONE, TWO)), lambda rule: "Keys, doors")
    assert {ref: quota.rows for ref, quota in allocate(needs, 100).items()} == {ONE: 50, TWO: 50}


def test_needs_have_the_tallies_of_both_sides(world, config):
    needs = needs_of(measured(world, config, "x", lambda case: case.expect in HELPFUL), lambda rule: rule)
    by_rule = {need.rule: need for need in needs}
    assert by_rule[ONE] == Need(ONE, 0.6, (0.0, 5), (1.0, 1), below=True)
    assert by_rule["Keys, doors#response-2"].harmless_share(0.25) == 1.0
    assert replace(by_rule[ONE], weight=2).gain < by_rule[ONE].gain
