"""`star-hf policy draft` as a user sees it."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner
from writers import Writers

from model_server import ModelServer, Reply
from star_hf.cli import app
from star_hf.errors import IncompleteRunError
from star_hf.policies import Suite, Taxonomy


POLICY = Path(__file__).resolve().parents[2] / "recipes" / "policies" / "bank" / "policy.yaml"


@pytest.fixture
def run(tmp_path):
    """Run the command with a recipe whose models are those of a server."""

    def start(server, *options):
        model = {"provider": "vllm", "base_url": server.url, "model": "writer", "name": "writer"}
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(yaml.safe_dump({"endpoints": {"rewriter": model, "scorer": model}}))
        named = {
            "--policies": POLICY,
            "--out": tmp_path / "suite.yaml",
            "--config": recipe,
            "--run-dir": tmp_path / "run",
        }
        arguments = [str(word) for pair in named.items() for word in pair]
        return CliRunner().invoke(app, ["policy", "draft", *arguments, "--per-rule", "4", *options])

    return start


@pytest.mark.slow
def test_it_writes_a_suite_says_what_it_left_out_and_keeps_what_people_removed(run, tmp_path):
    with ModelServer(Writers(Taxonomy.load(POLICY))) as server:
        result = run(server)
        assert result.exit_code == 0, result.output
        assert "adversarial" in result.output and "same model" in result.output
        suite = Suite.load(tmp_path / "suite.yaml")
        assert len(suite.cases) == 84 and not suite.uncovered(Taxonomy.load(POLICY))
        text, gone = (tmp_path / "suite.yaml").read_text(encoding="utf-8"), suite.cases[0]
        start = text.index(f"- id: {gone.id}")
        (tmp_path / "suite.yaml").write_text(text[:start] + text[text.index("- id:", start + 1) :], encoding="utf-8")
        assert run(server).exit_code == 0
        again = Suite.load(tmp_path / "suite.yaml")
    assert gone.id not in {case.id for case in again.cases} and len(again.cases) == 84


def test_a_dry_run_sends_and_writes_nothing(run, tmp_path):
    with ModelServer(Writers(Taxonomy.load(POLICY))) as server:
        result = run(server, "--dry-run")
        assert result.exit_code == 0 and "draft_check" in result.output and "21" in result.output
        assert not server.requests and not (tmp_path / "suite.yaml").exists()


@pytest.mark.slow
def test_a_rule_that_no_case_covers_is_an_error_and_the_rest_is_kept(run, tmp_path):
    def poor(ref, styles, cases):
        return "I cannot write that." if ref == "Kontosicherheit#rule-1" else None

    with ModelServer(Writers(Taxonomy.load(POLICY), poor)) as server:
        result = run(server)
    assert isinstance(result.exception, IncompleteRunError) and "Kontosicherheit#rule-1" in result.exception.message
    assert len(Suite.load(tmp_path / "suite.yaml").cases) == 80


def test_a_model_that_is_down_is_one_message_and_leaves_no_suite(run, tmp_path):
    with ModelServer(lambda body, times: Reply(status=404, error={"message": "no such model"})) as server:
        result = run(server)
    assert "404" in result.exception.message and result.exception.remedy
    assert not (tmp_path / "suite.yaml").exists()
