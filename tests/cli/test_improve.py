"""`star-hf improve`: exit codes, the rounds on the terminal, the forecast, and the recipe that ships."""

from pathlib import Path

import pytest
import yaml
from improve_world import ImproveWorld, options
from typer.testing import CliRunner

from star_hf.cli import app
from star_hf.errors import ConfigError
from star_hf.improve.config import load
from star_hf.improve.measure import Subject


ONE = "Keys, doors#rule-1"
RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@pytest.fixture
def command(tmp_path):
    """Runs the command against a world."""

    def run(world, server, *arguments):
        config = options(tmp_path / "in", server.url, world)
        path = tmp_path / "in" / "improve.yaml"
        path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
        words = ["improve", "--config", str(path), "--run-dir", str(world.run), *arguments]
        return CliRunner().invoke(app, words, env={"COLUMNS": "200"})

    return run


def test_a_model_that_ships(command, tmp_path):
    world = ImproveWorld(tmp_path, {ONE: 2})
    with world.server() as server:
        dry = command(world, server, "--dry-run", "--rounds", "1")
        assert not server.requests
        done = command(world, server)
    assert dry.exit_code == 0 and "Forecast of at most 1 rounds" in dry.stdout and "unknown" in dry.stdout
    assert "Nothing was sent." in dry.stdout and "train (base)" in dry.stdout
    assert done.exit_code == 0, done.stdout
    assert f"Ship: {world.run / 'round-1' / 'model'}" in done.stdout
    assert f"round-1: new rows: {ONE} 16" in done.stdout and "100.0 (61.0 to 100.0)" in done.stdout
    assert (world.run / "report.html").is_file()


def test_a_model_that_does_not_ship_says_why(command, tmp_path):
    world = ImproveWorld(tmp_path, {ONE: 99})
    with world.server() as server:
        done = command(world, server, "--rounds", "1", "--rows", "4", "--spread", "even")
    assert done.exit_code == 1 and "No model ships. 1 of 1 rounds are done" in done.stdout


def test_options_replace_the_files(command, tmp_path):
    world = ImproveWorld(tmp_path, {})
    with world.server() as server:
        wrong = command(world, server, "--train", "x {data}")
        assert isinstance(wrong.exception, ConfigError) and "it needs `{config}`" in str(wrong.exception)
        wrong = command(world, server, "--spread", "wide")
        assert isinstance(wrong.exception, ConfigError) and "rows.spread" in str(wrong.exception)


def test_the_recipe_of_the_bank_can_be_used():
    config = load(RECIPES / "policies" / "bank" / "improve.yaml")
    assert config.policies == RECIPES / "policies" / "bank" / "policy.yaml"
    assert str(config.train.recipe) == "recipes/Qwen2.5-1.5B-Instruct/sft/config_star1.yaml", "one of ours"
    subject = Subject.of(config)
    assert subject.system_prompt and {case.half for case in subject.sealed.cases} == {"sealed"}
    assert config.endpoints.checker == config.endpoints.scorer and config.endpoints.drafter.model.startswith("gpt-4o")
