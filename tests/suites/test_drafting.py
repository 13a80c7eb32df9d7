"""Drafts of suites: every rule covered, halves that are unlike, people's cases kept, and nothing paid twice."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from writers import Writers

from model_server import ModelServer, Reply
from star_hf.deduplication.alike import find_alike
from star_hf.errors import IncompleteRunError, PolicyError
from star_hf.llm import Budget, Endpoint, Journal
from star_hf.policies import Case, Suite, Taxonomy, rule_refs
from star_hf.suites.drafting import Drafting, draft, forecast_draft
from star_hf.suites.plan import HELPFUL, Slot, rules_of
from star_hf.suites.sealing import as_rows, halve


POLICIES = Path(__file__).resolve().parents[2] / "recipes" / "policies"
BANK, APP = (Taxonomy.load(POLICIES / name / "policy.yaml") for name in ("bank", "learning_app"))
WORDS_ALONE = {"embedding_threshold": None}
OPTIONS = Drafting(compare=WORDS_ALONE)


def endpoint(server: ModelServer, **options) -> Endpoint:
    return Endpoint(provider="vllm", base_url=server.url, model="writer", name="writer", concurrency=16, **options)


@pytest.fixture
def drafted(tmp_path):
    """Draft by a server that follows these rules; returns the draft and the server."""

    def run(taxonomy=BANK, twist=None, check=None, fresh=False, **more):
        path = tmp_path / f"journal{fresh}.sqlite"
        with ModelServer(Writers(taxonomy, twist, check)) as server, Journal(path) as journal:
            more = {"options": OPTIONS, "progress": False, **more}
            done = draft(taxonomy, endpoint(server), journal, **more)
        return done, server

    return run


@pytest.mark.parametrize("taxonomy", [BANK, APP, Taxonomy.load()], ids=lambda taxonomy: taxonomy.name)
def test_every_rule_is_covered_in_both_halves_by_two_requests(drafted, taxonomy):
    done, server = drafted(taxonomy)
    assert done.uncovered == {} and len(done.removed) == 0
    rules = rules_of(taxonomy)
    assert len(server.requests) == 2 * len(rules)
    assert Counter(case.rule for case in done.suite.cases) == dict.fromkeys(rules, 8)
    halves = {half: done.suite.half(half).cases for half in ("sealed", "training")}
    assert abs(len(halves["sealed"]) - len(halves["training"])) <= len(rules)
    for cases in halves.values():
        assert {case.rule for case in cases} == set(rules)
    assert {case.technique for case in done.suite.cases} >= {"role_play", "splitting", "authority", "encoded"}
    assert all(len(case.turns) > 1 for case in done.suite.cases if case.technique == "splitting")
    for case in done.suite.cases:
        assert case.expect in rules[case.rule].kinds(case.style) and case.origin == "drafted"
    by_id = {case.id: case for case in done.suite.cases}
    twins = [case for case in done.suite.cases if case.twin_of]
    assert twins and all(by_id[case.twin_of].half == case.half for case in twins)
    assert all(case.style == "allowed" and by_id[case.twin_of].style != "allowed" for case in twins)
    assert [case.rule for case in done.suite.cases] == [ref for ref in rules for _ in range(8)]


def test_a_second_draft_asks_nothing_and_changes_nothing(drafted, tmp_path):
    first, _ = drafted()
    again, server = drafted(keep=first.suite)
    assert server.requests == [] and again.suite == first.suite
    once_more, server = drafted()
    assert server.requests == [] and once_more.suite == first.suite


def test_what_people_wrote_moved_and_removed_stays_so(drafted, tmp_path):
    first, _ = drafted()
    cases = list(first.suite.cases)
    moved = replace(cases[1], half="training" if cases[1].half == "sealed" else "sealed", twin_of=None)
    written = Case(cases[0].rule, "plain", ("A question by hand?",), "redirect")
    edited = Suite("mine", BANK.name, "de", (moved, written, *cases[3:]), first.suite.rules)
    again, server = drafted(keep=edited, deleted={cases[0].id, cases[2].id})
    kept = {case.id: case for case in again.suite.cases}
    assert kept[moved.id].half == moved.half and kept[written.id] == written
    assert not {cases[0].id, cases[2].id} & kept.keys()
    assert {case.rule for case in again.suite.cases if case.id not in {case.id for case in edited.cases}} == {
        written.rule
    }
    assert again.suite.name == "mine" and len(again.suite.cases) == len(edited.cases) + 1


def test_what_the_checker_refuses_is_removed_and_asked_for_once_more(drafted):
    refs = list(rules_of(BANK))
    poor = []

    def twist(ref, styles, cases):
        if ref == refs[0] and not poor:
            poor.extend("\n".join(case["turns"]) for case in cases[:2])

    def check(text):
        if text in poor:
            return (False, "refuse") if text == poor[0] else (True, "comply_with_care")

    done, server = drafted(twist=twist, check=check)
    assert Counter(done.removed["reason"]) == {"untested": 1, "other_kind": 1}
    assert set(done.removed["source"]) == {refs[0]} and set(done.removed["stage"]) == {"draft_check"}
    assert "by the checker" in "".join(filter(None, done.removed["detail"]))
    assert server.rule.asked.count(f"write {refs[0]}") == 2 and len(server.requests) == 2 * len(refs) + 2
    assert sum(case.rule == refs[0] for case in done.suite.cases) == 8
    origins = {case.id for case in done.suite.cases}
    assert all(case.twin_of in origins for case in done.suite.cases if case.twin_of)


def test_near_copies_are_left_out_but_a_twin_may_be_like_its_origin(drafted):
    text = "Wie bekomme ich an einem Sonntag den Schlüssel von Tür sieben im Haus am See"

    def twist(ref, styles, cases):
        if ref == "Anlageberatung#rule-1" and len(cases) == 8:
            for place, case in enumerate(cases[:3]):
                case["turns"] = [f"{text}, bitte{'!' * place}"]

    done, _ = drafted(twist=twist)
    assert styles_of(done, text) == ["plain", "allowed"]
    assert done.removed["reason"][:] == ["ngram_duplicate"]


def styles_of(done, text):
    return [case.style for case in done.suite.cases if case.turns[0].startswith(text)]


def test_no_sealed_case_is_like_a_training_case(drafted):
    def twist(ref, styles, cases):  # families of cases that are alike enough to belong together
        for case in cases:
            case["turns"][0] = f"{ref} door {' '.join(case['turns'][0].split()[:4])}"

    done, _ = drafted(twist=twist)
    sealed, training = (as_rows(done.suite.half(half).cases) for half in ("sealed", "training"))
    assert len(sealed) and len(training)
    assert len(find_alike(training, sealed, progress=False, **WORDS_ALONE).first_wins().removed) == 0


def test_groups_stay_together_and_a_bridge_between_fixed_halves_is_left_out():
    rule = next(iter(rule_refs(BANK)))
    same = "one two three four five six seven eight nine"
    a = Case(rule, "plain", (f"{same} left",), "refuse", half="sealed")
    b = Case(
        rule, "plain", ("ten eleven twelve thirteen fourteen fifteen sixteen seventeen",), "refuse", half="training"
    )
    bridge = Case(rule, "plain", (f"{same} ten eleven twelve thirteen fourteen fifteen sixteen seventeen",), "refuse")
    like_a = Case(rule, "plain", (f"{same} right",), "refuse", half="training")
    done, left_out = halve([a, b, bridge], {a.id, b.id}, progress=False, **WORDS_ALONE)
    assert [case.half for case in done] == ["sealed", "training"] and left_out == [bridge]
    done, left_out = halve([like_a, a], {a.id}, progress=False, **WORDS_ALONE)
    assert [case.half for case in done] == ["sealed", "sealed"] and not left_out


@pytest.mark.parametrize(
    "poor",
    [
        lambda cases: cases[:-1],
        lambda cases: [*cases, cases[0]],
        lambda cases: [{**cases[0], "turns": "text"}, *cases[1:]],
        lambda cases: [{**cases[0], "turns": [" "]}, *cases[1:]],
        lambda cases: [{**cases[0], "turns": ["a", "b"]}, *cases[1:]],
        lambda cases: [{**cases[0], "expect": "obey"}, *cases[1:]],
        lambda cases: [{**cases[0], "number": True}, *cases[1:]],
        lambda cases: [{**cases[0], "more": 1}, *cases[1:]],
        lambda cases: [*cases[:1], {**cases[1], "expect": "refuse"}, *cases[2:]],
        lambda cases: "I'm sorry, but I can't help with that.",
    ],
    ids=range(10),
)
def test_a_rule_without_usable_cases_is_named(drafted, poor):
    ref = "Anlageberatung#rule-1"
    done, server = drafted(twist=lambda rule, styles, cases: poor(cases) if rule == ref else None)
    assert list(done.uncovered) == [ref] and "no sealed and no training case" in done.uncovered[ref]
    assert "draft_cases" in done.uncovered[ref]
    assert len(done.suite.cases) == 8 * (len(rules_of(BANK)) - 1)


def test_a_reply_in_another_order_is_read_by_its_numbers(drafted):
    straight, _ = drafted()
    turned, _ = drafted(taxonomy=BANK, twist=lambda ref, styles, cases: cases[::-1], fresh=True)
    assert turned.suite == straight.suite


def test_only_the_rules_that_are_named(drafted):
    done, _ = drafted(options=replace(OPTIONS, rules=["Kontosicherheit#rule-2", "Kontosicherheit#response-2"]))
    assert {case.rule for case in done.suite.cases} == {"Kontosicherheit#rule-2", "Kontosicherheit#response-2"}
    with pytest.raises(PolicyError, match="no rule 'Kontosicherheit#rule-9'") as error:
        drafted(options=replace(OPTIONS, rules=["Kontosicherheit#rule-9"]))
    assert "Did you mean" in error.value.remedy


def test_a_suite_of_another_policy_is_refused_before_anything_is_asked(drafted):
    other = Suite("x", "x", "en", (Case("Doors#rule-1", "plain", ("Open it?",), "refuse"),))
    with pytest.raises(PolicyError, match="no rule 'Doors#rule-1'"):
        drafted(keep=other)


def test_a_forecast_counts_what_a_draft_asks_and_a_finished_one_asks_nothing(drafted, tmp_path):
    with Journal(tmp_path / "journal.sqlite") as journal:
        asked = Endpoint(provider="openai", model="gpt-4o-2024-11-20")
        writes, checks = forecast_draft(BANK, asked, journal)
        assert writes.requests == checks.requests == len(rules_of(BANK)) and writes.prompt_tokens > 10_000
        dollars = writes.cost_usd + checks.cost_usd
        cases = 8 * len(rules_of(BANK))
        assert 0 < dollars * 300 / cases < 1  # 300 cases cost less than a dollar
        done, _ = drafted()
        assert [stage.requests for stage in forecast_draft(BANK, asked, journal, keep=done.suite)] == [0, 0]


def test_a_budget_stops_before_it_is_exceeded_and_a_higher_one_goes_on(tmp_path):
    with ModelServer(Writers(BANK)) as server, Journal(tmp_path / "journal.sqlite") as journal:
        asked = endpoint(server, price={"input": 100.0, "output": 100.0})
        with pytest.raises(IncompleteRunError, match="budget"):
            draft(BANK, asked, journal, options=OPTIONS, budget=Budget(2.0), progress=False)
        paid = len(server.requests)
        assert journal.cost() <= 2.0
        done = draft(BANK, asked, journal, options=OPTIONS, budget=Budget(100, journal.cost()), progress=False)
        assert not done.uncovered and len(server.requests) == 2 * len(rules_of(BANK)) and paid > 0


def test_a_model_that_is_down_is_one_error_and_nothing_is_lost(tmp_path):
    with ModelServer(lambda body, times: Reply(status=401)) as server, Journal(tmp_path / "journal.sqlite") as journal:
        with pytest.raises(Exception, match="401|key") as error:
            draft(BANK, endpoint(server), journal, options=OPTIONS, progress=False)
        assert error.value.remedy


def test_slots_have_the_styles_in_turn_and_fill_only_what_is_missing():
    rules = rules_of(BANK)
    forbidding, helping = rules["Anlageberatung#rule-1"], rules["Anlageberatung#response-2"]
    slots = forbidding.slots(7, [])
    assert Counter(slot.style for slot in slots) == {"plain": 2, "allowed": 2, "adversarial": 2, "borderline": 1}
    assert slots[1] == Slot("allowed", twin=1) and slots[3].several
    assert {slot.style for slot in helping.slots(4, [])} == {"plain", "borderline"}
    assert all(kind in HELPFUL for kind in helping.kinds("plain"))
    there = [Case(forbidding.ref, "plain", (str(n),), "refuse") for n in range(3)]
    missing = forbidding.slots(7, there)
    assert len(missing) == 4 and "plain" not in {slot.style for slot in missing}
    assert forbidding.slots(3, there) == []
    tricks = {slot.technique for rule in rules.values() for slot in rule.slots(7, []) if slot.technique}
    assert len(tricks) == 5


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
from star_hf.llm import Endpoint, Journal
from star_hf.policies import Taxonomy
from star_hf.suites.drafting import Drafting, draft
journal = Journal({journal!r})
endpoint = Endpoint(provider="vllm", base_url={url!r}, model="writer", name="writer", concurrency=4)
options = Drafting(compare={{"embedding_threshold": None}})
done = draft(Taxonomy.load({policy!r}), endpoint, journal, options=options, progress=False)
done.suite.save({out!r})
"""


@pytest.mark.slow
@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.long)])
def test_killed_at_any_instant_it_ends_with_the_same_bytes_and_pays_nothing_twice(tmp_path, kills):
    policy, out = POLICIES / "bank" / "policy.yaml", tmp_path / "suite.yaml"
    with ModelServer(Writers(BANK), delay_s=0.05) as server:
        code = KILLED.format(
            paths=sys.path[:0],
            journal=str(tmp_path / "journal.sqlite"),
            url=server.url,
            policy=str(policy),
            out=str(out),
        )
        for kill in range(kills):
            before = len(server.requests)
            process = subprocess.Popen([sys.executable, "-c", code])
            while process.poll() is None and len(server.requests) <= before + kill % 3:
                time.sleep(0.01)
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
            process.wait()
        subprocess.run([sys.executable, "-c", code], check=True)
        in_flight = 4 * kills  # what was asked at the moment of a kill is not known to the journal
        assert len(server.requests) <= 2 * len(rules_of(BANK)) + in_flight
    killed = out.read_bytes()
    with ModelServer(Writers(BANK)) as server, Journal(tmp_path / "other.sqlite") as journal:
        draft(BANK, endpoint(server), journal, options=OPTIONS, progress=False).suite.save(out)
    assert out.read_bytes() == killed
