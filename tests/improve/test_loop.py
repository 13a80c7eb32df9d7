"""The whole loop against a server on loopback and a trainer of ten lines."""

import json

import pytest
import yaml
from improve_world import ImproveWorld, options

from star_hf.errors import ConfigError, IncompleteRunError, PolicyError, StarError, TrainingError
from star_hf.improve.config import load
from star_hf.improve.forecast import forecast
from star_hf.improve.loop import improve
from star_hf.improve.page import write_page
from star_hf.policies import Suite
from star_hf.utils.files import read_json


ONE, TWO = "Keys, doors#rule-1", "Keys, doors#rule-2"


def run(world, server, **changes):
    return improve(options(world.run.parent / "in", server.url, world, **changes), world.run, progress=False)


def lines(world, number):
    path = world.run / f"round-{number}" / "train.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """A run that ships after one round, and its world."""
    world = ImproveWorld(tmp_path_factory.mktemp("shipped"), {ONE: 2})
    with world.server() as server:
        return world, server, run(world, server)


def test_a_rule_that_fails_gets_all_rows_and_a_model_that_follows_it_ships(shipped):
    world, _, done = shipped
    assert [each.step.action for each in done.rounds] == ["again", "ship"]
    assert set(done.rounds[1].quotas) == {ONE} and done.rounds[1].made[ONE].rows == 16
    assert done.rounds[1].made[ONE].harmless == 4, "a quarter"
    assert done.shipped == str(world.run / "round-1" / "model")
    assert all(check.passed for check in done.rounds[1].step.checks)
    assert world.roles["teacher"] == world.roles["scorer"] == 16 and world.roles["base"] == 24


def test_rows_are_first_those_of_the_training_half_and_never_sealed(shipped):
    world, _, _ = shipped
    asked = {line["question"] for line in lines(world, 1)}
    of = {case.turns[0]: case for case in world.suite.cases}
    assert {of[question].half for question in asked & set(of)} == {"training"}
    assert len(asked & set(of)) == 4 and len(asked) == 16
    sealed = {turn for case in world.suite.half("sealed").cases for turn in case.turns}
    seen = "".join(content for (role, content) in world.paid if role in ("drafter", "checker", "teacher", "scorer"))
    assert not any(turn in seen for turn in sealed), "nobody who makes data is shown a sealed case"


def test_a_second_call_asks_and_changes_nothing(shipped):
    world, server, done = shipped
    paid, ledger = dict(world.paid), (world.run / "ledger.json").read_bytes()
    with world.server():
        assert run(world, server) == done
    assert dict(world.paid) == paid and (world.run / "ledger.json").read_bytes() == ledger


def test_the_page_shows_the_rounds_without_texts_of_cases(shipped):
    world, _, done = shipped
    page = write_page(done).read_text("utf-8")
    assert "Ship round-1." in page and "All criteria pass." in page and TWO in page
    assert not any(turn in page for turn in world.cases), "texts may be harmful"


def test_a_forecast_sends_nothing_and_says_what_it_cannot_know(shipped, tmp_path):
    world, _, _ = shipped
    fresh = ImproveWorld(tmp_path, {})
    with fresh.server() as server:
        found = forecast(options(tmp_path / "in", server.url, fresh), fresh.run)
        assert not server.requests
        rest = forecast(options(world.run.parent / "in", server.url, world), world.run)
    assert [each.name for each in found] == ["base", "round-1", "round-2", "round-3"]
    steps = {stage.step: stage for stage in found[1].stages}
    assert list(steps) == ["draft", "check drafts", "answer", "score", "train", "ask the model", "judge policy"]
    assert steps["answer"].calls == steps["score"].calls == 16 and steps["answer"].cost_usd > 0
    assert steps["judge policy"].calls == steps["ask the model"].calls == 24
    assert steps["judge policy"].cost_usd is None, "the judge's server has no price"
    assert steps["train"].hours is None and steps["train"].cost_usd is None
    assert [len(each.stages) for each in rest] == [0, 0, 7, 7], "what is done is not forecast"
    assert rest[2].stages[4].hours is not None, "by the training of the first round"


def test_rounds_go_on_until_the_rule_is_learnt_and_no_question_is_used_twice(tmp_path):
    world = ImproveWorld(tmp_path, {ONE: 20, TWO: 2})
    with world.server() as server:
        done = run(world, server)
    assert [each.step.action for each in done.rounds] == ["again", "again", "ship"]
    assert set(done.rounds[1].quotas) == {ONE, TWO} and set(done.rounds[2].quotas) == {ONE}
    assert [each.trained_on for each in done.rounds] == [0, 16, 32]
    first, second = ({line["question"] for line in lines(world, number)} for number in (1, 2))
    assert first < second and len(second) == 32
    assert max(world.paid.values()) == 1, "nothing was asked twice over the rounds"


def test_a_base_model_that_reaches_all_targets_ships_as_it_is(tmp_path):
    world = ImproveWorld(tmp_path, {})
    with world.server() as server:
        done = run(world, server)
    assert done.shipped == "base" and len(done.rounds) == 1 and not world.roles["drafter"]


def test_a_training_file_that_was_edited_is_made_again(shipped):
    world, server, done = shipped
    path = world.run / "round-1" / "train.jsonl"
    before = path.read_bytes()
    path.write_bytes(before.splitlines(keepends=True)[0])
    with world.server():
        assert run(world, server) == done and path.read_bytes() == before


def test_a_budget_holds_over_the_whole_run(tmp_path):
    world = ImproveWorld(tmp_path, {ONE: 2})
    with world.server() as server:
        judge = tmp_path / "in" / "judge.yaml"
        config = options(tmp_path / "in", server.url, world)
        priced = judge.read_text().replace(
            "model: judge", "model: judge\n  max_tokens: 100\n  price: {input: 1, output: 2}"
        )
        judge.write_text(priced)
        with pytest.raises(IncompleteRunError, match="the budget of"):
            improve(config, world.run, budget_usd=0.02, progress=False)
        spent = sum(world.paid.values())
        assert 0 < spent and not world.roles["round-1"]
        assert improve(config, world.run, budget_usd=5, progress=False).shipped
        assert max(world.paid.values()) == 1


@pytest.mark.parametrize(
    ("edit", "error", "message"),
    [
        (lambda c: c | {"judges": []}, ConfigError, "judges"),
        (lambda c: c | {"tasks": ["star1:nothing"]}, ConfigError, "no benchmark 'star1:nothing'"),
        (lambda c: c | {"profile": "no"}, ConfigError, "no profile"),
        (lambda c: c | {"rows": {"size": 0}}, ConfigError, "rows.size"),
        (lambda c: c | {"rows": {"spread": "wide"}}, ConfigError, "rows.spread"),
        (lambda c: c | {"round": 1}, ConfigError, "Did you mean `rounds`"),
        (lambda c: c | {"train": {"command": "x"}}, ConfigError, "train"),
        (lambda c: c | {"suite": "none.yaml"}, PolicyError, "none.yaml"),
        (lambda c: {k: v for k, v in c.items() if k != "policies"}, ConfigError, "`policies` is missing"),
    ],
)
def test_wrong_options_are_one_message_before_anything_is_asked(tmp_path, edit, error, message):
    world = ImproveWorld(tmp_path, {})
    with world.server() as server:
        given = options(tmp_path / "in", server.url, world).model_dump(mode="json", exclude_none=True)
        (tmp_path / "improve.yaml").write_text(yaml.safe_dump(edit(given)))
        with pytest.raises(error) as told:
            improve(load(tmp_path / "improve.yaml"), world.run, progress=False)
        assert message in str(told.value) and not server.requests


def test_a_suite_without_a_sealed_case_or_of_another_policy_is_refused(tmp_path):
    world = ImproveWorld(tmp_path, {})
    with world.server() as server:
        config = options(tmp_path / "in", server.url, world)
        world.suite.half("training").save(config.suite)
        with pytest.raises(ConfigError, match="has no sealed case"):
            improve(config, world.run, progress=False)
        text = world.suite.rules[ONE]
        Suite("s", "p", "en", world.suite.cases, {**world.suite.rules, ONE: text.replace("Do not", "Never")}).save(
            config.suite
        )
        with pytest.raises(PolicyError, match="reads differently"):
            improve(config, world.run, progress=False)
        assert not server.requests


def test_a_damaged_ledger_is_one_message_and_its_remedy_works(shipped):
    world, server, done = shipped
    path = world.run / "ledger.json"
    before, paid = read_json(path), dict(world.paid)
    for damage in ("{", json.dumps({"stages": {"round-0 evaluate": {}}}), "[]"):
        path.write_text(damage)
        with world.server(), pytest.raises(StarError, match="Delete .*ledger.json"):
            run(world, server)
    path.unlink()
    with world.server() as server:
        assert run(world, server).shipped == done.shipped
    assert {role for role, content in world.paid.items() if content > 1} == set() and dict(world.paid) == paid
    assert {n: e["outputs"] for n, e in read_json(path)["stages"].items()} == {
        n: e["outputs"] for n, e in before["stages"].items()
    }


def test_under_a_system_prompt_a_trainer_that_fails_can_be_mended_and_nothing_is_paid_again(tmp_path):
    world = ImproveWorld(tmp_path, {ONE: 2})
    (tmp_path / "prompt.txt").write_text("You keep the doors.")
    given = {"system_prompt": str(tmp_path / "prompt.txt"), "policy_in_context": True}
    with world.server() as server:
        with pytest.raises(TrainingError, match="exit code 1"):
            run(world, server, **given, train={"command": "false {data} {output}"})
        assert run(world, server, **given).shipped and max(world.paid.values()) == 1
        systems = {body["messages"][0]["content"] for body in server.requests if body["model"] == "round-1"}
    (system,) = {line["messages"][0]["content"] for line in lines(world, 1)}
    assert system in systems, "the same in training and in tests"
    assert system.startswith("You keep the doors.\n\n") and "Do not open door 2." in system
    assert [message["role"] for message in lines(world, 1)[0]["messages"]] == ["system", "user", "assistant"]
