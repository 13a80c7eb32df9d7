import hashlib
import time

import pytest
from typer.testing import CliRunner

from star_hf import cli
from star_hf.errors import StarError
from star_hf.llm import Completion, Journal
from star_hf.llm.journal import Entry


DAY_S = 86_400


def star_hf(*arguments):
    """Run the command as the shell would; returns what it printed, on one line."""
    result = CliRunner().invoke(cli.app, ["journal", *map(str, arguments)], env={"COLUMNS": "200"})
    if result.exception:
        raise result.exception
    return " ".join(result.output.split())


@pytest.fixture
def run(tmp_path):
    """A run's directory with 12 answers: 8 of score, today, and 4 of reason, truncated, ten days ago."""
    with Journal(tmp_path / "run" / "journal.sqlite") as journal:
        for index in range(12):
            old = index >= 8
            completion = Completion(
                "the model's [bold]words[/bold]", outcome="truncated" if old else "ok", prompt_tokens=1_000, model="m"
            )
            key = hashlib.sha256(str(index).encode()).hexdigest()
            at = time.time() - 10 * DAY_S * old
            stage = "reason" if old else "score"
            journal.put(Entry(key, stage, "http://x/v1", "abcd", completion, None if old else 0.5, at))
    return tmp_path / "run"


@pytest.mark.parametrize("place", ["", "journal.sqlite"])
def test_stats_takes_a_run_or_a_file(run, place):
    output = star_hf("stats", run / place)
    assert "score m 8 8,000 4.00 0.0 ok 8 20" in output and "reason m 4 4,000 - 0.0 truncated 4 20" in output
    assert "all 12 12,000 4.00" in output
    assert "4 answers without a price" in output and "12 answers, 0.0 MB" in output
    assert "words" not in output, "what a model said is not printed unasked"


def test_stats_tells_prompt_versions_apart(run):
    assert "abcd" in star_hf("stats", run, "--versions") and "abcd" not in star_hf("stats", run)


def test_answers_travel_to_another_run(run, tmp_path):
    assert "12 answers written" in star_hf("export", run, tmp_path / "answers.parquet")
    output = star_hf("import", tmp_path / "new-run", tmp_path / "answers.parquet", run)
    assert "answers.parquet: 12 new, 0 there already" in output
    assert "journal.sqlite: 0 new, 12 there already" in output
    assert "new-run/journal.sqlite holds 12 answers" in output
    assert star_hf("stats", tmp_path / "new-run").split("stage")[1] == star_hf("stats", run).split("stage")[1]


def test_an_answer_that_differs_is_counted(run, tmp_path):
    with Journal(tmp_path / "other.sqlite") as other:
        key = hashlib.sha256(b"0").hexdigest()
        other.put(Entry(key, "score", "http://x/v1", "abcd", Completion("other words"), None))
    output = star_hf("import", run, tmp_path / "other.sqlite")
    assert "0 new, 0 there already, 1 answered differently here (kept as here)" in output


def test_prune_shows_first_and_then_removes(run):
    conditions = ("--outcome", "truncated", "--older-than", "5")
    dry = star_hf("prune", run, *conditions, "--dry-run")
    assert "reason m 4" in dry and "score m" not in dry
    assert "4 of 12 answers to remove. Nothing was removed." in dry
    assert "4 answers removed, 8 left" in star_hf("prune", run, *conditions)
    assert "0 answers removed, 8 left" in star_hf("prune", run, *conditions)


def test_prune_leaves_what_is_not_old_enough(run):
    assert "0 answers removed, 12 left" in star_hf("prune", run, "--older-than", "11")


@pytest.mark.parametrize("command", [("stats",), ("export", "answers.parquet"), ("prune", "--stage", "score")])
def test_a_run_that_is_not_there_is_not_made(tmp_path, command):
    with pytest.raises(StarError, match="There is no file .*nowhere/journal.sqlite"):
        star_hf(command[0], tmp_path / "nowhere", *command[1:])
    assert not (tmp_path / "nowhere").exists()


def test_a_source_that_is_not_there_makes_no_journal(tmp_path):
    with pytest.raises(StarError, match="There is no file .*colleague.parquet"):
        star_hf("import", tmp_path / "run", tmp_path / "colleague.parquet")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["stats", "export", "import", "prune"])
def test_help_teaches(command):
    output = star_hf(command, "--help")
    assert "Usage" in output and "Example" in output
