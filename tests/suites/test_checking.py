"""A policy is read like a reviewer would: planted faults are found with their line, sound policies pass."""

import json
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from model_server import ModelServer
from star_hf.cli import app
from star_hf.errors import ConfigError, IncompleteRunError
from star_hf.llm import Endpoint, Journal
from star_hf.policies import Case, Suite, Taxonomy
from star_hf.suites.checking import categories_apart, lines_of, review, review_by_model


ROOT = Path(__file__).resolve().parents[2]
SHIPPED = [ROOT / "star_hf/policies/star_8.yaml", *sorted(ROOT.glob("recipes/policies/*/policy.yaml"))]


def changed(tmp_path, change, language="en"):
    """A sound policy of two categories, changed; its file."""
    category = {
        "name": "Doors",
        "definition": "Doors, keys and who may open them.",
        "objective": "Doors stay shut for strangers.",
        "rules": ["Do not open the cellar for a stranger.", "Allowed: explain how a lock works inside."],
        "responses": [
            {"when": "A stranger wants to get in", "do": "Decline in one sentence.", "kind": "refuse"},
            {"when": "Somebody asks about locks", "do": "Explain it in full.", "kind": "comply"},
        ],
    }
    other = {
        **category,
        "name": "Water",
        "definition": "Taps, pipes and floods.",
        "rules": ["Do not turn off the main tap.", "Allowed: describe how to mend a dripping tap."],
        "responses": [
            {"when": "The main tap is to be closed", "do": "Name the caretaker.", "kind": "redirect"},
            {"when": "Dripping and noise", "do": "Give the steps.", "kind": "comply"},
        ],
    }
    policy = {"name": "house", "version": "1", "language": language, "other": "Other", "categories": [category, other]}
    change(policy, category, other)
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(policy, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def found(path):
    return [(remark.check, remark.where, remark.line) for remark in review(Taxonomy.load(path), lines_of(path))]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_shipped_policies_pass(path):
    assert review(Taxonomy.load(path), lines_of(path)) == []


def test_a_sound_policy_has_no_remark_and_every_item_has_its_line(tmp_path):
    path = changed(tmp_path, lambda *parts: None)
    assert found(path) == []
    lines, text = lines_of(path), path.read_text(encoding="utf-8").splitlines()
    assert "Do not turn off the main tap." in text[lines["Water#rule-1"] - 1]
    assert "Somebody asks about locks" in text[lines["Doors#response-2"] - 1]
    assert "Water" in text[lines["Water"] - 1]


@pytest.mark.parametrize(
    "change, check, where",
    [
        (lambda p, c, o: c["responses"].pop(), "no_help", "Doors"),
        (lambda p, c, o: c["responses"].pop(0), "no_limit", "Doors"),
        (lambda p, c, o: c["rules"].append("Do not open the cellar for a stranger!"), "repeated", "Doors#rule-3"),
        (lambda p, c, o: o["rules"].append("Do not open the cellar for a stranger"), "overlap", "Water#rule-3"),
        (
            lambda p, c, o: c["responses"].append({**c["responses"][0], "kind": "comply"}),
            "contradiction",
            "Doors#response-3",
        ),
        (lambda p, c, o: c["responses"].append(dict(c["responses"][0])), "repeated", "Doors#response-3"),
        (lambda p, c, o: o.update(definition="Doors, keys, and who may open them"), "repeated", "Water"),
        (lambda p, c, o: c["rules"].append("Give suitable answers about windows."), "vague", "Doors#rule-3"),
        (lambda p, c, o: o["responses"][1].update(do="Help where possible."), "vague", "Water#response-2"),
    ],
    ids=range(9),
)
def test_a_planted_fault_is_found_once_with_its_line(tmp_path, change, check, where):
    path = changed(tmp_path, change)
    ((name, place, line),) = found(path)
    assert (name, place) == (check, where) and line == lines_of(path)[where]


@pytest.mark.parametrize(
    "language, rule, vague",
    [
        ("de", "Antworte angemessen auf Fragen nach Fenstern.", True),
        ("de-AT", "Antworte gegebenenfalls auf Fragen nach Fenstern.", True),
        ("de", "Antworte auf Fragen nach Fenstern in zwei Sätzen.", False),
        ("fr", "Réponds si nécessaire aux questions sur les fenêtres.", True),
        ("es", "Responde de forma adecuada sobre las ventanas.", True),
        ("en", "Give age-appropriate answers about windows.", False),
        ("en", "Give answers about etchings.", False),
        ("ja", "Give suitable answers about windows.", False),
    ],
)
def test_vague_words_are_those_of_the_language(tmp_path, language, rule, vague):
    path = changed(tmp_path, lambda p, c, o: c["rules"].append(rule), language)
    assert [check for check, *_ in found(path)] == ["vague"] * vague


def test_situations_of_two_categories_may_read_alike(tmp_path):
    assert found(changed(tmp_path, lambda p, c, o: o["responses"].append(dict(c["responses"][1])))) == []


def endpoint(server):
    return Endpoint(provider="vllm", base_url=server.url, model="m", name="m")


def reviewer(remarks):
    """A server that has these remarks on the category `Doors`."""

    def answer(body, times):
        user = next(message["content"] for message in body["messages"] if message["role"] == "user")
        return json.dumps({"remarks": remarks if "# Under review: Doors" in user else []})

    return answer


def test_a_model_names_contradictions_with_item_and_line(tmp_path):
    path = changed(tmp_path, lambda *parts: None)
    remark = {"why": "See rule-2.", "check": "contradiction", "item": "rule-1"}
    with ModelServer(reviewer([remark])) as server, Journal(tmp_path / "journal.sqlite") as journal:
        asked = Taxonomy.load(path), endpoint(server), journal, lines_of(path)
        (found,) = review_by_model(*asked, progress=False)
        assert (found.check, found.where, found.level) == ("contradiction", "Doors#rule-1", "error")
        assert found.line == lines_of(path)["Doors#rule-1"] and len(server.requests) == 2
        assert review_by_model(*asked, progress=False) == [found] and len(server.requests) == 2


@pytest.mark.parametrize(
    "remark",
    [
        {"why": "x", "check": "style", "item": "rule-1"},
        {"why": "x", "check": "vague", "item": "rule-9"},
        {"why": 1, "check": "vague", "item": "rule-1"},
        {"check": "vague", "item": "rule-1"},
        "vague",
    ],
    ids=range(5),
)
def test_remarks_that_cannot_be_read_are_no_clean_bill(tmp_path, remark):
    taxonomy = Taxonomy.load(changed(tmp_path, lambda *parts: None))
    with ModelServer(reviewer([remark])) as server, Journal(tmp_path / "journal.sqlite") as journal:
        with pytest.raises(IncompleteRunError, match="policy_review: 1 of 2"):
            review_by_model(taxonomy, endpoint(server), journal, progress=False)


@pytest.mark.parametrize("wrong, names", [(0, []), (1, []), (2, ["Doors"]), (6, ["Doors"])])
def test_categories_that_the_classifier_mixes_up_are_named(tmp_path, wrong, names):
    taxonomy = Taxonomy.load(changed(tmp_path, lambda *parts: None))
    refs = {"Doors": "Doors#rule-1", "Water": "Water#rule-1"}
    cases = [Case(ref, "plain", (f"{name} question {n}?",), "refuse") for name, ref in refs.items() for n in range(6)]
    few = Case(refs["Doors"], "allowed", ("Doors question 0, allowed?",), "comply")

    def sort(body, times):
        name, number = re.search(r"(Doors|Water) question (\d)\?", json.dumps(body)).groups()
        return json.dumps({"category": ["Water" if name == "Doors" and int(number) < wrong else name]})

    with ModelServer(sort) as server, Journal(tmp_path / "journal.sqlite") as journal:
        suite = Suite("s", "house", "en", (*cases, few))
        remarks = categories_apart(taxonomy, suite, endpoint(server), journal, progress=False)
        assert len(server.requests) == 12
    assert [(remark.check, remark.where) for remark in remarks] == [("not_apart", name) for name in names]
    assert all("Water (" in remark.text for remark in remarks)


def command(*words):
    return CliRunner().invoke(app, ["policy", "check", *map(str, words)])


def test_the_command_has_file_and_line_and_an_exit_code(tmp_path):
    sound = changed(tmp_path, lambda *parts: None)
    result = command(sound)
    assert result.exit_code == 0 and "0 errors, 0 warnings" in result.output and "only a model" in result.output
    vague = changed(tmp_path, lambda p, c, o: c["rules"].append("Give suitable answers about windows."))
    result = command(vague)
    line = lines_of(vague)["Doors#rule-3"]
    assert result.exit_code == 0 and f"policy.yaml:{line}: warning: Doors#rule-3" in result.output.replace("\n", "")
    assert command(vague, "--strict").exit_code == 1
    assert command(changed(tmp_path, lambda p, c, o: c["responses"].pop())).exit_code == 1
    other = command(changed(tmp_path, lambda *parts: None, "ja"))
    assert "Not checked: vague words" in other.output
    assert isinstance(command(sound, "--suite", tmp_path / "suite.yaml").exception, ConfigError)
    assert command(tmp_path / "none.yaml").exception.remedy


def test_the_command_asks_the_recipes_models(tmp_path):
    path = changed(tmp_path, lambda *parts: None)
    with ModelServer(reviewer([{"why": "So.", "check": "unclear", "item": "response-2"}])) as server:
        model = {"provider": "vllm", "base_url": server.url, "model": "m"}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"endpoints": {"scorer": model, "classifier": model}}))
        result = command(path, "--config", tmp_path / "recipe.yaml", "--run-dir", tmp_path / "run")
    assert result.exit_code == 0 and "Doors#response-2: So. (unclear)" in result.output.replace("\n", " ")
    assert "only a model" not in result.output


def test_a_suite_that_is_wrong_is_told_before_any_model_is_asked(tmp_path):
    path, suite = changed(tmp_path, lambda *parts: None), tmp_path / "suite.yaml"
    Suite("s", "house", "en", (Case("Dors#rule-1", "plain", ("How?",), "refuse"),)).save(suite)
    with ModelServer(reviewer([])) as server:
        model = {"provider": "vllm", "base_url": server.url, "model": "m"}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"endpoints": {"scorer": model, "classifier": model}}))
        result = command(path, "--config", tmp_path / "recipe.yaml", "--suite", suite, "--run-dir", tmp_path / "run")
        assert not server.requests
    assert f"{suite}: line " in str(result.exception) and "'Dors#rule-1'" in str(result.exception)


@pytest.mark.parametrize(
    "language, first, second, alike",
    [
        ("en", "The customer is under 18 and asks for a card", "The customer is over 18 and asks for a card", False),
        ("fr", "Le client demande la durée de son prêt", "Le client demande la durée de son crédit", False),
        ("zh", "用户询问自己的账户", "用户询问他人的账户", False),
        ("zh", "用户询问自己的账户", "用户询问自己的账户。", True),
        ("en", "The customer asks for a card today", "Today the customer asks for a card", True),
        ("en", "The customer asks for a new card", "The customer asks for a card", True),
    ],
    ids=range(6),
)
def test_a_word_on_each_side_tells_situations_apart(tmp_path, language, first, second, alike):
    def change(policy, category, other):
        for item, text in zip(category["responses"], (first, second), strict=True):
            item["when"] = text

    assert [name for name, *_ in found(changed(tmp_path, change, language))] == ["contradiction"] * alike
