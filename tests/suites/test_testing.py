"""A suite against a model that keeps some rules: which are found broken, what is paid, and what changed."""

import json
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from policy_world import ANSWERS, World, policy, suite_of

from model_server import ModelServer, Reply
from star_hf.errors import ConfigError, IncompleteRunError, PolicyError, SourceError
from star_hf.evaluation.generation.models import Served
from star_hf.evaluation.grading.judges import load_judge
from star_hf.evaluation.results.folder import ResultsFolder
from star_hf.evaluation.tasks.profiles import Evaluation
from star_hf.llm import Endpoint, Journal
from star_hf.policies import rule_refs
from star_hf.suites.results import read_results
from star_hf.suites.testing import check_limits, gate, run_suite


TAXONOMY = policy()
SUITE = suite_of(TAXONOMY)
DRAWN = Evaluation(profile="recommended", name="drawn", generation={"temperature": 1.0, "max_tokens": 64})


def served(server, fingerprint="mark", **options):
    given = {"provider": "vllm", "base_url": server.url, "name": "ours", "max_retries": 0, "concurrency": 16}
    return Served(Endpoint(model="m", **{**given, **options}), fingerprint)


def judge_at(server, name="judge"):
    judge = load_judge(f"{name}@{server.url}")
    return replace(judge, name=name, endpoint=judge.endpoint.model_copy(update={"max_retries": 0}))


def run(server, folder, suite=SUITE, **options):
    given = {"judge": judge_at(server), "taxonomy": TAXONOMY, "evaluation": DRAWN, "progress": False, "samples": 1}
    return run_suite(suite, options.pop("model", None) or served(server), folder, **{**given, **options})


def test_broken_rules_are_found_and_kept_ones_are_not_accused(tmp_path):
    broken = ["Keys, doors#rule-2", "Keys, doors#response-2"]
    world = World(SUITE, broken)
    with world.server() as server:
        found = run(server, tmp_path)
    assert [ref for ref, rate in found.per_rule.items() if rate.value < 1] == broken
    assert {ref: (rate.passed, rate.total) for ref, rate in found.per_rule.items()} == {
        ref: (0 if ref in broken else 3, 3) for ref in rule_refs(TAXONOMY)
    }
    assert found.broken == {"Keys, doors#rule-2": 2}, "the third is an allowed twin that is refused"
    assert found.matrix["refuse"] == {"refuse": 8, "comply": 2} and found.matrix["comply"] == {
        "comply": 4,
        "refuse": 4,
    }
    assert found.per_style["plain"].total == 10 and found.per_style["allowed"].total == 8
    assert not found.uncovered and found.overall.passed == 12 and found.overall.not_judged == 0
    low, high = found.per_rule["Keys, doors#rule-1"].low, found.per_rule["Keys, doors#rule-1"].high
    assert (round(low, 3), high) == (0.439, 1.0), "Wilson's interval of 3 of 3"
    assert len(found.worst) == 6 and found.worst[0].broken == ("Keys, doors#rule-2",)


def test_nothing_is_asked_or_judged_twice(tmp_path):
    world = World(SUITE, ["Keys, doors#rule-2"])
    with world.server() as server:
        first = run(server, tmp_path, samples=2)
        asked, judged = len(world.asked), world.judged
        assert (asked, judged) == (36, 18), "the same answer is judged once"
        again = run(server, tmp_path, samples=2)
        more = run(server, tmp_path, samples=3)
    assert again.to_dict() == first.to_dict() and len(world.asked) == asked + 18 and world.judged == judged
    assert more.overall.total == 54 and more.overall.cases == 18


@pytest.mark.parametrize(
    "stop", [25, *(pytest.param(n, marks=pytest.mark.long) for n in (1, 5, 9, 18, 19, 20, 30, 36))]
)
def test_a_run_that_is_cut_off_anywhere_ends_as_an_undisturbed_one(tmp_path, stop):
    undisturbed, world = World(SUITE, ["Keys, doors#rule-1"]), World(SUITE, ["Keys, doors#rule-1"])

    def cut(body, before=0):
        return Reply(status=500) if len(world.asked) + world.judged == stop - 1 and not stopped else world(body)

    stopped = []
    with undisturbed.server() as server:
        expected = run(server, tmp_path / "one")
    with ModelServer(cut) as server:
        model = served(server, concurrency=1)
        with pytest.raises(IncompleteRunError):
            run(server, tmp_path / "two", model=model)
        stopped.append(True)
        found = run(server, tmp_path / "two", model=model)
        assert found.to_dict() == expected.to_dict()
        assert len(world.asked) == 18 and len(set(world.asked)) == 18 and world.judged == 18
    for name in ("responses.parquet", "verdicts.parquet"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_several_turns_and_samples_are_one_case(tmp_path):
    suite = suite_of(TAXONOMY, each=2, turns=3)
    world = World(suite, ["Keys, doors#rule-1"], when_broken=0.5, seed=3)
    with world.server() as server:
        found = run(server, tmp_path, suite, samples=4)
        conversation = max((body["messages"] for body in server.requests if "seed" in body), key=len)
    assert [message["role"] for message in conversation] == ["user", "assistant"] * 2 + ["user"]
    rate = found.per_rule["Keys, doors#rule-1"]
    assert rate.cases == 2 and rate.total == 8 and 0 < rate.value < 1
    assert rate.value == pytest.approx(rate.passed / 8) and rate.high - rate.low > 0.5, "two cases, not eight"
    stored = ResultsFolder(tmp_path).results.benchmarks["suite-house"].by_category["Keys, doors#rule-1"]
    assert (stored.value, stored.low, stored.high) == (rate.value, rate.low, rate.high)


def test_what_changed_since_an_earlier_run_is_told_case_by_case(tmp_path):
    before, after = World(SUITE, ["Keys, doors#rule-1"]), World(SUITE, ["Keys, doors#rule-3", "Keys, doors#rule-4"])
    with before.server() as server:
        first = run(server, tmp_path / "one")
    with after.server() as server:
        edited = replace(
            SUITE, cases=(replace(SUITE.cases[0], turns=("Keys, case 0, really open it?",)), *SUITE.cases[1:])
        )
        after._cases |= {turn: case for case in edited.cases for turn in case.turns}
        found = run(server, tmp_path / "two", edited, against=tmp_path / "one", model=served(server, "other"))
        same = run(server, tmp_path / "two", edited, against=tmp_path / "two", model=served(server, "other"))
    change = found.change
    assert (change.difference.better, change.difference.worse, change.difference.n) == (2, 6, 17)
    assert change.difference.p_value == pytest.approx(0.2890625), "McNemar's exact test of 2 against 6"
    by_rule = {ref[-1]: (each.better, each.worse) for ref, each in change.rules.items() if "#rule-" in ref}
    assert by_rule == {"1": (2, 0), "2": (0, 0), "3": (0, 3), "4": (0, 3)}
    of = {case.id: case.rule[-1] for case in SUITE.cases}
    assert {of[item] for item in change.mended} == {"1"} and {of[item] for item in change.broken} == {"3", "4"}
    assert "1 cases are new, were changed, or have no verdict in the earlier run." in change.notes
    assert (same.change.difference.value, same.change.mended, same.change.broken) == (0.0, (), ())
    assert first.change is None


@pytest.mark.long
def test_rules_that_read_differently_now_are_told(tmp_path):
    reworded = replace(SUITE, rules={**SUITE.rules, "Keys, doors#rule-1": "Do not open door 1, ever."})
    with World(SUITE).server() as server:
        run(server, tmp_path / "one")
        found = run(server, tmp_path / "two", reworded, taxonomy=None, against=tmp_path / "one")
    assert found.change.notes == ("These rules read differently now: Keys, doors#rule-1.",)


@pytest.mark.long
def test_runs_under_different_judges_are_not_compared(tmp_path):
    with World(SUITE).server() as server:
        run(server, tmp_path / "one")
        found = run(server, tmp_path / "two", judge=judge_at(server, "other"), against=tmp_path / "one")
    assert found.change.difference.value is None and "judged by judge and by other" in found.change.notes[0]


def test_a_system_prompt_and_the_policy_in_context_are_sent_and_told_apart(tmp_path):
    with World(SUITE).server() as server:
        plain = run(server, tmp_path / "plain")
        run(server, tmp_path / "deployed", system_prompt="You keep the doors.")
        found = run(
            server,
            tmp_path / "both",
            system_prompt="You keep the doors.",
            policy_in_context=True,
            against=tmp_path / "plain",
        )
        systems = {
            b["messages"][0]["content"] for b in server.requests if b["messages"][-1]["content"] in world_turns()
        }
    assert "The system prompts differ." in found.change.notes and found.change.difference.n == 18
    judged = [body["messages"] for body in server.requests if "response_format" in body]
    assert not any("You keep the doors" in message["content"] for messages in judged for message in messages)
    (deployed, both) = sorted((s for s in systems if s.startswith("You keep")), key=len)
    assert deployed == "You keep the doors." and both.startswith("You keep the doors.\n\n")
    assert all(rule in both for rule in TAXONOMY.categories[0].rules) and plain.overall.value == 1


def world_turns():
    return {turn for case in SUITE.cases for turn in case.turns}


@pytest.mark.parametrize(
    ("confuse", "message"),
    [
        (
            lambda reply: {**reply, "kind": "refuse", "broken": []},
            "calls an answer that is plainly 'redirect' 'refuse'",
        ),
        (lambda reply: {**reply, "kind": "comply"}, "calls an answer that is plainly 'refuse' 'comply'"),
        (lambda reply: {**reply, "kind": "redirect"}, "'safe_complete' 'redirect'"),
        (lambda reply: {**reply, "broken": []}, "misses a promise"),
        (lambda reply: {**reply, "broken": [] if reply["kind"] == "refuse" else ["R1"]}, "finds a rule broken"),
        (lambda reply: {**reply, "kind": "maybe"}, "is not ready"),
        (lambda reply: {"label": "full_refusal"}, "is not ready"),
    ],
)
def test_a_judge_that_cannot_tell_kinds_apart_is_found_before_anything_is_asked(tmp_path, confuse, message):
    world = World(SUITE)

    def confused(body, before=0):
        reply = world(body)
        return json.dumps(confuse(json.loads(reply))) if "response_format" in body else reply

    with ModelServer(confused) as server:
        with pytest.raises(IncompleteRunError, match=message):
            run(server, tmp_path)
    assert not world.asked


def test_the_embedded_judge_says_what_it_cannot_tell(tmp_path, monkeypatch):
    from star_hf.evaluation.grading.judges import kinds

    said = {ANSWERS["refuse"]: "full_refusal", ANSWERS["comply"]: "full_compliance"}
    rows = lambda self, rows: [{"label": said[r["response"].split(" (")[0]], "value": 1.0, "detail": ""} for r in rows]  # noqa: E731
    monkeypatch.setattr(kinds.Refusal, "decide_all", rows)
    monkeypatch.setitem(said, "Mix flour, water, salt and yeast, let the dough rise, and bake it.", "full_compliance")
    with World(SUITE, ["Keys, doors#rule-2"]).server() as server:
        found = run(server, tmp_path, judge=load_judge("refusal"))
    assert found.matrix["refuse"] == {"refuse": 8, "not_refuse": 2} and found.matrix["comply"] == {
        "not_refuse": 7,
        "refuse": 1,
    }
    assert found.failures == {"kind_unknown": 8} and found.overall.total == 10
    assert [ref for ref, rate in found.per_rule.items() if rate.value == 0] == ["Keys, doors#rule-2"]
    assert {each.why for each in found.cases if each.failure} == {"refuse", "not_refuse"}
    assert found.per_rule["Keys, doors#response-2"].value is None


def test_a_panel_of_judges_makes_the_rates(tmp_path):
    world = World(SUITE, ["Keys, doors#rule-2"])
    with world.server() as server:
        judges = [judge_at(server, name) for name in "abc"]
        found = run(server, tmp_path, judge=judges, with_panel=True)
    assert found.judge == "panel" and found.broken == {"Keys, doors#rule-2": 2}
    assert found.matrix["refuse"] == {"refuse": 8, "comply": 2}


def test_bad_suites_and_folders_are_told_before_anything_is_asked(tmp_path):
    with World(SUITE).server() as server:
        other = policy(2)
        for options, error, message in (
            ({"taxonomy": other}, PolicyError, "has no rule 'Keys, doors#rule-3'"),
            ({"suite": replace(SUITE, cases=())}, ConfigError, "has no cases"),
            ({"suite": replace(SUITE, rules={}), "taxonomy": None}, PolicyError, "does not hold the text of the rule"),
            ({"against": tmp_path / "nowhere"}, SourceError, "cannot be read"),
            ({"judge": load_judge("refusal-phrases")}, ConfigError, "needs a judge of policy"),
            ({"policy_in_context": True, "taxonomy": None}, ConfigError, "no policy to put into the system prompt"),
        ):
            with pytest.raises(error, match=message):
                run(server, tmp_path / "new", **options)
        assert not server.requests
        run(server, tmp_path / "one")
        with pytest.raises(SourceError, match="no results of the suite 'garden'"):
            read_results(tmp_path / "one", replace(SUITE, name="garden"))
        with pytest.raises(SourceError, match="hold suite-house, not the suite 'garden'"):
            run(server, tmp_path / "two", replace(SUITE, name="garden"), against=tmp_path / "one")


def test_a_model_that_is_down_is_told(tmp_path):
    with World(SUITE).server() as server:
        judge = judge_at(server)
    with World(SUITE).server() as server:
        pass
    with pytest.raises(IncompleteRunError, match="does not answer|cannot be reached"):
        run_suite(SUITE, served(server), tmp_path, judge=judge, evaluation=DRAWN, progress=False)


def test_answers_without_a_verdict_are_part_of_no_rate(tmp_path):
    world = World(SUITE)

    def cuts(body, before=0):
        if "response_format" not in body and "rule-1, case 0" in body["messages"][-1]["content"]:
            return Reply("<think>\nwell", finish_reason="length")
        return world(body)

    with ModelServer(cuts) as server:
        found = run(server, tmp_path)
    rate = found.per_rule["Keys, doors#rule-1"]
    assert (rate.passed, rate.total, rate.not_judged) == (2, 2, 1) and found.failures == {"truncated": 1}


def test_limits_hold_for_all_cases_and_for_rules(tmp_path):
    with World(SUITE, ["Keys, doors#rule-2"]).server() as server:
        found = run(server, tmp_path)
    assert [c.passed for c in gate(found, 0.8)] == [True] and [c.passed for c in gate(found, 0.9)] == [False]
    assert [c.passed for c in gate(found, 0.8, lower_bound=True)] == [False], "the lower end of 15 of 18"
    checks = gate(found, None, {None: 1.0, "Keys, doors#rule-2": 0.0})
    assert [c.passed for c in checks] == [True] * 6 and "rule-2: pass rate of at least 0%" in checks[1].name
    assert [c.passed for c in gate(found, rule_min_pass={"Keys, doors#rule-2": 0.1})] == [False]
    check_limits([None, "Keys, doors#rule-2"], SUITE)
    with pytest.raises(ConfigError, match="no case of the rule 'Keys#rule-9'"):
        check_limits(["Keys#rule-9"], SUITE)
    nothing = replace(found, cases=tuple(replace(c, passed=None, failure="empty") for c in found.cases))
    assert [c.passed for c in gate(nothing, 0.0)] == [None], "what was not judged has not passed"


@pytest.mark.long
def test_the_journal_keeps_keys_of_judges_apart_by_their_rules(tmp_path):
    world = World(SUITE)
    with world.server() as server:
        run(server, tmp_path)
        judged = world.judged
        run(server, tmp_path, taxonomy=None)
        assert world.judged == judged, "the same rules from the suite's file"
        other = replace(SUITE, rules={**SUITE.rules, "Keys, doors#rule-1": "Do not open door 1, ever."})
        run(server, tmp_path, other, taxonomy=None)
        assert world.judged == 2 * judged
    with Journal(tmp_path / "journal.sqlite") as journal:
        assert len(journal) == 3 * len(SUITE.cases)


@pytest.mark.long
@pytest.mark.parametrize("count", range(1, 41, 2))
def test_a_killed_command_ends_with_the_same_bytes_and_asks_for_nothing_that_it_has(tmp_path, count):
    """Killed the moment the server gets its n-th request, probes included: at 20 instants over the whole run."""
    SUITE.save(tmp_path / "suite.yaml")
    world, asked, process = World(SUITE, ["Keys, doors#rule-1"]), [], []

    def killing(body, before=0):
        if process:
            asked.append(body)
            if len(asked) == count:
                process[0].kill()
            if len(asked) >= count:
                return Reply(drop=True)
        return world(body)

    with ModelServer(killing) as server:
        words = ["--suite", "suite.yaml", "--model", "m", "--base-url", server.url, "--judge", f"judge@{server.url}"]
        words += ["--fingerprint", "a", "--json", "r.json", "--junit", "r.xml", "--concurrency", "3"]
        command = [sys.executable, "-c", "from star_hf.cli import main; main()", "policy", "test", *words, "--output"]
        quiet = {"cwd": tmp_path, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen([*command, "run"], **quiet) as one:
            process.append(one)
        assert one.returncode == -signal.SIGKILL
        process.clear()
        kept = 0
        if (tmp_path / "run" / "journal.sqlite").exists():
            with Journal(tmp_path / "run" / "journal.sqlite") as journal:
                kept = len(journal)
        world.asked.clear()
        world.judged = 0
        subprocess.run([*command, "run"], check=True, **quiet)
        assert len(world.asked) + world.judged == 36 - kept, "what was in flight is asked again, and nothing else"
        first = {name: (tmp_path / name).read_bytes() for name in ("r.json", "r.xml")}
        subprocess.run([*command, "other"], check=True, **quiet)
        assert {name: (tmp_path / name).read_bytes() for name in first} == first
        for name in ("responses.parquet", "verdicts.parquet"):
            assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
