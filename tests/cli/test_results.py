import json

import pytest
from typer.testing import CliRunner

from measured import write_results
from star_hf import cli
from star_hf.errors import ConfigError


BASE = {"strongreject": [0] * 200 + [1] * 113, "xstest": [1] * 250, "math500": [1] * 430 + [0] * 70}
TUNED = BASE | {"strongreject": [1] * 310 + [0] * 3}


def run(*words):
    return CliRunner().invoke(cli.app, [str(word) for word in words], env={"COLUMNS": "160"})


@pytest.fixture
def folders(tmp_path):
    return (
        write_results(tmp_path / "base", BASE, "base", judge="llama-guard-3", profile="paper"),
        write_results(tmp_path / "tuned", TUNED, "star1-r1-distill-7b", judge="llama-guard-3", profile="paper"),
    )


def test_ledger_shows_both_numbers_and_a_verdict(folders, tmp_path):
    result = run("ledger", folders[1], "--json", tmp_path / "out" / "l.json", "--markdown", tmp_path / "l.md")
    assert result.exit_code == 0, result.output
    for words in ("beside 7b-star-1", "99.0 (97.2 to 99.7)", "agrees", "not in the paper"):
        assert words in result.output
    (data,) = json.loads((tmp_path / "out" / "l.json").read_text())
    assert data["row"]["name"] == "7b-star-1" and data["lines"][0]["verdict"] == "agrees"
    assert (tmp_path / "l.md").read_text().startswith("**star1-r1-distill-7b** beside `7b-star-1`")


def test_the_margin_of_what_agrees_is_an_option(folders):
    assert "agrees" in run("ledger", folders[1]).output
    output = run("ledger", folders[1], "--margin", "0.001").output
    assert "agrees" not in output and "too few items to tell" in output


def test_ledger_lists_its_rows():
    result = run("ledger")
    assert "7b-star-1" in result.output and "table3-qwen-7b-inst-star-1-without-think" in result.output


def test_ledger_of_an_unknown_model_says_how_to_name_a_row(folders):
    result = run("ledger", folders[0])
    assert isinstance(result.exception, ConfigError) and "--row" in str(result.exception)
    assert run("ledger", folders[0], "--row", "7b-r1-distill").exit_code == 0


def test_compare_ships_and_draws(folders, tmp_path):
    pytest.importorskip("matplotlib")
    result = run("compare", *folders, "--picture", tmp_path / "t.png", "--json", tmp_path / "c.json")
    assert result.exit_code == 0, result.output
    assert "SHIP" in result.output and "safety gain: +62.9" in result.output
    assert (tmp_path / "t.png").exists() and json.loads((tmp_path / "c.json").read_text())["decision"] == "ship"


def test_compare_catches_a_model_that_got_less_safe(folders):
    result = run("compare", folders[1], folders[0])
    assert result.exit_code == 1 and "DO NOT SHIP" in result.output


def test_compare_is_undecided_without_reasoning(tmp_path):
    folders = [write_results(tmp_path / name, {"strongreject": TUNED["strongreject"]}) for name in ("a", "b")]
    result = run("compare", *folders)
    assert result.exit_code == 3 and "UNDECIDED" in result.output


def test_criteria_are_options(folders):
    assert run("compare", *folders, "--min-safety-gain", "0.7").exit_code == 1
    assert run("compare", *folders, "--min-safe-rate", "0.995").exit_code == 1
