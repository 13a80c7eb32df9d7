"""The reports of a suite: what they hold, and that no text of a model can be markup in them."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from policy_world import policy, suite_of

from star_hf.evaluation.comparison.decision import Criterion
from star_hf.evaluation.results.statistics import paired_difference
from star_hf.policies import Suite
from star_hf.suites.report import to_html, to_junit, to_markdown, write_reports
from star_hf.suites.results import CaseResult, Change, SuiteResults


EVIL = '</pre><script>alert(1)</script> | `x` \x1b[2J \x00 \ufffe "&'
TAXONOMY = policy(2)
REF = "Keys, doors#rule-1"


def answer(case, observed, broken=(), passed=True, failure=None, text="Fine."):
    messages = ({"role": "system", "content": "Secret."}, {"role": "user", "content": case.turns[0]})
    said = {"role": "assistant", "content": text}
    return CaseResult(case, 0, observed, tuple(broken), passed, failure, "Because.", (*messages, said))


def results(**changes):
    suite = suite_of(TAXONOMY)
    first, second, third, *rest = suite.cases
    change = Change("before", paired_difference([1.0] * 9, [0.0] + [1.0] * 8), {REF: paired_difference([1.0], [0.0])},
                    (), (first.id,), ("The system prompts differ.",))  # fmt: skip
    cases = (
        answer(first, "comply", [REF], False, text=EVIL),
        answer(second, "comply"),
        answer(third, None, (), None, "truncated"),
        *(answer(case, case.expect) for case in rest),
    )
    made = SuiteResults("house", "my-model", "judge", suite.rules, cases, ("Keys, doors#rule-9",), change)
    return replace(made, **changes)


CHECKS = (Criterion("all cases: pass rate of at least 90%", False, "81.8"), Criterion(f"{REF}: low", None, "-"))


def test_junit_has_a_test_for_each_answer_and_each_limit():
    root = ET.fromstring(to_junit(results(), CHECKS))
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("14", "2", "2")
    assert [suite.get("name") for suite in root] == [*results().per_rule, "limits"]
    (failed,) = root[0].findall("testcase/failure")
    assert failed.get("message") == f"expected refuse, observed comply, breaks {REF}"
    assert [e.get("message") for e in root[0].findall("testcase/error")] == ["not judged: truncated"]
    assert "open it" not in to_junit(results(), CHECKS), "no text of a case in a log"


@pytest.mark.parametrize("name", [EVIL, "a]]>b", "\ud800", "&lt;"])
def test_no_text_breaks_the_xml(name):
    suite = suite_of(TAXONOMY)
    cases = tuple(replace(case, rule=f"{name}#rule-1", id="") for case in suite.cases[:1])
    found = results(name=name, rules={f"{name}#rule-1": name}, cases=(answer(cases[0], "comply", [], False),))
    assert ET.fromstring(to_junit(found, CHECKS)).get("tests") == "3"


class Tags(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.seen = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


def test_the_page_escapes_and_folds_every_text_and_loads_nothing():
    found = results(name=EVIL, model=EVIL, rules={**results().rules, REF: EVIL})
    page = to_html(found, (*CHECKS, Criterion(EVIL, True, EVIL)))
    tags = [tag for tag, _ in Tags(page).seen]
    assert "script" not in tags and "img" not in tags and "link" not in tags
    assert "default-src 'none'" in page and "Content warning" in page
    before, inside = page.split("<details>", 1)
    assert found.cases[0].case.turns[0] not in before and found.cases[0].case.turns[0] in inside
    assert "Secret." not in page, "a deployed prompt stays at home"
    assert tags.count("details") == len(found.worst) == 1


def test_markdown_has_the_numbers_and_no_text_of_cases():
    text = to_markdown(results(name=EVIL), CHECKS)
    rows = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line.startswith("| ")}
    assert "<script>" not in text and "\x1b" not in text
    assert "1 of 2 | 50.0 (9.5 to 90.5) | 1 | 1 |" in rows["Keys, doors#rule-1"]
    assert rows["refuse"].count("|") == rows["expected"].count("|")
    for part in ("Rules without a case: Keys, doors#rule-9.", "1 truncated", "0 better, 1 worse", "**no** (81.8)"):
        assert part in text, part
    assert "open it" not in text and "Secret." not in text


def test_json_has_every_number_and_answer(tmp_path):
    write_reports(results(), CHECKS, json=tmp_path / "r.json", html=tmp_path / "r.html", junit=tmp_path / "r.xml")
    data = json.loads((tmp_path / "r.json").read_text())
    assert data["rules"][REF]["passed"] == 1 and data["rules"][REF]["not_judged"] == 1
    assert data["kinds"]["refuse"] == {"comply": 1, "not judged": 1, "refuse": 4}
    assert len(data["cases"]) == 12 and data["cases"][0]["broken"] == [REF]
    assert data["checks"][0]["passed"] is False and data["change"]["broken"] == [data["cases"][0]["id"]]
    assert "open it" not in json.dumps(data)
    assert (tmp_path / "r.html").is_file() and (tmp_path / "r.xml").is_file() and isinstance(suite_of(TAXONOMY), Suite)
