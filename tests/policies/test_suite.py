"""Suites of a policy as files: what is read is what was written, and what is wrong is named with its line."""

from dataclasses import replace
from pathlib import Path

import pytest

from star_hf.errors import PolicyError
from star_hf.policies import Case, Suite, Taxonomy, rule_refs


EXAMPLES = Path(__file__).resolve().parents[2] / "recipes" / "policies"

HEAD = """\
name: small
policy: star_8
language: en
cases:
"""
CASE = """\
  - rule: "{rule}"
    style: plain
    turns: ["{turn}"]
    expect: refuse
"""
RULE = "Self-Harm#rule-1"


def written(tmp_path: Path, *cases: str, head: str = HEAD) -> Path:
    path = tmp_path / "suite.yaml"
    path.write_text(head + "".join(cases), encoding="utf-8")
    return path


def a_case(turn: str = "How do I fool a cat?", rule: str = RULE) -> str:
    return CASE.format(rule=rule, turn=turn)


@pytest.mark.parametrize("name", ["bank", "learning_app"])
def test_the_examples_test_every_rule_in_both_halves(name):
    taxonomy = Taxonomy.load(EXAMPLES / name / "policy.yaml")
    suite = Suite.load(EXAMPLES / name / "suite.yaml")
    suite.check(taxonomy)
    assert not suite.uncovered(taxonomy) and not suite.half("sealed").uncovered(taxonomy)
    assert {case.half for case in suite.cases} == {"training", "sealed"}
    assert {case.style for case in suite.cases} == {"plain", "borderline", "adversarial", "allowed"}
    assert {case.origin for case in suite.cases} == {"written"}
    assert suite.rules == rule_refs(taxonomy)


def test_what_is_saved_is_read_again(tmp_path):
    case = Case(RULE, "adversarial", ("Zeig es: »so«?", "one\ntwo # three: four"), "redirect", technique="splitting")
    twin = Case(RULE, "allowed", ("007",), "comply", half="training", origin="drafted", twin_of=case.id)
    suite = Suite("no", "yes", "de", (case, twin), {RULE: "Text: with a colon"})
    suite.save(tmp_path / "suite.yaml")
    assert Suite.load(tmp_path / "suite.yaml") == suite
    assert Suite.load(tmp_path / "suite.yaml").hash == suite.hash


def test_a_case_by_hand_is_sealed_and_has_an_id(tmp_path):
    (case,) = Suite.load(written(tmp_path, a_case())).cases
    assert (case.half, case.origin, case.line, len(case.id)) == ("sealed", "written", 5, 16)
    assert case.id == Case(RULE, "plain", ("how do i fool  a cat?",), "refuse").id


def test_an_edited_case_is_a_new_case_and_its_twin_follows_it(tmp_path):
    drafted = Case(RULE, "plain", ("How do I fool a cat?",), "refuse", origin="drafted")
    twin = Case(RULE, "allowed", ("How do I feed a cat?",), "comply", origin="drafted", twin_of=drafted.id)
    Suite("small", "star_8", "en", (drafted, twin)).save(tmp_path / "suite.yaml")
    path = tmp_path / "suite.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("fool a cat", "fool a dog"), encoding="utf-8")
    edited, same = Suite.load(path).cases
    assert edited.id != drafted.id and edited.origin == "written"
    assert (same.id, same.origin, same.twin_of) == (twin.id, "drafted", edited.id)


def test_the_twin_of_a_removed_case_stays(tmp_path):
    twin = Case(RULE, "allowed", ("How do I feed a cat?",), "comply", twin_of="0123456789abcdef")
    Suite("small", "star_8", "en", (twin,)).save(tmp_path / "suite.yaml")
    assert Suite.load(tmp_path / "suite.yaml").cases == (replace(twin, twin_of=None),)


def test_the_hash_changes_with_what_is_tested_and_not_with_the_order():
    one, two = (Case(RULE, "plain", (turn,), "refuse") for turn in ("How do I fool a cat?", "How do I fool a dog?"))
    suite = Suite("small", "star_8", "en", (one, two))
    assert suite.hash == replace(suite, cases=(two, one)).hash
    assert suite.hash != replace(suite, cases=(one, replace(two, half="training"))).hash
    assert suite.hash != replace(suite, rules={RULE: "A rule"}).hash


@pytest.mark.parametrize(
    "content, message",
    [
        (HEAD.replace("cases:", "cases: []"), "`cases`"),
        (HEAD, "`cases`"),
        ("- a\n", "expected `key: value` lines"),
        (HEAD + a_case() + a_case("How do I  fool a CAT?"), "line 9: the same case as in line 5"),
        (HEAD + a_case().replace("refuse", "obey"), "line 5: `expect`: Input should be 'refuse'"),
        (HEAD + a_case() + a_case("x").replace("plain", "plane"), "line 9: `style`"),
        (HEAD + a_case().replace("rule:", "rul:"), "line 5: `rul` is not an option. Did you mean `rule`"),
        (HEAD + a_case().replace('["How do I fool a cat?"]', "[]"), "line 5: `turns`"),
        (HEAD + a_case().replace('["How do I fool a cat?"]', '[" "]'), "line 5: `turns.0`"),
        (HEAD + a_case().replace('["How do I fool a cat?"]', "a cat"), "line 5: `turns`"),
        (HEAD + a_case() + "    technique: role_play\n", "line 5: .*`technique` is for adversarial cases"),
        (HEAD + a_case() + "    style: plain\n", "duplicate key 'style'"),
        (HEAD + "  - a\n", "`cases.0`"),
        (HEAD + a_case().replace("refuse", "[refuse]"), "line 5: `expect`"),
        ("name: small\n" + HEAD + a_case(), "duplicate key 'name'"),
        (HEAD.replace("policy", "policies") + a_case(), "`policies` is not an option. Did you mean `policy`"),
    ],
    ids=range(16),
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, content, message):
    path = tmp_path / "suite.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(PolicyError, match=message) as error:
        Suite.load(path)
    assert str(path) in str(error.value) and error.value.remedy


def test_a_rule_that_is_gone_or_reads_differently_is_named(tmp_path):
    taxonomy = Taxonomy.load()
    Suite.load(written(tmp_path, a_case())).check(taxonomy)
    path = written(tmp_path, a_case(), a_case(rule="Self-Harm#rule-99"))
    with pytest.raises(PolicyError, match=f"{path}: line 9: the policy 'star_8' has no rule 'Self-Harm#rule-99'"):
        Suite.load(path).check(taxonomy, path)
    told = HEAD.replace("cases:", f'rules: {{"{RULE}": "An older text."}}\ncases:')
    with pytest.raises(PolicyError, match="line 6: .*reads differently"):
        Suite.load(written(tmp_path, a_case(), head=told)).check(taxonomy)


def test_a_large_suite_is_read(tmp_path):
    count = 3_000
    path = written(tmp_path, *(a_case(f"Question {number}?") for number in range(count)))
    assert len(Suite.load(path).cases) == count
