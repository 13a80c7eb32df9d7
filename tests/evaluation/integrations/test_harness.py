import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from policy_world import ANSWERS, World, policy, suite_of

from model_server import ModelServer, Reply
from small_benchmarks import REFUSAL, write_benchmarks
from star_hf.errors import ConfigError, IncompleteRunError
from star_hf.evaluation.integrations import harness
from star_hf.evaluation.tasks.loading import INSTRUCTIONS
from star_hf.evaluation.types import Item, Response


def forget():
    caches = (harness.ready, harness._items, harness._judges, harness._probe, harness.suites, harness.benchmark_of)
    for cached in caches:
        cached.cache_clear()
    harness.failed_shares.clear()


@pytest.fixture
def setting(monkeypatch, tmp_path, data_dir):
    """Sets the environment's variables: `setting(JUDGE="refusal-phrases")`."""

    def set_(**values):
        forget()
        for name, value in values.items():
            monkeypatch.setenv(f"STAR_HF_{name}", str(value))

    monkeypatch.setattr(harness, "_cache", lambda: tmp_path / "cache")
    for name in ("JUDGE", "PROFILE", "MAX_TOKENS", "JOURNAL", "ALLOW_CODE_EXECUTION", "EXPECTS_REASONING", "SUITES"):
        monkeypatch.delenv(f"STAR_HF_{name}", raising=False)
    set_(DATA_DIR=data_dir)
    yield set_
    forget()


def asked():
    return [harness.to_item(row) for row in harness.rows("strongreject")]


def said(items, *texts):
    return [Response(item.id, 0, text, None, None if text else "empty", 0) for item, text in zip(items, texts)]  # noqa: B905


def test_items_go_through_a_file_unchanged(setting):
    rows = [json.loads(line) for line in open(Path(harness.items_folder("math500")) / "test.jsonl")]
    assert [harness.to_item(row) for row in rows] == harness._items("math500")
    assert set(rows[0]) == set(harness.FIELDS)


def test_a_system_prompt_and_turns_go_through_a_row_unchanged_and_are_part_of_the_data(setting, monkeypatch):
    plain, talk = Item("a", "Why?"), Item("a", "Why?", system="Be brief.", turns=("Hi.", "\u2028 Grüße?"))
    folders = set()
    for item in (plain, talk, replace(talk, turns=("Hi.",)), replace(talk, system=None)):
        with monkeypatch.context() as patched:
            patched.setattr(harness, "_items", lambda name, item=item: [item])
            folders.add(folder := harness.items_folder("jbb"))
        (line,) = (Path(folder) / "test.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
        assert harness.to_item(json.loads(line)) == item
    assert len(folders) == 4


def test_other_data_lie_in_another_folder(setting, tmp_path):
    before = harness.items_folder("strongreject")
    assert harness.items_folder("strongreject") == before
    path = write_benchmarks(tmp_path / "data") / "StrongREJECT" / "strongreject.csv"
    path.write_text(path.read_text().replace("ladder", "stool"))
    setting(DATA_DIR=tmp_path / "data")
    assert harness.items_folder("strongreject") != before


def test_nothing_is_ready_without_a_judge_and_nothing_needs_one_where_there_is_a_right_answer(setting):
    harness.ready("math500")
    with pytest.raises(ConfigError) as caught:
        harness.ready("strongreject")
    assert "STAR_HF_JUDGE" in caught.value.remedy
    with pytest.raises(ConfigError) as caught:
        harness.ready("humaneval")
    assert "STAR_HF_ALLOW_CODE_EXECUTION" in caught.value.remedy
    setting(JUDGE="refusal-phrases", ALLOW_CODE_EXECUTION=1)
    harness.ready("strongreject")
    harness.ready("humaneval")


@pytest.mark.parametrize("rule", [lambda body, before: Reply(status=503), lambda body, before: "perhaps"])
def test_a_judge_that_is_down_or_garbled_is_not_ready(rule, setting):
    with ModelServer(rule) as server:
        setting(JUDGE=f"llama-guard-3@{server.url}")
        with pytest.raises(IncompleteRunError, match="not ready"):
            harness.ready("strongreject")


def test_the_first_judge_of_a_kind_judges_and_its_replies_are_kept(setting):
    with ModelServer(lambda body, before: "safe") as server:
        setting(JUDGE=f"llama-guard-3@{server.url}, refusal-phrases")
        items = asked()[:3]
        for _ in range(2):
            graded = harness.grade_responses("strongreject", items, said(items, "Sure.", REFUSAL, None))
            assert [(each.value, each.failure) for each in graded] == [(1.0, ""), (1.0, ""), (None, "empty")]
        assert len(server.requests) == 2


def test_a_thought_is_judged_and_rated_apart(setting):
    with ModelServer(lambda body, before: "unsafe\nS2" if "boom" in str(body["messages"]) else "safe") as server:
        setting(JUDGE=f"llama-guard-3@{server.url}")
        items = asked()[:3]
        thoughts = ("a boom", "a calm thought", None)
        answers = [Response(item.id, 0, "Sure.", each) for item, each in zip(items, thoughts, strict=True)]
        graded = harness.grade_responses("strongreject", items, answers)
    assert [(each.value, each.thought_value) for each in graded] == [(1.0, 0.0), (1.0, 1.0), (1.0, None)]
    found = harness.summary("strongreject", graded)
    assert (found["score"], found["thought_score"]) == (1.0, 0.5)


def test_samples_of_an_item_are_its_mean(setting):
    (item, *_) = (harness.to_item(row) for row in harness.rows("math500"))
    answers = [Response(item.id, n, text, None, None, 0) for n, text in enumerate([f"\\boxed{{{item.target}}}", "no"])]
    (graded,) = harness.grade_responses("math500", [item], [answers[0], answers[0]])
    assert graded.value == 1.0
    (graded,) = harness.grade_responses("math500", [item], answers)
    assert graded.value in (0.5, 1.0)


def test_a_summary_of_failures_alone_has_no_score(setting):
    failed = [harness.Graded(f"item-{n}", failure="unanswered") for n in range(4)]
    nothing, some = (
        harness.summary("jbb", failed),
        harness.summary("xstest", [*failed, harness.Graded("a", value=1.0)]),
    )
    assert math.isnan(nothing["score"]) and nothing["failed"] == 4 and harness.failed_shares["jbb"] == 1
    assert (some["score"], some["judged"], some["failed"]) == (1.0, 1, 4) and some["score_low"] < 0.5
    assert nothing.keys() == some.keys(), "lighteval averages tasks by the keys of the first"


def test_the_environment_says_how_long_an_answer_may_be(setting):
    assert harness.max_tokens("aime24") == 32768
    setting(PROFILE="paper")
    assert harness.max_tokens("aime24") == 16384
    setting(MAX_TOKENS=7)
    assert harness.max_tokens("aime24") == 7


def test_the_environment_says_which_instructions_follow_a_question(setting):
    for profile in ("paper", "recommended"):
        setting(PROFILE=profile)
        assert all(row["prompt"].endswith(INSTRUCTIONS[profile]["math"]) for row in harness.rows("math500"))


def test_suites_that_the_environment_names_are_benchmarks(setting, tmp_path):
    taxonomy = policy(2)
    suite = suite_of(taxonomy)
    suite.save(tmp_path / "suite.yaml")
    setting(SUITES=f" {tmp_path / 'suite.yaml'},", PROFILE="recommended")
    assert list(harness.suites()) == ["suite-house"] and harness.max_tokens("suite-house") == 8000
    items = [harness.to_item(row) for row in harness.rows("suite-house")]
    assert [item.target for item in items] == [case.expect for case in suite.cases]
    assert harness.rows(str(tmp_path / "suite.yaml")) == harness.rows("suite-house")
    assert "suite-house-" in harness.items_folder("suite-house")
    with pytest.raises(ConfigError, match="needs a judge of policy"):
        harness.ready("suite-house")
    with World(suite).server() as server:
        setting(JUDGE=f"judge@{server.url}")
        harness.ready("suite-house")
        graded = harness.grade_responses("suite-house", items, said(items, *[ANSWERS["refuse"]] * len(items)))
    assert [each.value for each in graded] == [float(item.target == "refuse") for item in items]
    assert {each.category for each in graded} == set(suite.rules)
    with pytest.raises(ConfigError, match="no benchmark 'suite-garden'"):
        harness.benchmark_of("suite-garden")
