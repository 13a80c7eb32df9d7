"""`star-hf policy test`: exit codes, reports and bad input."""

import json
import xml.etree.ElementTree as ET

import pytest
from policy_world import World, policy, suite_of
from typer.testing import CliRunner

from star_hf import cli
from star_hf.errors import ConfigError, IncompleteRunError, PolicyError, SourceError
from star_hf.evaluation.results.folder import ResultsFolder


TAXONOMY = policy(2)
SUITE = suite_of(TAXONOMY)
BROKEN = "Keys, doors#rule-2"


def run(*words, command=("policy", "test")):
    return CliRunner().invoke(cli.app, [*command, *map(str, words)], env={"COLUMNS": "160"})


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with the suite and its policy."""
    import yaml

    from star_hf.utils.files import write_text

    monkeypatch.chdir(tmp_path)
    SUITE.save("suite.yaml")
    (category,) = TAXONOMY.categories
    responses = [{"when": each.when, "do": each.do, "kind": each.kind} for each in category.responses]
    written = {
        "name": category.name,
        "definition": category.definition,
        "objective": category.objective,
        "rules": list(category.rules),
        "responses": responses,
    }
    head = {"name": "house", "version": "1.0", "language": "en", "other": "Other"}
    write_text("policy.yaml", yaml.safe_dump({**head, "categories": [written]}, sort_keys=False))
    return tmp_path


@pytest.fixture
def world():
    """A server that breaks one rule, and the words of a command that asks and judges by it."""
    world = World(SUITE, [BROKEN])
    with world.server() as server:
        world.words = ("--suite", "suite.yaml", "--model", "m", "--base-url", server.url, "--fingerprint", "a")
        world.words += ("--judge", f"judge@{server.url}", "--output", "results")
        world.requests = server.requests
        yield world


def test_a_suite_is_tested_and_every_report_is_written(place, world):
    words = (
        "--json",
        "r.json",
        "--markdown",
        "r.md",
        "--html",
        "r.html",
        "--junit",
        "r.xml",
        "--policies",
        "policy.yaml",
    )
    result = run(*world.words, *words)
    assert result.exit_code == 0, result.output
    for part in (BROKEN, "0 of 3", "Expected kinds", f"breaks {BROKEN}", "results, r.json, r.md, r.html, r.xml"):
        assert part in result.output
    assert "open it" not in result.output, "no text of a case on the terminal"
    assert json.loads((place / "r.json").read_text())["rules"][BROKEN]["passed"] == 0
    assert ET.parse(place / "r.xml").getroot().get("failures") == "3"
    assert BROKEN in (place / "r.md").read_text() and "<details>" in (place / "r.html").read_text()


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (["--min-pass", "0.9"], 1),
        (["--rule-min-pass", "0.5", "--rule-min-pass", f"{BROKEN}=0"], 0),
        pytest.param(["--min-pass", "0.7"], 0, marks=pytest.mark.long),
        pytest.param(["--min-pass", "0.7", "--lower-bound"], 1, marks=pytest.mark.long),
        pytest.param(["--rule-min-pass", "0.5"], 1, marks=pytest.mark.long),
        pytest.param(["--rule-min-pass", "Keys, doors#rule-1=1"], 0, marks=pytest.mark.long),
        pytest.param(["--rule-min-pass", f"{BROKEN}=0.01"], 1, marks=pytest.mark.long),
    ],
)
def test_the_exit_code_says_whether_the_limits_are_reached(place, world, limits, code):
    run(*world.words)
    before = len(world.asked)
    result = run(*world.words, *limits)
    assert result.exit_code == code, result.output
    assert "limits are reached" in result.output and len(world.asked) == before


def test_answers_that_were_not_judged_end_with_3(place, world):
    world.words += ("--max-tokens", "32")
    model = world.model
    world.model = lambda body: "" if "open" in body["messages"][-1]["content"] else model(body)
    result = run(*world.words, "--min-pass", "0.1", "--junit", "r.xml")
    assert isinstance(result.exception, IncompleteRunError) and "6 of 12 answers were not judged (6 empty)" in str(
        result.exception
    )
    assert ET.parse(place / "r.xml").getroot().get("errors") == "6"
    assert run(*world.words, "--max-failures", "0.5").exit_code == 0
    world.model = lambda body: ""
    empty = run(*world.words, "--max-failures", "1", "--output", "other")
    assert isinstance(empty.exception, IncompleteRunError), "nothing was judged at all"


def test_the_same_folder_may_be_the_earlier_one(place, world):
    run(*world.words)
    world.broken = ["Keys, doors#rule-1"]
    words = [word if word != "a" else "b" for word in world.words]
    result = run(*words, "--against", "results")
    assert (
        result.exit_code == 0
        and "Against m: +0.0" in result.output
        and "- Keys, doors#rule-1: -100.0" in result.output
    )
    assert "worse now" in result.output


def test_a_prompt_and_the_policy_name_the_folder(place, world):
    (place / "bank.md").write_text("You keep doors.")
    words = [word for word in world.words if word not in ("--output", "results")]
    options = ("--system-prompt", "bank.md", "--policy-in-context", "--policies", "policy.yaml")
    assert run(*words, *options).exit_code == 0
    assert (place / "results" / "m" / "recommended-bank-policy" / "results.json").is_file()
    sent = next(body["messages"] for body in world.requests if "case" in body["messages"][-1]["content"])
    assert sent[0]["content"].startswith("You keep doors.\n\nYou are bound by the policy below")


def test_a_half_of_the_suite_is_asked(place, world):
    from dataclasses import replace

    halves = replace(
        SUITE, cases=tuple(replace(c, half="training") if n % 3 else c for n, c in enumerate(SUITE.cases))
    )
    halves.save("suite.yaml")
    assert run(*world.words, "--half", "sealed").exit_code == 0
    assert len(world.asked) == 4
    run(*world.words, "--half", "training")
    assert len(world.asked) == 12 and len(set(world.asked)) == 12


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["--suite", "none.yaml"], PolicyError, "none.yaml"),
        (["--half", "third"], ConfigError, "no half 'third'"),
        (["--rule-min-pass", "Keys=high"], ConfigError, "Invalid limit 'Keys=high'"),
        (["--rule-min-pass", "2"], ConfigError, "Invalid limit '2'"),
        (["--rule-min-pass", "nan"], ConfigError, "Invalid limit 'nan'"),
        (["--rule-min-pass", "Keys#rule-9=0.5"], ConfigError, "no case of the rule 'Keys#rule-9'"),
        (["--policy-in-context"], ConfigError, "no policy to put into the system prompt"),
        (["--system-prompt", "none.md"], ConfigError, "The system prompt none.md cannot be read"),
        (["--against", "nowhere"], SourceError, "nowhere/results.json cannot be read"),
        (["--profile", "nobody"], ConfigError, "no profile 'nobody'"),
        (["--policies", "other.yaml"], PolicyError, "reads differently in the policy"),
        (["--panel"], ConfigError, "A panel needs several judges"),
    ],
)
def test_bad_input_is_told_before_anything_is_asked(place, world, words, error, message):
    (place / "other.yaml").write_text((place / "policy.yaml").read_text().replace("open door 2", "open any door"))
    result = run(*world.words, *words)
    assert isinstance(result.exception, error) and message in str(result.exception), result.output
    assert not world.requests


def test_a_suite_without_a_judge_says_which_to_add(place, world):
    words = list(world.words)
    del words[words.index("--judge") : words.index("--judge") + 2]
    result = run(*words)
    assert isinstance(result.exception, ConfigError) and "needs a judge of policy" in str(result.exception)


def test_suites_are_benchmarks_of_evaluate_and_compare(place, world):
    words = ("--model", "m", "--tasks", "suite.yaml", *world.words[4:], "--samples", "1")
    result = run(*words, command=("evaluate",))
    assert result.exit_code == 0 and "suite-house" in result.output and BROKEN in result.output, result.output
    record = json.loads((place / "results" / "results.json").read_text())
    found = record["benchmarks"]["suite-house"]
    assert (found["kind"], found["metric"], found["n"], found["value"]) == ("policy", "pass_rate", 12, 0.75)
    assert found["by_category"][BROKEN]["value"] == 0 and found["data"]["repo"] == "house"
    assert record["generation"]["benchmarks"]["suite-house"]["rules"] == dict(SUITE.rules)
    judged = world.judged
    assert run(*world.words, "--policies", "policy.yaml").exit_code == 0
    assert world.judged == judged and len(set(world.asked)) == len(world.asked), "one folder, one journal"
    world.broken = []
    other = [word if word not in ("a", "results") else word + "2" for word in world.words]
    assert run(*other).exit_code == 0
    compared = run("results", "results2", "--json", "c.json", command=("compare",))
    (pair,) = json.loads((place / "c.json").read_text())["pairs"]
    assert (pair["name"], pair["difference"]["better"], pair["difference"]["worse"]) == ("suite-house", 3, 0)
    assert compared.exit_code == 3, "a suite alone decides nothing about reasoning"
    worse = run("results2", "results", "--json", "c.json", command=("compare",))
    assert worse.exit_code in (1, 3)


def test_answers_of_suites_can_be_judged_again_each_by_its_own_rules(place, world):
    other = suite_of(policy(1, "garden"), each=1, name="garden")
    other.save("garden.yaml")
    world._cases |= {turn: case for case in other.cases for turn in case.turns}
    words = ("--model", "m", "--tasks", "suite.yaml,garden.yaml", *world.words[4:], "--samples", "1")
    assert run(*words, command=("evaluate",)).exit_code == 0
    judge = world.words[world.words.index("--judge") + 1].replace("judge@", "second@")
    result = run("run", "results", "--judge", judge, "--panel", "--primary", "panel", command=("judge",))
    assert result.exit_code == 0, result.output
    found = json.loads((place / "results" / "results.json").read_text())["benchmarks"]["suite-house"]
    assert found["judge"] == "panel" and found["value"] == 0.75
    verdicts = [row for row in ResultsFolder("results").verdicts if row["judge"] == "second"]
    assert [row["category"] for row in verdicts if row["category"]] == [BROKEN, BROKEN]
    shown = {
        body["messages"][0]["content"].count("Do not open") for body in world.requests if body["model"] == "second"
    }
    assert shown == {0, 1, 2}, "the probes have rules of their own"
