"""`star-hf policy draft` as a person uses it: a suite that is edited, removed and drafted again."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner
from writers import Writers

from model_server import ModelServer
from star_hf.cli import app
from star_hf.errors import StarError
from star_hf.policies import Suite, Taxonomy
from star_hf.suites import drafting
from star_hf.utils.files import read_table


POLICY = Path(__file__).resolve().parents[2] / "recipes" / "policies" / "learning_app" / "policy.yaml"


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Run the command once more; returns its result and how many requests it sent. Texts are compared by words."""
    find = drafting.find_alike
    words = {"embedding_threshold": None}
    for module in ("star_hf.suites.drafting.find_alike", "star_hf.suites.sealing.find_alike"):
        monkeypatch.setattr(module, lambda *rows, **options: find(*rows, **{**options, **words}))
    taxonomy = Taxonomy.load(POLICY)
    refused = []

    def check(text):  # the first question that is seen tests nothing
        refused.append(text) if not refused else None
        return (False, "comply") if text == refused[0] else None

    with ModelServer(Writers(taxonomy, check=check)) as server:
        model = {"provider": "vllm", "base_url": server.url, "model": "m"}
        recipe = {"endpoints": {"rewriter": model, "scorer": model}}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))

        def run():
            before = len(server.requests)
            words = {"--policies": POLICY, "--out": tmp_path / "suite.yaml", "--config": tmp_path / "recipe.yaml"}
            words |= {"--run-dir": tmp_path / "run"}
            options = (str(part) for pair in words.items() for part in pair)
            done = CliRunner().invoke(app, ["policy", "draft", *options])
            return done, len(server.requests) - before

        yield run


def test_a_suite_that_was_removed_is_made_again_for_nothing(command, tmp_path):
    suite, left_out = tmp_path / "suite.yaml", tmp_path / "run" / "left_out.parquet"
    done, sent = command()
    assert done.exit_code == 0 and sent, done.output
    content, removed = suite.read_bytes(), read_table(left_out).to_list()
    assert [row["reason"] for row in removed] == ["untested"]
    done, sent = command()
    assert (done.exit_code, sent) == (0, 0) and suite.read_bytes() == content
    assert read_table(left_out).to_list() == removed  # what an earlier draft left out stays listed
    suite.unlink()
    done, sent = command()
    assert (done.exit_code, sent) == (0, 0) and suite.read_bytes() == content
    assert read_table(left_out).to_list() == removed


def test_a_removed_case_stays_away(command, tmp_path):
    command()
    path = tmp_path / "suite.yaml"
    suite = Suite.load(path)
    gone = suite.cases[0]
    Suite(suite.name, suite.policy, suite.language, suite.cases[1:], suite.rules).save(path)
    command()
    assert gone.id not in {case.id for case in Suite.load(path).cases}


@pytest.mark.parametrize("content", ["{", "[]", '{"ids": 3}', '{"ids": [[]]}'])
def test_a_damaged_list_of_what_was_drafted_is_one_message(command, tmp_path, content):
    command()
    (tmp_path / "run" / "drafted.json").write_text(content)
    done, sent = command()
    assert isinstance(done.exception, StarError) and sent == 0
    assert "drafted.json" in str(done.exception) and "Remove it" in done.exception.remedy
